//! What reports say that was not said before: events, ends of containers, what is waited for. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus};

use crate::cli::output::Style;
use crate::cli::reports::key;
use crate::reconcile::report::Report;

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Said {
    events: BTreeMap<(String, String, String), u32>,
    ends: BTreeSet<(String, String)>,
}

impl Said {
    /// Lines for events that are new.
    pub(super) fn events(&mut self, report: &Report, style: Style) -> Vec<String> {
        let (_, pod) = key(report);
        let mut lines = Vec::new();
        for event in &report.events {
            let told = (pod.to_owned(), event.reason.clone(), event.message.clone());
            if self.events.insert(told, event.count) == Some(event.count) {
                continue;
            }
            let text = plan::journal::sanitize_for_terminal(event.message.as_bytes());
            lines.push(match event.kind.as_str() {
                "Warning" => format!("{} {} {text}", style.quiet(&format!("{pod}:")), style.warning("warning:")),
                _ => style.quiet(&format!("{pod}: {text}")),
            });
        }
        lines
    }

    /// Lines for ends of this container (None: of any) that are new.
    pub(super) fn ends(&mut self, report: &Report, container: Option<&str>, style: Style) -> Vec<String> {
        let (_, pod) = key(report);
        let mut lines = Vec::new();
        for status in statuses(report).filter(|status| container.is_none_or(|name| name == status.name)) {
            let states = [&status.last_state, &status.state];
            for end in states.into_iter().flatten().filter_map(|state| state.terminated.as_ref()).filter(|end| ran(end))
            {
                let id = end.container_id.clone().unwrap_or_else(|| format!("{:?}", end.finished_at));
                if self.ends.insert((status.name.clone(), id)) {
                    let text = ended(&status.name, end);
                    lines.push(match end.exit_code {
                        0 => style.quiet(&format!("{pod}: {text}")),
                        _ => format!("{} {}", style.quiet(&format!("{pod}:")), style.error(&text)),
                    });
                }
            }
        }
        lines
    }
}

/// A deleted pod's container that was never started has an end as well, as the kubelet gives it one.
fn ran(end: &ContainerStateTerminated) -> bool {
    end.container_id.is_some() || end.reason.as_deref() != Some("ContainerStatusUnknown")
}

fn ended(container: &str, end: &ContainerStateTerminated) -> String {
    let mut text = format!("container {container} ended with exit code {}", end.exit_code);
    if let Some(signal) = end.signal.filter(|signal| *signal != 0) {
        text = format!("container {container} was ended by signal {signal} (exit code {})", end.exit_code);
    }
    match end.reason.as_deref() {
        None | Some("" | "Completed" | "Error") => {}
        Some(reason) => text.push_str(&format!(": {reason}")),
    }
    if let Some(message) = end.message.as_deref().filter(|message| !message.is_empty()) {
        text.push_str(&format!(": {}", plan::journal::sanitize_for_terminal(message.as_bytes()).trim_end()));
    }
    text
}

/// Init containers first.
pub(super) fn statuses(report: &Report) -> impl Iterator<Item = &ContainerStatus> {
    let status = report.pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref()).into_iter().flatten();
    init.chain(status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten())
}

/// What the first container that waits waits for.
pub(super) fn waits(report: &Report) -> Option<String> {
    let (_, pod) = key(report);
    statuses(report)
        .find_map(|status| {
            let waiting = status.state.as_ref()?.waiting.as_ref()?;
            let reason = waiting.reason.as_deref().unwrap_or_default();
            let message = untold(report, waiting.message.as_deref().unwrap_or_default().trim());
            match (reason, message) {
                ("ContainerCreating" | "PodInitializing" | "", "") => None,
                // There is an event that says the same.
                ("ContainerCreating", message) if message.starts_with("Pulling image") => None,
                ("ContainerCreating", message) => Some(format!("{pod}: {}: {message}", status.name)),
                (reason, "") => Some(format!("{pod}: {}: {reason}", status.name)),
                (reason, message) => Some(format!("{pod}: {}: {reason}: {message}", status.name)),
            }
        })
        .map(|text| plan::journal::sanitize_for_terminal(text.as_bytes()).replace('\n', " "))
}

/// What no event has told: a package manager's last words are many lines, and a back-off repeats them.
fn untold<'a>(report: &Report, message: &'a str) -> &'a str {
    let told = |text: &str| report.events.iter().any(|event| event.message.contains(text));
    match message.split_once(": ") {
        _ if told(message) => "",
        Some((head, tail)) if told(tail) => head,
        _ => message,
    }
}

