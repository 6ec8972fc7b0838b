//! One agent per run directory and per state directory.

use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{During, FileError, read};

/// Held as long as the value lives; the kernel lets go of it when the process dies, however it dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: OwnedFd,
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub(crate) fn acquire(path: &Path) -> Result<Self, FileError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mode = Mode::from_raw_mode(0o644);
        let file = rustix::fs::openat(CWD, path, flags, mode).during("open the lock", path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(FileError::Locked { pid: pid(&file, path), path: path.to_owned() }),
            Err(error) => return Err(error).during("lock", path),
        }
        // Never removed: another process may just have opened it. Written in place: the lock is on this inode.
        rustix::fs::ftruncate(&file, 0).during("write the lock", path)?;
        match rustix::io::pwrite(&file, format!("{}\n", std::process::id()).as_bytes(), 0) {
            // The process is for messages only: a full disk keeps no agent from its pods.
            Ok(_) | Err(Errno::NOSPC | Errno::DQUOT) => {}
            Err(error) => return Err(error).during("write the lock", path),
        }
        Ok(Self { _file: file })
    }

    /// The process that holds the lock, as its file says; None if nobody does. Takes nothing, and needs no right to write.
    pub(crate) fn holder(path: &Path) -> Result<Option<String>, FileError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error).during("open the lock", path),
        };
        // Shared, so that two that ask at the same moment do not see each other; let go of when the descriptor closes.
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(Errno::WOULDBLOCK) => Ok(Some(pid(&file, path))),
            Err(error) => Err(error).during("lock", path),
        }
    }

    /// Holds an existing file for as long as the value lives, together with others: a sign of life.
    pub(crate) fn share(path: &Path) -> Result<Self, FileError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = rustix::fs::openat(CWD, path, flags, Mode::empty()).during("open", path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).during("lock", path)?;
        Ok(Self { _file: file })
    }

    /// Whether nobody [shares](Self::share) the file.
    pub(crate) fn is_abandoned(path: &Path) -> bool {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = rustix::fs::openat(CWD, path, flags, Mode::empty());
        file.is_ok_and(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
    }
}

fn pid(file: &OwnedFd, path: &Path) -> String {
    let text = read::read_all(file, path, 64).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) { text } else { "?".to_owned() }
}
