//! What the host has at a path. Walks it component by component with O_PATH handles, so nothing on the way is opened: a
//! FIFO does not block, a device does not act, an automount is left alone.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use plan::inputs::{HostPath, PathKind};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{During, FileError, names};

/// As many symlinks as the kernel follows.
const MOST_LINKS: usize = 40;
/// A directory of which each entry would become a mount; more is somebody's mistake.
const MOST_ENTRIES: usize = 4096;
const OPERATION: &str = "look up";

/// What the host has at the absolute `path`.
pub(crate) fn lookup_host_path(path: &str) -> Result<HostPath, FileError> {
    lookup_host_path_below(Path::new("/"), path)
}

/// The same, with `root` for the host's root: no symlink and no `..` leads out of it.
pub(crate) fn lookup_host_path_below(root: &Path, path: &str) -> Result<HostPath, FileError> {
    if !path.starts_with('/') || path.len() >= 4096 || path.contains('\0') {
        return Err(FileError::unfit(OPERATION, path, "it is not an absolute path of less than 4096 bytes"));
    }
    let mut walk = Walk {
        above: vec![open_root(root)?],
        resolved: Vec::new(),
        todo: components(path.as_bytes()),
        links: 0,
        asked: path,
    };
    while let Some(name) = walk.todo.pop_front() {
        if name == ".." {
            walk.up();
            continue;
        }
        if let Some(kind) = walk.step(&name)? {
            let missing = kind.is_none();
            return walk.finish(kind, Some(name), missing);
        }
    }
    walk.finish(Some(PathKind::Directory), None, false)
}

/// The handles of the directories from the root down to where the walk is.
struct Walk<'a> {
    above: Vec<OwnedFd>,
    resolved: Vec<OsString>,
    todo: VecDeque<OsString>,
    links: usize,
    asked: &'a str,
}

impl Walk<'_> {
    fn up(&mut self) {
        if self.above.len() > 1 {
            self.above.pop();
            self.resolved.pop();
        }
    }

    /// One component down. Some: the walk ends here, with the kind of what is there, or None for nothing.
    fn step(&mut self, name: &OsStr) -> Result<Option<Option<PathKind>>, FileError> {
        let Some(here) = self.above.last() else { return Ok(Some(None)) };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match rustix::fs::openat(here, name, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Ok(Some(None)),
            Err(error) => return Err(error).during(OPERATION, self.asked),
        };
        let stat = rustix::fs::fstat(&handle).during(OPERATION, self.asked)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.above.push(handle);
                self.resolved.push(name.to_owned());
                Ok(None)
            }
            FileType::Symlink => {
                self.links += 1;
                if self.links > MOST_LINKS {
                    return Err(FileError::unfit(OPERATION, self.asked, "it goes through more than 40 symlinks"));
                }
                let target = rustix::fs::readlinkat(here, name, Vec::new()).during(OPERATION, self.asked)?;
                if target.as_bytes().starts_with(b"/") {
                    self.above.truncate(1);
                    self.resolved.clear();
                }
                for part in components(target.as_bytes()).into_iter().rev() {
                    self.todo.push_front(part);
                }
                Ok(None)
            }
            // A file with more of the path behind it: nothing can be there.
            _ if !self.todo.is_empty() => Ok(Some(None)),
            other => Ok(Some(Some(kind_of(other)))),
        }
    }

    fn finish(self, kind: Option<PathKind>, last: Option<OsString>, missing: bool) -> Result<HostPath, FileError> {
        let existing = self.text(&self.resolved)?;
        let mut whole = self.resolved.clone();
        for part in last.into_iter().chain(self.todo.iter().cloned()) {
            if part == ".." {
                whole.pop();
            } else {
                whole.push(part);
            }
        }
        let resolved = self.text(&whole)?;
        let entries = match self.above.last() {
            // Of the root itself nobody wants them: what is missing there is the container's own.
            Some(directory) if missing && existing != "/" => self.entries(directory)?,
            _ => Vec::new(),
        };
        Ok(HostPath { kind, existing, resolved, entries })
    }

    fn text(&self, parts: &[OsString]) -> Result<String, FileError> {
        let mut text = Vec::new();
        for part in parts {
            text.push(b'/');
            text.extend_from_slice(part.as_bytes());
        }
        if text.is_empty() {
            text.push(b'/');
        }
        String::from_utf8(text)
            .map_err(|_| FileError::unfit(OPERATION, self.asked, "a symlink on the way has a name that is not UTF-8"))
    }

    fn entries(&self, directory: &OwnedFd) -> Result<Vec<(String, PathKind)>, FileError> {
        let unfit = |reason: String| FileError::unfit(OPERATION, self.asked, reason);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listed = rustix::fs::openat(directory, ".", flags, Mode::empty()).during("list", self.asked)?;
        let found = names(&listed, MOST_ENTRIES + 1).during("list", self.asked)?;
        if found.len() > MOST_ENTRIES {
            let reason = format!("the directory above it has more than {MOST_ENTRIES} entries");
            return Err(unfit(reason));
        }
        let mut entries = Vec::with_capacity(found.len());
        for name in found {
            let kind = match rustix::fs::statat(directory.as_fd(), &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error).during(OPERATION, self.asked),
            };
            let kind = if kind == FileType::Symlink {
                let target = match rustix::fs::readlinkat(directory, &name, Vec::new()) {
                    Ok(target) => target.into_bytes(),
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(error).during(OPERATION, self.asked),
                };
                let not_text = |_| unfit(format!("the target of {} beside it is not UTF-8", name.display()));
                PathKind::Symlink(String::from_utf8(target).map_err(not_text)?)
            } else {
                kind_of(kind)
            };
            let not_text = |name: OsString| unfit(format!("{} beside it is not UTF-8", name.display()));
            entries.push((name.into_string().map_err(not_text)?, kind));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }
}

fn components(path: &[u8]) -> VecDeque<OsString> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.map(|part| OsString::from_vec(part.to_vec())).collect()
}

fn open_root(root: &Path) -> Result<OwnedFd, FileError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, root, flags, Mode::empty()).during("open", root)
}

fn kind_of(kind: FileType) -> PathKind {
    match kind {
        FileType::Directory => PathKind::Directory,
        FileType::RegularFile => PathKind::File,
        FileType::Socket => PathKind::Socket,
        FileType::CharacterDevice => PathKind::CharDevice,
        FileType::BlockDevice => PathKind::BlockDevice,
        _ => PathKind::Other,
    }
}
