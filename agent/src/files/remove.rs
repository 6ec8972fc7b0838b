//! Removal of a tree that a pod could write to. Works on directory descriptors only, never follows a symlink and never
//! enters a mount: what is mounted below an emptyDir belongs to somebody else (kubernetes#136504).

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::write::{open_directory, unique};
use super::{FileError, names, split};

/// Names that are read of a directory at a time.
const BATCH: usize = 4096;
/// Deeper directories are moved up first: a pod can nest deeper than there are descriptors.
const DEEPEST: usize = 128;
/// More failures than this are counted, not kept.
const MOST_FAILURES: usize = 32;

/// What is still there, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove all of {}: {} left, the first is {}: {}", path.display(), failures.len() + more, failures[0].0.display(), failures[0].1)]
pub(crate) struct RemoveError {
    /// The tree.
    pub(crate) path: PathBuf,
    /// What could not be removed, and why.
    pub(crate) failures: Vec<(PathBuf, String)>,
    /// How many more there were.
    pub(crate) more: usize,
}

/// Removes `path` and all below it; goes on after a failure and reports all of them. A path that is not there is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<(), RemoveError> {
    let mut removal = Removal { failures: Vec::new(), more: 0 };
    match split("remove", path).and_then(|(parent, name)| Ok((open_directory(parent)?, name))) {
        Ok((parent, name)) => removal.run(parent.as_fd(), name, path),
        Err(error) if error.is_not_found() => {}
        Err(error) => removal.fail(path, error.to_string()),
    }
    removal.finish(path)
}

/// The same for an entry of an open directory; `path` is its name in messages.
pub(super) fn remove_tree_at(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), RemoveError> {
    let mut removal = Removal { failures: Vec::new(), more: 0 };
    removal.run(parent, name, path);
    removal.finish(path)
}

struct Removal {
    failures: Vec<(PathBuf, String)>,
    more: usize,
}

/// One open directory on the way down.
struct Frame {
    directory: OwnedFd,
    name: OsString,
    path: PathBuf,
    pending: Vec<OsString>,
    /// Names were listed, and each of them was dealt with.
    all_taken: bool,
    failed: HashSet<OsString>,
}

enum Entry {
    Gone,
    Directory(OwnedFd),
    Failed,
}

impl Removal {
    fn run(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path) {
        let Entry::Directory(directory) = self.entry(parent, name, path) else { return };
        let mut stack = vec![Frame::new(directory, name, path)];
        while let Some(frame) = stack.last_mut() {
            if let Some(name) = frame.pending.pop() {
                let path = frame.path.join(&name);
                match self.entry(frame.directory.as_fd(), &name, &path) {
                    Entry::Gone => {}
                    Entry::Failed => _ = frame.failed.insert(name),
                    Entry::Directory(directory) if stack.len() < DEEPEST => {
                        stack.push(Frame::new(directory, &name, &path));
                    }
                    Entry::Directory(_) => self.move_up(&mut stack, name, &path),
                }
                continue;
            }
            if std::mem::take(&mut frame.all_taken) && Self::leave_empty(&mut stack, parent) {
                continue;
            }
            let Some(frame) = stack.last_mut() else { return };
            match names(&frame.directory, BATCH + frame.failed.len()) {
                Ok(found) => frame.pending = found.into_iter().filter(|name| !frame.failed.contains(name)).collect(),
                Err(error) => {
                    let path = frame.path.clone();
                    self.fail(&path, error.to_string());
                }
            }
            frame.all_taken = !frame.pending.is_empty();
            if frame.pending.is_empty() {
                self.leave(&mut stack, parent);
            }
        }
    }

