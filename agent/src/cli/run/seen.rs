//! Whether the agent has taken up a manifest.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use tokio::time::Instant;

use super::follow::LOOK;
use crate::cli::manifest_file::{Checked, PodName, pod_name};
use crate::cli::reports::{Agent, key};
use crate::reconcile::report::Report;

/// An agent that lives has seen a manifest by then, also one that first waits for an installation.
const PATIENCE: Duration = Duration::from_secs(60);

/// Refused pods have nothing that runs; others of the same manifest may have.
const LETTING_GO: Duration = Duration::from_secs(10);

/// Waits until the agent has seen all pods; tells of those that it refuses.
pub(super) async fn until_seen(agent: &Agent, checked: &Checked) -> anyhow::Result<()> {
    let mut begun = Instant::now();
    let mut refused = Vec::new();
    for pod in &checked.manifest.pods {
        let name = pod_name(pod);
        let report = loop {
            let named: Vec<Report> = agent.reports()?.into_iter().filter(|report| is_named(report, &name)).collect();
            // What it was before has its own grace, however long that is.
            if named.iter().any(|report| report.stopping) {
                begun = Instant::now();
            }
            let found = named.into_iter().find(|report| is_of(report, pod));
            match found {
                Some(report) => break report,
                None if begun.elapsed() > PATIENCE => bail!("{}", unseen(agent)),
                None => tokio::time::sleep(LOOK).await,
            }
        };
        let status = report.pod.status.as_ref();
        if status.is_some_and(|status| status.reason.as_deref() == Some("Unsupported")) {
            let message = status.and_then(|status| status.message.clone()).unwrap_or_default();
            refused.push(format!("pod {} cannot run here: {message}", name.1));
        }
    }
    if refused.is_empty() { Ok(()) } else { bail!("{}", refused.join("\n")) }
}

/// Waits until the agent has let go of a manifest that was taken away again, so that the same command, given once more,
/// does not meet its own pods. An agent that takes longer over it is not waited for.
pub(super) async fn until_gone(agent: &Agent, path: &Path) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < LETTING_GO && agent.reports()?.iter().any(|report| Path::new(&report.source) == path) {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

pub(super) fn unseen(agent: &Agent) -> String {
    let lock = agent.lock();
    format!(
        "the agent that holds {} has not taken up the manifest yet: 'journalctl -u systemk' says why",
        lock.display()
    )
}

/// Whether this is the agent's word on the pod as it is in the manifest now, and not on what it was before an edit. The
/// node's name and with it the uid may be the service's own affair. A pod with a uid of its own stops under that very uid
/// when it is edited: that it stops says that the edit was seen.
fn is_of(report: &Report, pod: &Pod) -> bool {
    if report.stopping {
        return report.pod.metadata.uid == pod.metadata.uid;
    }
    let content = |pod: &Pod| {
        let spec = pod.spec.clone().map(|spec| PodSpec { node_name: None, ..spec });
        (spec, pod.metadata.labels.clone(), pod.metadata.annotations.clone())
    };
    content(&report.pod) == content(pod)
}

pub(super) fn is_named(report: &Report, name: &PodName) -> bool {
    key(report) == (name.0.as_str(), name.1.as_str())
}
