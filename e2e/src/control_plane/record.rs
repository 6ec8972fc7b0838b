//! What is written down about a control plane, so that several nodes find the one that stays, any process can remove it, and
//! what a killed test left is reaped by the next start.
//!
//! One is a directory `control-planes/NAME` in the cache: `record.json`, `lock` (held by the process that owns it), `users/`
//! (one file for each node that needs it to stay), keys, logs and etcd's data. The directory is not `run`, that of the sandboxes:
//! checkouts which know sandboxes only would take it for a broken one.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::parts::Part;
use crate::cache;
use crate::eventually::wait_until;
use crate::process::Process;

/// One control plane, as written to its `record.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its name: one has it at a time.
    pub name: String,
    /// The directory of its programs.
    pub programs: PathBuf,
    /// The port of the API server on the loopback address.
    pub port: u16,
    /// The programs that it has, in the order in which they start.
    pub parts: Vec<Part>,
    /// Whether the API server writes an audit log.
    pub audit: bool,
    /// Whether it outlives the process that started it.
    pub stays: bool,
    /// Those of its programs that were started.
    pub processes: BTreeMap<Part, Process>,
}

/// Where the control planes are.
pub(super) fn directory() -> Result<PathBuf> {
    let directory = cache::directory()?.join("control-planes");
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    Ok(directory)
}

/// Held while a control plane's directory is made or removed and while its port is chosen.
pub(super) fn registry_lock() -> Result<File> {
    cache::lock(&directory()?.join(".lock"), "another process to start or remove a control plane")
}

impl Record {
    /// The directory of the control plane `name`.
    pub(super) fn home(name: &str) -> Result<PathBuf> {
        Ok(directory()?.join(name))
    }

    /// Makes its directory, nobody else's to read: admin's key is in it.
    pub(super) fn make_home(&self) -> Result<PathBuf> {
        let home = Self::home(&self.name)?;
        DirBuilder::new().mode(0o700).create(&home).with_context(|| format!("make {}", home.display()))?;
        Ok(home)
    }

    /// Writes it down, whole or not at all.
    pub(super) fn save(&self) -> Result<()> {
        let home = Self::home(&self.name)?;
        let next = home.join("record.json.next");
        fs::write(&next, serde_json::to_vec_pretty(self).context("encode the record")?)
            .and_then(|()| fs::rename(&next, home.join("record.json")))
            .with_context(|| format!("write the record of control plane {}", self.name))
    }

    /// Reads the record of the control plane `name`; nothing when there is none.
    pub(super) fn load(name: &str) -> Result<Option<Self>> {
        let path = Self::home(name)?.join("record.json");
        let Ok(text) = fs::read(&path) else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?))
    }

    /// Whether this program of it runs.
    pub(super) fn runs(&self, part: Part) -> bool {
        self.processes.get(&part).is_some_and(|process| process.alive())
    }

    /// Kills its programs and waits until they are gone.
    pub(super) fn kill_processes(&self) -> Result<()> {
        self.processes.values().for_each(|process| process.kill());
        wait_until("the control plane's programs to end", Duration::from_secs(20), || {
            self.processes.values().all(|process| !process.alive()).then_some(())
        })
    }

    /// Kills it and removes all that it had.
    pub(super) fn remove(&self) -> Result<()> {
        self.kill_processes()?;
        cache::remove(&Self::home(&self.name)?)
    }
}

/// Removes every control plane that nobody owns: of those that stay only what a reboot of the machine ended. The caller
/// holds the registry lock.
pub(super) fn reap_stale() -> Result<()> {
    for entry in fs::read_dir(directory()?).context("list the control planes")? {
        let home = entry.context("list the control planes")?.path();
        if !home.is_dir() || owned(&home) {
            continue;
        }
        let name = home.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match Record::load(&name) {
            Ok(Some(record)) if record.stays && record.processes.values().any(|process| process.alive()) => {}
            Ok(Some(record)) => {
                record.remove().with_context(|| format!("remove the stale control plane {name}"))?;
            }
            // It died before its record was written: nothing was started yet.
            Ok(None) => cache::remove(&home)?,
            // The checkouts of one user share this directory: another version's is that version's to remove.
            Err(error) => crate::progress::line(&format!("leaving control plane {name} alone: {error:#}")),
        }
    }
    Ok(())
}

/// All control planes there are.
pub(super) fn list() -> Result<Vec<Record>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory()?).context("list the control planes")? {
        let name = entry.context("list the control planes")?.file_name().to_string_lossy().into_owned();
        found.extend(Record::load(&name).ok().flatten());
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Takes the ownership of a control plane's directory, until the result is dropped.
pub(super) fn own(home: &Path) -> Result<File> {
    cache::lock(&home.join("lock"), "the process that owns this control plane")
}

fn owned(home: &Path) -> bool {
    File::open(home.join("lock")).is_ok_and(|file| file.try_lock().is_err())
}
