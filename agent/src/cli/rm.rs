//! `systemk rm`: takes pods out of what `run` has left to the agent, and waits until they are gone. Pods of a configured
//! directory are not touched: the agent would be told two things.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::install::require_root;
use super::manifest_file::{PodName, without};
use super::output::{print, tell};
use super::reports::{Agent, key};
use crate::config::{PodArgument, read_for};
use crate::files::write_atomic;
use crate::reconcile::report::Report;

const LOOK: Duration = Duration::from_millis(50);

pub(super) fn main(arguments: &PodArgument) -> anyhow::Result<ExitCode> {
    let directories = &arguments.directories;
    // The same directories as the agent's, also where the config file names them.
    let configured = read_for(directories, &[]).map(|config| config.directories).ok();
    let (run, state) = match configured {
        Some(configured) => (configured.run, configured.state),
        None => (PathBuf::from(&directories.agent.run_dir), PathBuf::from(&directories.state_dir)),
    };
    let agent = Agent::at(&run.display().to_string());
    let own = [run.join("manifests"), state.join("manifests")];
    let mut chosen: Vec<Report> = Vec::new();
    let mut problems = Vec::new();
    for name in &arguments.pods {
        match agent.find(&arguments.namespace, name).and_then(|report| removable(report, &own)) {
            Ok(report) if chosen.iter().any(|other| key(other) == key(&report)) => {}
            Ok(report) => chosen.push(report),
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    // All or nothing: a list with an error in it is not what was meant.
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    require_root("rm")?;
    for report in &chosen {
        match take_out(report, &own) {
            // One that stops may be out of its manifest already; or it was edited, and would come again as it is now.
            Err(_) if report.stopping => {}
            taken => taken?,
        }
    }
    if !agent.is_running()? {
        tell("systemk: no agent runs here: the pods are stopped as soon as one does");
        return Ok(ExitCode::SUCCESS);
    }
    crate::app::runtime()?.block_on(gone(&agent, &chosen))
}

fn removable(report: Report, own: &[PathBuf]) -> anyhow::Result<Report> {
    let (namespace, name) = key(&report);
    let source = Path::new(&report.source);
    // A pod that stops because its file was edited comes again.
    let leaves = || report.stopping && without(source, &(namespace.to_owned(), name.to_owned())).is_err();
    if own.iter().any(|dir| source.parent() == Some(dir)) || leaves() {
        return Ok(report);
    }
    bail!("pod {name} is from {}: remove that file, or the pod from it, and the agent stops it", source.display())
}

fn take_out(report: &Report, own: &[PathBuf]) -> anyhow::Result<()> {
    let (namespace, name) = key(report);
    let name: PodName = (namespace.to_owned(), name.to_owned());
    let file = Path::new(&report.source);
    if !own.iter().any(|dir| file.parent() == Some(dir)) {
        return Ok(());
    }
    match without(file, &name)? {
        Some(rest) => Ok(write_atomic(file, rest.as_bytes(), 0o600)?),
        None => std::fs::remove_file(file).with_context(|| format!("remove {}", file.display())),
    }
}

/// The grace is the pod's own; after it the agent kills, so this ends.
async fn gone(agent: &Agent, chosen: &[Report]) -> anyhow::Result<ExitCode> {
    for report in chosen {
        let uid = report.pod.metadata.uid.as_deref().unwrap_or_default();
        while agent.report(uid).is_some() {
            if !agent.is_running()? {
                bail!("the agent has ended meanwhile: the pods are stopped as soon as one runs again");
            }
            tokio::time::sleep(LOOK).await;
        }
        print(&format!("pod {} is gone\n", key(report).1))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_run_left_is_taken() {
        let own = [PathBuf::from("/run/systemk/manifests"), PathBuf::from("/var/lib/systemk/manifests")];
        let from = |source: &str| {
            let report = json!({
                "pod": {"metadata": {"name": "web"}}, "source": source, "stopping": false,
                "units": [], "events": [], "invocations": [],
            });
            removable(serde_json::from_value(report).unwrap(), &own)
        };
        assert!(from("/run/systemk/manifests/default_web.json").is_ok());
        assert!(from("/run/systemk/manifests/deeper/x.json").is_err());
        let refused = from("/etc/systemk/manifests/web.yaml").unwrap_err().to_string();
        assert_eq!(
            refused,
            "pod web is from /etc/systemk/manifests/web.yaml: remove that file, or the pod from it, and the agent stops it"
        );
    }
}
