//! Whether the agent has taken up a manifest.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
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
    let begun = Instant::now();
    let mut refused = Vec::new();
    for name in checked.manifest.pods.iter().map(pod_name) {
        let report = loop {
            let found = agent.reports()?.into_iter().find(|report| is_named(report, &name) && !report.stopping);
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

pub(super) fn is_named(report: &Report, name: &PodName) -> bool {
    key(report) == (name.0.as_str(), name.1.as_str())
}
