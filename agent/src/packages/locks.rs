//! Other package managers' locks: whether one is held, and by whom.
//!
//! Looked at, never taken: the package manager takes its own. Holders are asked for by `F_GETLK`, so a pod's message can
//! name the process it waits for.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use plan::image::Manager;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::{PackageError, Progress};

/// An unattended upgrade of a whole release takes this long on a slow disk. The pod's back-off asks again afterwards.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
const PERIOD: Duration = Duration::from_millis(500);

/// A lock that somebody else holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldLock {
    pub(crate) path: &'static str,
    /// Process id and program, where the kernel says (not across pid namespaces).
    pub(crate) holder: Option<(i32, String)>,
}

impl std::fmt::Display for HeldLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the package manager's lock {}", self.path)?;
        match &self.holder {
            Some((pid, program)) => write!(f, " held by pid {pid} ({program})"),
            None => Ok(()),
        }
    }
}

fn lock_files(manager: Manager) -> &'static [&'static str] {
    match manager {
        Manager::Apt => &[
            "/var/lib/dpkg/lock-frontend",
            "/var/lib/dpkg/lock",
            "/var/lib/apt/lists/lock",
            "/var/cache/apt/archives/lock",
        ],
        Manager::Dnf | Manager::Zypper => &["/usr/lib/sysimage/rpm/.rpm.lock", "/var/lib/rpm/.rpm.lock"],
        Manager::Pacman => &["/var/lib/pacman/db.lck"],
    }
}

/// The first of the manager's locks that is held.
pub(super) fn held(manager: Manager) -> Option<HeldLock> {
    lock_files(manager).iter().find_map(|path| {
        // pacman's lock is the file's existence.
        if manager == Manager::Pacman {
            return Path::new(path).exists().then_some(HeldLock { path, holder: None });
        }
        holder(Path::new(path)).map(|holder| HeldLock { path, holder })
    })
}

/// Who holds a write lock on `path`; the inner None is a holder without a visible process id.
fn holder(path: &Path) -> Option<Option<(i32, String)>> {
    let file = File::options().read(true).write(true).open(path).ok()?;
    let lock = fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)).ok()??;
    Some(lock.pid.map(|pid| {
        let pid = pid.as_raw_nonzero().get();
        let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        (pid, program.trim_end().chars().filter(|c| !c.is_control()).collect())
    }))
}

/// Our own lock, taken, for an installation's standard input.
pub(super) fn own(path: &Path) -> Result<File, PackageError> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.map_err(PackageError::io("open", path))?;
    // Held still: by a daemon that an earlier maintainer script left behind. Installations are serialized by other means.
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        tracing::debug!("a process of an earlier installation is still there");
    }
    Ok(file)
}

/// Waits for what an agent that was killed left running.
pub(super) async fn wait_for_orphan(path: &Path) {
    let Ok(file) = File::open(path) else { return };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        if tokio::time::Instant::now() >= deadline {
            tracing::warn!("processes of an earlier installation do not end; going on");
            return;
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Waits until no lock is held, saying for whom each time that changes.
pub(super) async fn wait_until_free(manager: Manager, progress: &impl Fn(Progress)) -> Result<(), PackageError> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut reported = None;
    while let Some(lock) = held(manager) {
        if tokio::time::Instant::now() >= deadline {
            return Err(PackageError::LockTimeout { what: lock.to_string() });
        }
        if reported.as_ref() != Some(&lock) {
            progress(Progress::WaitingForLock(lock.clone()));
            reported = Some(lock);
        }
        tokio::time::sleep(PERIOD).await;
    }
    Ok(())
}
