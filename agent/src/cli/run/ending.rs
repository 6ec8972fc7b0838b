//! How `run` ends: whatever ends it, what it brought goes.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use tokio::signal::unix::Signal;

use super::Left;
use super::follow::Follow;
use crate::cli::output::tell;
use crate::cli::reports::Agent;
use crate::files::Lock;
use crate::reconcile::report::Report;

/// Why the pods stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopping {
    /// The pods have ended.
    Over,
    /// A signal of this number, or nobody who reads.
    Asked(u8),
    /// Asked twice.
    Forced(u8),
    /// They cannot be followed any longer.
    Failed,
}

impl Left {
    /// A manifest that is about to be written.
    pub(super) fn new(path: &Path, pods: Vec<super::PodName>) -> Self {
        Self { path: path.to_owned(), lock: None, since: jiff::Timestamp::now(), pods }
    }

    /// Shows other runs that somebody stays with it.
    pub(super) fn hold(&mut self) -> anyhow::Result<()> {
        self.lock = Some(Lock::share(&self.path)?);
        Ok(())
    }

    /// From here on the agent stops its pods.
    pub(super) fn remove(&mut self) -> anyhow::Result<()> {
        self.lock = None;
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", self.path.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// On every way out, a panic among them: what nobody stays with is not left for the agent to run.
impl Drop for Left {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tell(&format!("systemk: its pods go on: {error:#}"));
        }
    }
}

impl Follow<'_> {
    /// True if the person is tired of waiting.
    pub(super) fn stop(&mut self, number: u8) -> anyhow::Result<bool> {
        match self.stopping {
            Some(Stopping::Forced(_)) => {
                self.progress.line("not waiting any longer: the next agent, or 'systemk run', removes what is left");
                return Ok(true);
            }
            Some(Stopping::Asked(_) | Stopping::Failed) => {
                self.stopping = Some(Stopping::Forced(number));
                self.progress.line("killing what is left");
                let mut kill = Command::new("systemctl");
                kill.args(["kill", "--signal=SIGKILL"]).args(units(self.pods.values())).stderr(Stdio::null());
                kill.spawn().context("start systemctl")?;
            }
            Some(Stopping::Over) | None => {
                self.left.remove()?;
                self.stopping = Some(Stopping::Asked(number));
                self.progress.line("stopping (once more kills at once)");
            }
        }
        Ok(false)
    }

    /// A run that cannot show its pods ends as one whose output nobody reads: a pod in the foreground that nobody sees is
    /// not what was asked for.
    pub(super) fn fail(&mut self, error: &anyhow::Error) -> anyhow::Result<()> {
        if self.stopping.is_some() {
            // Of what goes anyway.
            tracing::debug!("{error:#}");
            return Ok(());
        }
        self.left.remove()?;
        self.stopping = Some(Stopping::Failed);
        let said = self.progress.style.error("error:");
        self.progress.line(&format!("{said} {error:#}: stopping the pods (Ctrl-C kills at once)"));
        Ok(())
    }
}

/// Stops the pods of a manifest whose agent, this very process, has ended before them.
pub(super) fn stop_without_agent(agent: &Agent, path: &Path) -> anyhow::Result<()> {
    let reports: Vec<Report> = agent.reports()?.into_iter().filter(|r| Path::new(&r.source) == path).collect();
    let units = units(&reports);
    if units.is_empty() {
        return Ok(());
    }
    tell("stopping the pods");
    let status = Command::new("systemctl").arg("stop").args(&units).status().context("start systemctl")?;
    anyhow::ensure!(status.success(), "systemctl stop {}: {status}", units.join(" "));
    Ok(())
}

fn units<'a>(reports: impl IntoIterator<Item = &'a Report>) -> Vec<&'a str> {
    reports.into_iter().flat_map(|report| &report.units).map(|(_, unit)| unit.as_str()).collect()
}

/// The number of a signal that asks for the end.
pub(super) async fn asked(interrupt: &mut Signal, terminate: &mut Signal, hangup: &mut Signal) -> u8 {
    tokio::select! {
        _ = hangup.recv() => 1,
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
    }
}
