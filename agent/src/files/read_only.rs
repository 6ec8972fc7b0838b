//! Read-only views of the host's directories, from which the containers' are bound.
//!
//! For every read-only bind of a unit systemd reads the whole mount table of the host again (252 and 257). What is bound
//! from a mount that is read-only is read-only without that.

use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use super::directories::make_dirs;
use super::tmpfs::{is_mount_root, unmount};
use super::{During, FileError};
use crate::sys::make_mounts_read_only;

/// Makes the directory `view` show `source` and all that is mounted below it, read-only; it is never seen writable. What
/// the host mounts below `source` later appears in the view as well, and is read-only after the next call.
///
/// # Errors
/// Linux before 5.12, a `source` that is no directory, or what else the kernel says.
pub(crate) fn ensure_read_only(source: &Path, view: &Path) -> Result<(), FileError> {
    let origin = open(source)?;
    if let Some(mount) = shown(&origin, view)? {
        return make_mounts_read_only(mount, false).during("make read-only", view);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(&origin, "", flags).during("clone the mounts at", source)?;
    make_mounts_read_only(&tree, true).during("make a read-only view of", source)?;
    make_dirs(view, 0o755, None)?;
    // Whatever is there shows something else: the host has exchanged the directory.
    while unmount(view)? {}
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&tree, "", CWD, view, flags).during("mount", view)
}

/// Takes away every view below `tree` with its directory, and `tree` itself.
///
/// # Errors
/// What the kernel says. What is not there is no error.
pub(crate) fn release_read_only(tree: &Path) -> Result<(), FileError> {
    let entries = match std::fs::read_dir(tree) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.during("list", tree)?,
    };
    for entry in entries {
        let view = entry.during("list", tree)?.path();
        while unmount(&view)? {}
        std::fs::remove_dir(&view).during("remove", &view)?;
    }
    std::fs::remove_dir(tree).during("remove", tree)
}

/// The mount at `view` if it shows `origin`.
fn shown(origin: &OwnedFd, view: &Path) -> Result<Option<OwnedFd>, FileError> {
    let mount = match open(view) {
        Err(error) if error.is_not_found() => return Ok(None),
        mount => mount?,
    };
    let same = identity(origin).during("inspect", view)? == identity(&mount).during("inspect", view)?;
    Ok((same && is_mount_root(&mount, view)?).then_some(mount))
}

fn open(path: &Path) -> Result<OwnedFd, FileError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).during("open", path)
}

fn identity(handle: &OwnedFd) -> rustix::io::Result<(u32, u32, u64)> {
    let stat = rustix::fs::statx(handle, "", AtFlags::EMPTY_PATH, StatxFlags::INO)?;
    Ok((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino))
}
