//! One agent per run directory.

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
            Err(Errno::WOULDBLOCK) => {
                let text = read::read_all(&file, path, 64).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).trim().to_owned();
                let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let pid = if is_number { text } else { "?".to_owned() };
                return Err(FileError::Locked { pid, path: path.to_owned() });
            }
            Err(error) => return Err(error).during("lock", path),
        }
        // Never removed: another process may just have opened it. Written in place: the lock is on this inode.
        rustix::fs::ftruncate(&file, 0).during("write the lock", path)?;
        rustix::io::pwrite(&file, format!("{}\n", std::process::id()).as_bytes(), 0).during("write the lock", path)?;
        Ok(Self { _file: file })
    }
}
