//! Read-only views of the host's directories, from which the containers' are bound.
//!
//! For every read-only bind of a unit systemd reads the whole mount table of the host again (252 and 257). What is bound
//! from a mount that is read-only is read-only without that.
//!
//! Only of what lies on the root file system: a view keeps the file system that it shows from being unmounted, and shows
//! nothing of what is mounted there anew. What the host mounts on or below a viewed directory appears in the view, as its
//! mounts are slaves of the host's, and goes with it.

use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use super::directories::make_dirs;
use super::tmpfs::{UNASKED, is_mount_root, unmount};
use super::{During, FileError};
use crate::sys::make_mounts_read_only;

/// Below these some file systems may be mounted when a view is made: they stay for as long as the machine runs.
const LASTING: [&str; 2] = ["/usr", "/etc"];

/// Which of `directories`, each directly below the root, can have a view, as `mount_info` (`/proc/self/mountinfo`) says.
pub(crate) fn viewable(directories: Vec<String>, mount_info: &str) -> Vec<String> {
    let mut shared_root = false;
    let mut points = Vec::new();
    for line in mount_info.lines() {
        // ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [shared:N ...] - TYPE SOURCE SUPER
        let mut words = line.split(' ');
        let Some(point) = words.nth(4) else { continue };
        if point == "/" {
            // Else nothing that is mounted later would be seen in a view.
            shared_root = words.skip(1).take_while(|word| *word != "-").any(|word| word.starts_with("shared:"));
        }
        points.push(point.to_owned());
    }
    let quiet = |directory: &String| {
        let below = |point: &String| point.strip_prefix(directory.as_str()).is_some_and(|rest| rest.starts_with('/'));
        let lasting = LASTING.contains(&directory.as_str());
        !points.iter().any(|point| point == directory || below(point) && !lasting)
    };
    directories.into_iter().filter(|directory| shared_root && quiet(directory)).collect()
}

/// The view of one directory.
#[derive(Debug)]
pub(crate) struct View {
    source: PathBuf,
    path: PathBuf,
    /// Its mount, held so that no path has to be walked, which could lead to a server that is dead.
    mount: OwnedFd,
    identity: Identity,
}

type Identity = (u32, u32, u64);

impl View {
    /// Makes the directory `path` show `source` and all that is mounted below it, read-only; it is never seen writable. A view
    /// that is there already is taken over.
    ///
    /// # Errors
    /// Linux before 5.12, a `source` that is not on the root file system, or what else the kernel says.
    pub(crate) fn new(source: &Path, path: &Path) -> Result<Self, FileError> {
        let origin = on_root(source).during("open", source)?;
        let identity = identity(&origin).during("inspect", source)?;
        let mount = match taken_over(path, identity)? {
            Some(mount) => mount,
            None => make(&origin, source, path)?,
        };
        make_mounts_read_only(&mount, false).during("make read-only", path)?;
        Ok(Self { source: source.to_owned(), path: path.to_owned(), mount, identity })
    }

    /// To be called before a container is made: what was mounted since is made read-only, and a view that was taken away, or
    /// whose directory the host has exchanged, is made anew.
    pub(crate) fn refresh(&mut self) -> Result<(), FileError> {
        let exchanged = match on_root(&self.source) {
            Ok(origin) => identity(&origin).during("inspect", &self.source)? != self.identity,
            // Something is mounted on it, so also on the view.
            Err(Errno::XDEV) => false,
            Err(error) => return Err(error).during("open", &self.source),
        };
        if exchanged || make_mounts_read_only(&self.mount, false).is_err() {
            *self = Self::new(&self.source, &self.path)?;
        }
        Ok(())
    }
}

/// Takes away every view below `tree` with its directory, and `tree` itself.
///
/// # Errors
/// What the kernel says. What is not there is no error.
pub(crate) fn release_views(tree: &Path) -> Result<(), FileError> {
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

fn make(origin: &OwnedFd, source: &Path, path: &Path) -> Result<OwnedFd, FileError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(origin, "", flags).during("clone the mounts at", source)?;
    make_mounts_read_only(&tree, true).during("make a read-only view of", source)?;
    make_dirs(path, 0o755, None)?;
    // Whatever is there shows something else. Until the next line a unit's hook would see an empty directory; that it takes
    // somebody who exchanges one of the machine's top-level directories makes it rare.
    while unmount(path)? {}
    rustix::mount::move_mount(&tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).during("mount", path)?;
    Ok(tree)
}

/// The mount at `path` if it shows what has this identity.
fn taken_over(path: &Path, wanted: Identity) -> Result<Option<OwnedFd>, FileError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mount = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        mount => mount.during("open", path)?,
    };
    let same = identity(&mount).during("inspect", path)? == wanted;
    Ok((same && is_mount_root(&mount, path)?).then_some(mount))
}

/// A handle on a directory of the root file system; `XDEV` where something is mounted on it, which is not asked anything.
fn on_root(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, "/", flags, Mode::empty())?;
    let below = path.strip_prefix("/").unwrap_or(path);
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    rustix::fs::openat2(root, below, flags, Mode::empty(), resolve)
}

fn identity(handle: &OwnedFd) -> rustix::io::Result<Identity> {
    let stat = rustix::fs::statx(handle, "", UNASKED, StatxFlags::INO)?;
    Ok((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mount_info: &str) -> Vec<String> {
        viewable(["/usr", "/etc", "/opt", "/srv"].map(str::to_owned).to_vec(), mount_info)
    }

    #[test]
    fn only_what_lies_on_a_shared_root_has_a_view() {
        let root = "29 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n";
        assert_eq!(of(root), ["/usr", "/etc", "/opt", "/srv"]);
        assert_eq!(of("29 1 254:0 / / rw,relatime - ext4 /dev/vda1 rw\n"), [""; 0]);
        let more = "40 29 0:3 / /usr/local/bin/x rw - ext4 a rw\n41 29 0:4 / /opt/data rw - ext4 b rw\n\
                    42 29 0:5 / /srv rw shared:9 - nfs c rw\n43 29 0:6 / /optical rw - iso d rw\n";
        assert_eq!(of(&format!("{root}{more}")), ["/usr", "/etc"]);
        assert_eq!(of(&format!("{root}44 29 0:7 / /usr rw - ext4 a rw\n")), ["/etc", "/opt", "/srv"]);
    }
}
