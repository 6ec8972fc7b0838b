//! The agent's reports as the other commands read them: one file per pod below the run directory, written whole or not at
//! all. Reads, never writes.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use plan::fields::downward;

use crate::files::{Lock, read_bounded};
use crate::reconcile::report::{Report, Unused, unused_path};

/// A status of many containers and all of its events stays far below.
const LARGEST: u64 = 8 * 1024 * 1024;

/// The agent of one run directory.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    run: PathBuf,
}

impl Agent {
    pub(super) fn at(run_dir: &str) -> Self {
        Self { run: PathBuf::from(run_dir) }
    }

    /// Where its lock is.
    pub(super) fn lock(&self) -> PathBuf {
        self.run.join("agent.lock")
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// The lock cannot be looked at.
    pub(super) fn is_running(&self) -> anyhow::Result<bool> {
        Ok(Lock::holder(&self.lock())?.is_some())
    }

    /// Its pods, by namespace and name.
    ///
    /// # Errors
    /// The reports may not be read.
    pub(super) fn reports(&self) -> anyhow::Result<Vec<Report>> {
        let dir = self.run.join("pods");
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                anyhow::bail!("{} can be read by root only: run this command as root", dir.display())
            }
            Err(error) => return Err(error).with_context(|| format!("read {}", dir.display())),
        };
        let mut reports: Vec<Report> = entries.flatten().filter_map(|entry| read(&entry.path())).collect();
        reports.sort_by(|a, b| key(a).cmp(&key(b)));
        Ok(reports)
    }

    /// One pod's; None before the agent has seen it and after it is gone.
    pub(super) fn report(&self, uid: &str) -> Option<Report> {
        read(&self.run.join("pods").join(uid))
    }

    /// The pod of that name; of two, the one that does not stop.
    ///
    /// # Errors
    /// There is none: the message names near ones.
    pub(super) fn find(&self, namespace: &str, name: &str) -> anyhow::Result<Report> {
        let reports = self.reports()?;
        let mut found: Vec<&Report> = reports.iter().filter(|report| key(report) == (namespace, name)).collect();
        found.sort_by_key(|report| report.stopping);
        match found.first() {
            Some(report) => Ok((*report).clone()),
            None => Err(self.unknown(namespace, name, &reports)),
        }
    }

    fn unknown(&self, namespace: &str, name: &str, reports: &[Report]) -> anyhow::Error {
        if reports.is_empty() {
            return match self.is_running() {
                Ok(false) => anyhow::anyhow!("there is no pod {name}: {}", self.no_agent()),
                Ok(true) | Err(_) => anyhow::anyhow!("there is no pod {name}: this node has no pods"),
            };
        }
        if let Some(other) = reports.iter().map(key).find(|(ns, other)| *other == name && *ns != namespace) {
            return anyhow::anyhow!(
                "there is no pod {name} in the namespace {namespace}; there is one with -n {}",
                other.0
            );
        }
        let names: Vec<&str> = reports.iter().map(|report| key(report).1).collect();
        let near = near(name, &names);
        if near.is_empty() {
            anyhow::anyhow!(
                "there is no pod {name} in the namespace {namespace}; 'systemk ps' lists those that there are"
            )
        } else {
            anyhow::anyhow!("there is no pod {name} in the namespace {namespace}; did you mean {}?", near.join(" or "))
        }
    }

    /// Manifests that it does not use.
    pub(super) fn unused(&self) -> Unused {
        let bytes = read_bounded(&unused_path(&self.run.display().to_string()), LARGEST).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// For messages.
    pub(super) fn no_agent(&self) -> String {
        let run = self.run.display().to_string();
        // Somebody who names a directory may have named the wrong one.
        let place = if run == "/run/systemk" { "here".to_owned() } else { format!("with --run-dir {run}") };
        format!("no agent runs {place}: start one with 'systemk install'")
    }
}

fn read(dir: &Path) -> Option<Report> {
    // A pod that has just come has none yet, one that has just gone none any more.
    serde_json::from_slice(&read_bounded(&dir.join("status.json"), LARGEST).ok()?).ok()
}

/// Namespace and name.
pub(super) fn key(report: &Report) -> (&str, &str) {
    (downward::namespace(&report.pod), report.pod.metadata.name.as_deref().unwrap_or_default())
}

/// At most three names that begin alike, hold the other, or differ in few letters.
fn near<'a>(name: &str, names: &[&'a str]) -> Vec<&'a str> {
    let mut near: Vec<(usize, &str)> = names
        .iter()
        .filter_map(|candidate| {
            let distance = crate::config::distance(name, candidate);
            let alike = distance <= 2.max(name.len() / 3) || candidate.contains(name) || name.contains(candidate);
            alike.then_some((distance, *candidate))
        })
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names() {
        let names = ["web", "web-2", "database", "cache"];
        assert_eq!(near("wbe", &names), ["web"]);
        assert_eq!(near("web-", &names), ["web", "web-2"]);
        assert_eq!(near("databas", &names), ["database"]);
        assert!(near("queue-runner", &names).is_empty());
    }

    #[test]
    fn an_unknown_pod_is_told_with_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let agent = Agent::at(dir.path().to_str().unwrap());
        let text = agent.find("default", "web").unwrap_err().to_string();
        assert!(text.contains("no agent runs with --run-dir /"), "{text}");
        let _lock = Lock::acquire(&agent.lock()).unwrap();
        assert!(agent.is_running().unwrap());
        assert!(agent.find("default", "web").unwrap_err().to_string().contains("has no pods"));
    }

    #[test]
    fn manifests_that_are_not_used_are_told_with_the_first_error() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().to_str().unwrap();
        assert!(Agent::at(run).unused().is_empty());
        let errors = [("/m/broken.yaml".into(), vec!["line 3: no".to_owned(), "more".to_owned()])];
        crate::reconcile::report::note_unused(run, &errors).unwrap();
        assert_eq!(Agent::at(run).unused(), [("/m/broken.yaml".to_owned(), "line 3: no".to_owned())]);
        crate::reconcile::report::note_unused(run, &[]).unwrap();
        assert!(Agent::at(run).unused().is_empty());
    }
}
