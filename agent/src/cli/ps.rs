//! `systemk ps`: the pods of this node, as `kubectl get pods` shows them.

use std::process::ExitCode;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use plan::journal::sanitize_for_terminal;
use serde_json::json;

use super::output::{Style, print, print_data, tell};
use super::pod_status::{Summary, summary};
use super::reports::{Agent, key};
use super::table::{age, table};
use crate::config::{DataFormat, OutputFormat, PsArguments};
use crate::reconcile::report::Report;

const HEADING: [&str; 10] =
    ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "IMAGES", "UNITS", "SOURCE"];
/// So many without `-o wide`.
const NARROW: usize = 6;

pub(super) fn main(arguments: &PsArguments) -> anyhow::Result<ExitCode> {
    let agent = Agent::at(&arguments.agent.run_dir);
    let code = list(&agent, arguments)?;
    if agent.is_running()? {
        for (file, why) in agent.unused() {
            let text = sanitize_for_terminal(format!("{file} is not used: {why}").as_bytes()).replace('\n', " ");
            tell(&format!("{} {text}", Style::of_stderr().warning("warning:")));
        }
    }
    Ok(code)
}

fn list(agent: &Agent, arguments: &PsArguments) -> anyhow::Result<ExitCode> {
    let mut reports = agent.reports()?;
    if let Some(namespace) = &arguments.namespace {
        reports.retain(|report| key(report).0 == namespace);
    }
    let format = match arguments.output {
        Some(OutputFormat::Json) => Some(DataFormat::Json),
        Some(OutputFormat::Yaml) => Some(DataFormat::Yaml),
        Some(OutputFormat::Wide) | None => None,
    };
    let running = agent.is_running()?;
    if !running && !reports.is_empty() {
        tell("systemk: no agent runs here: this is what the last one said, and nobody restarts these pods");
    }
    if let Some(format) = format {
        let items: Vec<Pod> = reports.into_iter().map(as_listed).collect();
        let list = json!({"apiVersion": "v1", "kind": "PodList", "metadata": ListMeta::default(), "items": items});
        return print_data(format, &list);
    }
    if reports.is_empty() {
        tell(&match (running, &arguments.namespace) {
            (false, _) => agent.no_agent(),
            (true, Some(namespace)) => format!("no pods in the namespace {namespace}"),
            (true, None) => "no pods: run one with 'systemk run FILE', or put it into a manifest directory".to_owned(),
        });
        return Ok(ExitCode::SUCCESS);
    }
    let columns = if arguments.output == Some(OutputFormat::Wide) { HEADING.len() } else { NARROW };
    let now_s = jiff::Timestamp::now().as_second();
    let rows: Vec<Vec<String>> =
        reports.iter().map(|report| row(report, now_s).into_iter().take(columns).collect()).collect();
    print(&table(HEADING.get(..columns).unwrap_or(&HEADING), &rows))
}

/// As an API server would give it: with the time at which it was made.
fn as_listed(report: Report) -> Pod {
    let mut pod = report.pod;
    if pod.metadata.creation_timestamp.is_none() {
        pod.metadata.creation_timestamp = pod.status.as_ref().and_then(|status| status.start_time.clone());
    }
    pod
}

fn row(report: &Report, now_s: i64) -> Vec<String> {
    let (namespace, name) = key(report);
    let Summary { ready, status, restarts } = summary(&report.pod, now_s);
    let pod_status = report.pod.status.as_ref();
    let started = pod_status.and_then(|status| status.start_time.as_ref());
    let images = report.pod.spec.iter().flat_map(|spec| &spec.containers).filter_map(|c| c.image.clone());
    let units = report.units.iter().map(|(_, unit)| unit.clone());
    let or_none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
    vec![
        namespace.to_owned(),
        name.to_owned(),
        ready,
        status,
        restarts,
        started.map_or_else(|| "<unknown>".to_owned(), |time| age(now_s - time.0.as_second())),
        or_none(pod_status.and_then(|status| status.pod_ip.clone()).unwrap_or_default()),
        or_none(images.collect::<Vec<_>>().join(",")),
        or_none(units.collect::<Vec<_>>().join(",")),
        or_none(report.source.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_row() {
        let report = json!({
            "pod": {
                "metadata": {"name": "web", "namespace": "shop"},
                "spec": {"containers": [{"name": "a", "image": "nginx"}, {"name": "b", "image": "/bin/sh"}]},
                "status": {"phase": "Pending", "podIP": "10.0.0.5", "startTime": "1970-01-01T00:01:00Z"},
            },
            "source": "/etc/systemk/manifests/web.yaml",
            "stopping": false,
            "units": [["a", "systemk.shop.web.a_1_0.service"]],
            "events": [],
            "invocations": [],
        });
        let report: Report = serde_json::from_value(report).unwrap();
        let expected = [
            "shop",
            "web",
            "0/2",
            "Pending",
            "0",
            "4m",
            "10.0.0.5",
            "nginx,/bin/sh",
            "systemk.shop.web.a_1_0.service",
            "/etc/systemk/manifests/web.yaml",
        ];
        assert_eq!(row(&report, 300), expected);
        assert_eq!(row(&report, 300).len(), HEADING.len());
    }
}
