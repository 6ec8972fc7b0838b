//! What is left of an attempt or a pod is removed: from systemd first, then its files.

use std::io;
use std::path::Path;
use std::sync::Arc;

use plan::unit::name::{self, PodDirs};

use super::{ApplyError, blocking, gone_is_fine, io_error};
use crate::files::{remove_dir_beneath, remove_tree, unmount};
use crate::images::AttemptKey;
use crate::reconcile::failpoint::crossing;
use crate::reconcile::host::on_host;
use crate::reconcile::{PodRef, Shared, orphans};
use crate::systemd::bus::UnitRow;
use crate::systemd::error::BusError;

pub(super) async fn clean_attempt(
    shared: &Shared,
    pod: &PodRef,
    unit: &str,
    container: &str,
    attempt: u32,
) -> Result<(), ApplyError> {
    crossing("clean.before");
    // Somebody else may have started it again since its end was seen: its files do not go while it runs.
    let rows = shared.bus.list_units_by_patterns(&[unit]).await?;
    let again = |row: &UnitRow| row.job.as_ref().is_some_and(|job| job.kind != "stop");
    if rows.iter().any(|row| again(row) || !matches!(row.active_state.as_str(), "inactive" | "failed")) {
        shared.ask_again(&pod.uid, unit);
        return Err(ApplyError::RunsAgain(unit.to_owned()));
    }
    gone_is_fine(shared.bus.reset_failed_unit(unit).await)?;
    let facts = shared.facts();
    let dirs = PodDirs::new(&facts.run_root, &facts.state_root, &pod.uid).attempt(container, attempt);
    let name = unit.to_owned();
    blocking(move || {
        remove_unit(&facts.unit_dir, &name)?;
        crossing("clean.unit-removed");
        remove_tree(Path::new(&dirs.run))?;
        Ok(remove_tree(Path::new(&dirs.state))?)
    })
    .await?;
    shared.forget_unit(unit);
    shared.images.forget_attempt(&AttemptKey { uid: pod.uid.clone(), container: container.to_owned(), attempt });
    shared.with(|w| w.entries.get_mut(&pod.uid).map(|e| e.refused.remove(container)));
    crossing("clean.after");
    Ok(())
}

/// A unit's file and what `systemctl set-property` has set on it: nobody else removes that, and the next pod of the same
/// manifest has units of these very names.
fn remove_unit(unit_dir: &str, unit: &str) -> Result<(), ApplyError> {
    remove_file(&Path::new(unit_dir).join(unit))?;
    for control in [&format!("{unit_dir}.control"), "/etc/systemd/system.control"] {
        remove_tree(&Path::new(control).join(format!("{unit}.d")))?;
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<(), ApplyError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("remove", &path.display().to_string())(error)),
    }
}

/// Units of the pod that systemd still has after their attempts were cleaned: somebody else started them again. What of
/// them runs is killed, as its files are gone.
async fn stragglers(shared: &Shared, uid: &str) -> Result<Vec<String>, ApplyError> {
    let mut ours = Vec::new();
    for row in shared.bus.list_units_by_patterns(&[&name::services_of(uid)]).await? {
        if !is_of_pod(shared, uid, &row.name).await? {
            tracing::warn!(uid, unit = row.name, "is called like a unit of the pod and is not: it is left alone");
            continue;
        }
        if !matches!(row.active_state.as_str(), "inactive" | "failed") {
            gone_is_fine(shared.bus.kill_unit(&row.name, 9).await)?;
        }
        ours.push(row.name);
    }
    Ok(ours)
}

/// A name is no identity. The unit's file tells whose it is; where that is gone, the cgroup of what still runs does.
async fn is_of_pod(shared: &Shared, uid: &str, unit: &str) -> Result<bool, ApplyError> {
    let state = match shared.bus.unit_properties(unit).await {
        Ok(state) => state,
        Err(BusError::NoSuchUnit { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let facts = shared.facts();
    let fragment = Path::new(&state.fragment_path);
    if !state.fragment_path.is_empty() && fragment.symlink_metadata().is_ok() {
        return Ok(fragment.parent() == Some(Path::new(&facts.unit_dir)) && orphans::is_of_pod(&facts, unit, uid));
    }
    let slices = [None, Some("burstable"), Some("besteffort")].map(|qos| name::slice(&facts.slice_root, qos, uid));
    let group = Path::new(&state.control_group).parent().and_then(Path::file_name);
    Ok(state.control_group.is_empty() || slices.iter().any(|slice| group == Some(slice.as_ref())))
}

pub(super) async fn remove_pod(shared: &Arc<Shared>, uid: &str, mut made_paths: Vec<String>) -> Result<(), ApplyError> {
    crossing("pod.before-remove");
    let facts = shared.facts();
    let dirs = PodDirs::new(&facts.run_root, &facts.state_root, uid);
    let stragglers = stragglers(shared, uid).await?;
    let slices = orphans::slices_of(&facts, uid);
    for slice in &slices {
        match shared.bus.stop_unit(slice).await {
            Ok(job) => job.done().await?,
            Err(BusError::NoSuchUnit { .. }) => {}
            // Its file must not go before it: a slice without one is stopped by nobody.
            Err(error) => return Err(error.into()),
        }
    }
    for unit in stragglers {
        gone_is_fine(shared.bus.reset_failed_unit(&unit).await)?;
    }
    // Not where another pod mounts: removing a mount point detaches what other namespaces have mounted on it.
    let others = shared.made_for_others(uid);
    made_paths.retain(|path| !others.contains(path));
    // Deepest first.
    made_paths.reverse();
    on_host(shared, uid, made_paths, remove_mount_point).await?;
    blocking(move || {
        for slice in &slices {
            remove_unit(&facts.unit_dir, slice)?;
        }
        crossing("pod.slice-removed");
        unmount_volumes(Path::new(&dirs.run))?;
        // After the mount points: the note of them is in it.
        remove_tree(Path::new(&dirs.state))?;
        crossing("pod.before-history-removed");
        // Last: the history is what a restarted agent finishes the removal by.
        Ok(remove_tree(Path::new(&dirs.run))?)
    })
    .await?;
    crossing("pod.after-remove");
    Ok(())
}

/// Only what is empty: a pod's data below the package's own directories is the package's. And whatever the package's user
/// has put in its place by now stays.
fn remove_mount_point(path: &str) {
    if let Err(error) = remove_dir_beneath(Path::new(path)) {
        tracing::info!(path, "the mount point stays: {error}");
    }
}

/// A Memory emptyDir with a size is a mount of the host; everything else of a pod is mounted in its own namespaces.
fn unmount_volumes(run: &Path) -> Result<(), ApplyError> {
    let volumes = run.join("volumes");
    let entries = match std::fs::read_dir(&volumes) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("list", &volumes.display().to_string())(error)),
    };
    for entry in entries {
        let entry = entry.map_err(io_error("list", &volumes.display().to_string()))?;
        unmount(&entry.path())?;
    }
    Ok(())
}
