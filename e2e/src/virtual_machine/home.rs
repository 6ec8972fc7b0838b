//! The directory of one machine: its disk and what its console said. Removed with it, or by the next test where the process
//! that had it was killed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{cache, command};

#[derive(Debug)]
pub(super) struct Home {
    directory: TempDir,
    /// Held for as long as the machine is ours.
    _owner: File,
}

impl Home {
    pub(super) fn make() -> Result<Self> {
        let machines = cache::directory()?.join("machines");
        fs::create_dir_all(&machines).with_context(|| format!("make {}", machines.display()))?;
        let _registry = cache::lock(&machines.join("lock"), "another process to begin a virtual machine")?;
        reap(&machines)?;
        let directory = TempDir::new_in(&machines).context("make a directory for a virtual machine")?;
        let owner = File::create(owner(directory.path())).context("make a lock for a virtual machine")?;
        owner.lock().context("lock the directory of a virtual machine")?;
        Ok(Self { directory, _owner: owner })
    }

    pub(super) fn disk(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    pub(super) fn console(&self) -> PathBuf {
        self.directory.path().join("console")
    }

    /// For a person who reads a failure.
    pub(super) fn console_tail(&self) -> String {
        let text = fs::read(self.console()).unwrap_or_default();
        command::tail(&String::from_utf8_lossy(&text), 30)
    }
}

fn owner(directory: &Path) -> PathBuf {
    directory.join("owner")
}

/// Removes what killed processes left. Under the registry's lock, so that nobody is between a directory and its lock.
fn reap(machines: &Path) -> Result<()> {
    for entry in fs::read_dir(machines).context("list the virtual machines")? {
        let path = entry.context("list the virtual machines")?.path();
        if path.is_dir() && File::open(owner(&path)).is_ok_and(|file| file.try_lock().is_ok()) {
            cache::remove(&path)?;
        }
    }
    Ok(())
}