/// Whether the pod has come to its end.
pub(super) fn is_over(report: &Report) -> bool {
    let phase = report.pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// What the command ends with: the code of the container that failed first, 1 for a pod that was refused.
pub(super) fn exit_code(reports: &[Report]) -> u8 {
    let failed = reports.iter().flat_map(statuses).filter_map(|status| status.state.as_ref()?.terminated.as_ref());
    let first = failed
        .filter(|end| end.exit_code != 0 && ran(end))
        .min_by_key(|end| end.finished_at.as_ref().map(|time| time.0));
    let refused = |report: &Report| report.pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Failed");
    match first {
        Some(end) => u8::try_from(end.exit_code).ok().filter(|code| *code != 0).unwrap_or(1),
        None => u8::from(reports.iter().any(refused)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(phase: &str, states: &[Value]) -> Report {
        let containers: Vec<Value> = states
            .iter()
            .enumerate()
            .map(|(i, state)| {
                json!({"name": format!("c{i}"), "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
            })
            .collect();
        let report = json!({
            "pod": {
                "metadata": {"name": "p"},
                "status": {"phase": phase, "containerStatuses": containers},
            },
            "source": "", "stopping": false, "units": [], "invocations": [],
            "events": [
                {"type": "Normal", "reason": "Pulling", "message": "Pulling x", "count": 1, "lastMs": 0},
                {"type": "Warning", "reason": "Failed", "message": "no\u{1b}[2J x", "count": 1, "lastMs": 0},
            ],
        });
        serde_json::from_value(report).unwrap()
    }

    fn end(code: i32, at: &str) -> Value {
        json!({"terminated": {"exitCode": code, "reason": "Error", "finishedAt": at}})
    }

    #[test]
    fn events_and_ends_are_told_once() {
        let mut said = Said::default();
        let mut report = report("Failed", &[end(3, "2026-01-01T00:00:00Z"), json!({"running": {}})]);
        assert_eq!(said.events(&report, Style::PLAIN), ["p: Pulling x", "p: warning: no x"]);
        assert!(said.events(&report, Style::PLAIN).is_empty());
        report.events[0].count = 2;
        assert_eq!(said.events(&report, Style::PLAIN), ["p: Pulling x"]);
        assert_eq!(said.ends(&report, Some("c0"), Style::PLAIN), ["p: container c0 ended with exit code 3"]);
        assert!(said.ends(&report, None, Style::PLAIN).is_empty());
    }

    #[test]
    fn the_first_failure_is_the_exit_code() {
        let late = end(9, "2026-01-01T00:00:09Z");
        let early = end(4, "2026-01-01T00:00:01Z");
        let well = end(0, "2026-01-01T00:00:00Z");
        assert_eq!(exit_code(&[report("Failed", &[late, well.clone(), early])]), 4);
        assert_eq!(exit_code(&[report("Succeeded", &[well])]), 0);
        assert_eq!(exit_code(&[report("Failed", &[])]), 1);
        assert_eq!(exit_code(&[report("Failed", &[end(-1, "2026-01-01T00:00:00Z")])]), 1);
        let never = json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}});
        let refused = report("Failed", &[never]);
        assert_eq!(exit_code(std::slice::from_ref(&refused)), 1);
        assert!(Said::default().ends(&refused, None, Style::PLAIN).is_empty());
    }

    #[test]
    fn what_is_waited_for() {
        let waiting = |reason: &str, message: &str| {
            let state = json!({"waiting": {"reason": reason, "message": message}});
            waits(&report("Pending", &[json!({"running": {}}), state]))
        };
        assert_eq!(waiting("ContainerCreating", ""), None);
        assert_eq!(waiting("ContainerCreating", "Pulling image \"nginx\""), None);
        assert_eq!(waiting("ContainerCreating", "installing nginx").unwrap(), "p: c1: installing nginx");
        assert_eq!(waiting("CrashLoopBackOff", "back-off 10s").unwrap(), "p: c1: CrashLoopBackOff: back-off 10s");
        // The events of this report have said it.
        assert_eq!(waiting("ErrImagePull", "Pulling x").unwrap(), "p: c1: ErrImagePull");
        assert_eq!(waiting("ImagePullBackOff", "Back-off: Pulling x").unwrap(), "p: c1: ImagePullBackOff: Back-off");
    }
}