    /// Removes the entry unless it is a directory of this mount, which is opened.
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Entry {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Entry::Gone,
            // An empty one needs no look inside.
            Err(Errno::ISDIR) => match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Entry::Gone,
                Err(_) => {}
            },
            Err(error) => {
                if !is_directory(parent, name) {
                    self.fail(path, explain(parent, name, error));
                    return Entry::Failed;
                }
            }
        }
        // One step that the kernel checks: no symlink, whatever is exchanged meanwhile, and no other mount (the mount id
        // must be that of the parent, so a bind mount of the same file system is not entered either).
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        match rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve) {
            Ok(directory) if same_mount(parent, &directory) => Entry::Directory(directory),
            Ok(_) | Err(Errno::XDEV) => {
                self.fail(path, "something is mounted there".to_owned());
                Entry::Failed
            }
            Err(Errno::NOENT) => Entry::Gone,
            Err(error) => {
                self.fail(path, explain(parent, name, error));
                Entry::Failed
            }
        }
    }

    /// All entries that were listed are gone: the directory goes unless there are more, of a longer list or new ones.
    fn leave_empty(stack: &mut Vec<Frame>, root_parent: BorrowedFd<'_>) -> bool {
        let [.., frame] = stack.as_slice() else { return false };
        let parent = stack.iter().nth_back(1).map_or(root_parent, |parent| parent.directory.as_fd());
        let gone = rustix::fs::unlinkat(parent, &frame.name, AtFlags::REMOVEDIR).is_ok();
        if gone {
            stack.pop();
        }
        gone
    }

    /// The directory is as empty as it gets: remove it from its parent.
    fn leave(&mut self, stack: &mut Vec<Frame>, root_parent: BorrowedFd<'_>) {
        let Some(frame) = stack.pop() else { return };
        let parent = stack.last().map_or(root_parent, |parent| parent.directory.as_fd());
        let kept = match rustix::fs::unlinkat(parent, &frame.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => false,
            // What is in it has been reported already.
            Err(Errno::NOTEMPTY | Errno::EXIST) if !frame.failed.is_empty() => true,
            Err(error) => {
                let reason = explain(parent, &frame.name, error);
                self.fail(&frame.path, reason);
                true
            }
        };
        if kept && let Some(parent) = stack.last_mut() {
            parent.failed.insert(frame.name);
        }
    }

    /// Moves a directory that is nested too deep into the first one, where it is met again.
    fn move_up(&mut self, stack: &mut [Frame], name: OsString, path: &Path) {
        let new_name = format!(".systemk-deep-{}-{}", std::process::id(), unique());
        let result = match (stack.first(), stack.last()) {
            (Some(first), Some(last)) => rustix::fs::renameat(&last.directory, &name, &first.directory, &new_name),
            _ => Ok(()),
        };
        if let (Err(error), Some(last)) = (result, stack.last_mut()) {
            self.fail(path, error.to_string());
            last.failed.insert(name);
        }
    }

    fn fail(&mut self, path: &Path, reason: String) {
        if self.failures.len() < MOST_FAILURES {
            self.failures.push((path.to_owned(), reason));
        } else {
            self.more += 1;
        }
    }

    fn finish(self, path: &Path) -> Result<(), RemoveError> {
        if self.failures.is_empty() {
            return Ok(());
        }
        Err(RemoveError { path: path.to_owned(), failures: self.failures, more: self.more })
    }
}

impl Frame {
    fn new(directory: OwnedFd, name: &OsStr, path: &Path) -> Self {
        Self {
            directory,
            name: name.to_owned(),
            path: path.to_owned(),
            pending: Vec::new(),
            all_taken: false,
            failed: HashSet::new(),
        }
    }
}

fn is_directory(parent: BorrowedFd<'_>, name: &OsStr) -> bool {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Belt to openat2's braces; a kernel that tells no mount ids (before 5.8) has its word taken.
fn same_mount(parent: BorrowedFd<'_>, child: &OwnedFd) -> bool {
    let id = |fd: BorrowedFd<'_>| {
        let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
        (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id)
    };
    id(parent) == id(child.as_fd())
}

/// EPERM for root nearly always is the immutable flag, of the entry or of the directory that holds it.
fn explain(parent: BorrowedFd<'_>, name: &OsStr, error: Errno) -> String {
    let flagged = |path: &OsStr, flags| {
        rustix::fs::statx(parent, path, AtFlags::SYMLINK_NOFOLLOW | flags, StatxFlags::empty())
            .is_ok_and(|stat| stat.stx_attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND))
    };
    match error {
        Errno::PERM if flagged(name, AtFlags::empty()) => {
            "it has the immutable or append-only flag (chattr -i -a lifts it)".to_owned()
        }
        Errno::PERM if flagged(OsStr::new(""), AtFlags::EMPTY_PATH) => {
            "its directory has the immutable or append-only flag (chattr -i -a lifts it)".to_owned()
        }
        Errno::BUSY => "something is mounted there".to_owned(),
        other => other.to_string(),
    }
}

/// The same answer as a [`FileError`], for callers that remove as part of something else.
impl From<RemoveError> for FileError {
    fn from(error: RemoveError) -> Self {
        Self::Unfit { operation: "remove", reason: error.to_string(), path: error.path }
    }
}
