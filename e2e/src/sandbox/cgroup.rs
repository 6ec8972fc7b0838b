//! The cgroup2 subtree of an instance. Two systemd instances in one subtree would kill each other's services, so each
//! has its own, directly below the machine's cgroup2 root; nothing else in the machine's hierarchy is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::command;
use crate::eventually::wait_until;

/// The machine's cgroup2 mount, wherever it is; on a machine without one (cgroup v1 only) a mount of our own in `/run`.
pub(super) fn root() -> Result<PathBuf> {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo");
    if let Some(found) = cgroup2_mount(&mounts()?) {
        return Ok(found);
    }
    let own = Path::new("/run/systemk-sandbox/cgroup2");
    let _lock =
        crate::cache::lock(&crate::cache::directory()?.join("cgroup2.lock"), "another process to mount cgroup2")?;
    if cgroup2_mount(&mounts()?).is_none() {
        fs::create_dir_all(own).with_context(|| format!("make {}", own.display()))?;
        command::run(Command::new("mount").args(["-t", "cgroup2", "cgroup2"]).arg(own))
            .context("this machine has no cgroup2 mount and none could be made (does its kernel have cgroup v2?)")?;
    }
    Ok(own.to_owned())
}

/// The first cgroup2 mount in a mountinfo: fields before " - " end in optional tags, after it comes the type.
fn cgroup2_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mount_point = before.split(' ').nth(4)?;
        (after.split(' ').next() == Some("cgroup2")).then(|| PathBuf::from(mount_point))
    })
}

/// Makes the empty subtree `path`, clearing what a dead instance left there.
pub(super) fn make(path: &Path) -> Result<()> {
    if path.exists() {
        if populated(path) {
            bail!("{} has processes of another instance: choose another name", path.display());
        }
        remove(path)?;
    }
    fs::create_dir(path).with_context(|| format!("make the cgroup {}", path.display()))
}

/// Kills every process below `path` and waits until the kernel says that none is left.
pub(super) fn kill(path: &Path) -> Result<()> {
    wait_until(&format!("the processes in {} to die", path.display()), Duration::from_secs(20), || {
        if !populated(path) {
            return Some(());
        }
        // cgroup.kill came with Linux 5.14; before that each round kills what it finds.
        if fs::write(path.join("cgroup.kill"), "1").is_err() {
            subtree(path).iter().flat_map(|directory| processes(directory)).for_each(|pid| {
                // Gone in between is as good as killed: the next round looks again.
                kill_process(pid, Signal::KILL).ok();
            });
        }
        None
    })
}

/// Removes the subtree, leaves first. Its processes must be dead.
pub(super) fn remove(path: &Path) -> Result<()> {
    wait_until(&format!("the removal of the cgroup {}", path.display()), Duration::from_secs(20), || {
        for directory in subtree(path) {
            // A cgroup whose last process is not yet reaped is busy for a moment.
            fs::remove_dir(directory).ok();
        }
        (!path.exists()).then_some(())
    })
}

/// The process ids in one cgroup, as the machine sees them.
fn processes(path: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
}

fn populated(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.events")).is_ok_and(|events| events.contains("populated 1"))
}

/// `path` and all below it, children before their parents.
fn subtree(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(subtree(&entry.path()));
        }
    }
    found.push(path.to_owned());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_cgroup2_on_hybrid_machines() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_mount(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(cgroup2_mount("22 27 0:21 / /proc rw - proc proc rw"), None);
    }
}
