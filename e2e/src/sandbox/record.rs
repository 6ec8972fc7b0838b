//! What is written down about an instance, so that any process can list, enter and remove it, and so that what a killed
//! test left is reaped by the next start.
//!
//! An instance is a directory `run/NAME` in the cache: `record.json`, `lock` (held by the process that owns it), `boot.log`
//! and the layers. It is stale when nobody holds the lock and it was not started to stay, or its process 1 is gone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{SandboxSpec, cgroup};
use crate::cache;
use crate::eventually::wait_until;
use crate::process::Process;

/// One instance, as written to its `record.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// What it was started with.
    pub spec: SandboxSpec,
    /// The root file system that it started from, and boots again from.
    pub lower: PathBuf,
    /// Its subtree of the machine's cgroup2.
    pub cgroup: PathBuf,
    /// Its process 1 as the machine sees it.
    pub init: Option<Process>,
    /// The `unshare` that waits for process 1.
    pub supervisor: Option<Process>,
    /// Whether it outlives the process that started it.
    pub stays: bool,
}

/// Where the instances are.
pub(super) fn directory() -> Result<PathBuf> {
    let directory = cache::directory()?.join("run");
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    Ok(directory)
}

/// Held while an instance's directory is made or removed, so that a start and a reap never meet.
pub(super) fn registry_lock() -> Result<File> {
    cache::lock(&directory()?.join(".lock"), "another process to start or remove a sandbox")
}

impl Record {
    /// The directory of the instance `name`.
    pub(super) fn home(name: &str) -> Result<PathBuf> {
        Ok(directory()?.join(name))
    }

    /// Writes it down, whole or not at all.
    pub(super) fn save(&self) -> Result<()> {
        let home = Self::home(&self.spec.name)?;
        let next = home.join("record.json.next");
        fs::write(&next, serde_json::to_vec_pretty(self).context("encode the record")?)
            .and_then(|()| fs::rename(&next, home.join("record.json")))
            .with_context(|| format!("write the record of sandbox {}", self.spec.name))
    }

    /// Reads the record of the instance `name`; nothing when there is none.
    pub(super) fn load(name: &str) -> Result<Option<Self>> {
        let path = Self::home(name)?.join("record.json");
        let Ok(text) = fs::read(&path) else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?))
    }

    /// Kills all processes of the instance and waits until they are gone.
    pub(super) fn kill_processes(&self) -> Result<()> {
        // Process 1 first: the kernel then kills its whole pid namespace, whichever cgroup a process moved to.
        // The supervisor as well: it takes along a process 1 that was never written down.
        self.init.into_iter().chain(self.supervisor).for_each(Process::kill);
        if self.cgroup.exists() {
            cgroup::kill(&self.cgroup)?;
        }
        let Some(supervisor) = self.supervisor else { return Ok(()) };
        wait_until("the sandbox's supervisor to end", Duration::from_secs(20), || (!supervisor.alive()).then_some(()))
    }

    /// Kills the instance and removes all that it had: cgroup, layers, record.
    pub(super) fn remove(&self) -> Result<()> {
        self.kill_processes()?;
        if self.cgroup.exists() {
            cgroup::remove(&self.cgroup)?;
        }
        cache::remove(&Self::home(&self.spec.name)?)
    }
}

/// Removes every stale instance. The caller holds the registry lock.
pub(super) fn reap_stale() -> Result<()> {
    for entry in fs::read_dir(directory()?).context("list the sandboxes")? {
        let home = entry.context("list the sandboxes")?.path();
        if !home.is_dir() || owned(&home) {
            continue;
        }
        let name = home.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match Record::load(&name) {
            Ok(Some(record)) if record.stays && record.init.is_some_and(Process::alive) => {}
            Ok(Some(record)) => record.remove().with_context(|| format!("remove the stale sandbox {name}"))?,
            // It died before its record was written: nothing was started yet.
            Ok(None) => cache::remove(&home)?,
            // The checkouts of one user share this directory: another version's instance is that version's to remove.
            Err(error) => crate::progress::line(&format!("leaving sandbox {name} alone: {error:#}")),
        }
    }
    Ok(())
}

/// All instances there are.
pub(super) fn list() -> Result<Vec<Record>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory()?).context("list the sandboxes")? {
        let name = entry.context("list the sandboxes")?.file_name().to_string_lossy().into_owned();
        found.extend(Record::load(&name).ok().flatten());
    }
    found.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    Ok(found)
}

/// Takes the ownership of an instance's directory, until the result is dropped.
pub(super) fn own(home: &Path) -> Result<File> {
    cache::lock(&home.join("lock"), "the process that owns this sandbox")
}

fn owned(home: &Path) -> bool {
    File::open(home.join("lock")).is_ok_and(|file| file.try_lock().is_err())
}
