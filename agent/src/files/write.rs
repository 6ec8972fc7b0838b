//! Files that are there whole or not at all: a temporary in the same directory, renamed over the name.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::{During, FileError, failpoint, names, split};

const PREFIX: &str = ".systemk-tmp-";

/// Writes `bytes` so that after a crash or power cut at any moment the old or the new content is there.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    write(path, bytes, mode, true)
}

/// As [`write_atomic`] for /run, which does not survive a power cut anyway: atomic, but nothing waits for a disk.
pub(crate) fn write_volatile(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    write(path, bytes, mode, false)
}

fn write(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> Result<(), FileError> {
    let (parent, name) = split("write", path)?;
    let directory = open_directory(parent)?;
    let (temporary, file) = create_temporary(&directory).during("write", path)?;
    let result = fill(file, bytes, Access { mode, uid: None, gid: None }, durable)
        .and_then(|()| failpoint::hit("rename"))
        .and_then(|()| rustix::fs::renameat(&directory, &temporary, &directory, name))
        .and_then(|()| failpoint::hit("sync directory"));
    if let Err(error) = result {
        // After the rename there is no such name any more, and the error is what matters.
        rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty()).ok();
        return Err(error).during("write", path);
    }
    if durable {
        rustix::fs::fsync(&directory).during("write", path)?;
    }
    Ok(())
}

pub(super) fn open_directory(path: &Path) -> Result<OwnedFd, FileError> {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .during("open directory", path)
}

/// A name that no other writer of this process uses, and that [`remove_temporaries`] of the next one finds.
pub(super) fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn create_temporary(directory: &OwnedFd) -> rustix::io::Result<(OsString, OwnedFd)> {
    loop {
        let name = OsString::from(format!("{PREFIX}{}-{}", std::process::id(), unique()));
        match create_new(directory.as_fd(), &name) {
            // Left over by a crashed process that had our number.
            Err(Errno::EXIST) => {}
            result => return result.map(|file| (name, file)),
        }
    }
}

/// A new file that nobody can read yet.
pub(super) fn create_new(directory: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    failpoint::hit("create")?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)
}

/// Who may use a file. Where no owner or group is given it stays the agent's.
pub(super) struct Access {
    pub(super) mode: u32,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// Content first, then owners, then mode: chown clears the set-id bits, and nobody may read it before it is right.
pub(super) fn fill(file: OwnedFd, mut bytes: &[u8], access: Access, durable: bool) -> rustix::io::Result<()> {
    let Access { mode, uid, gid } = access;
    failpoint::hit("write")?;
    while !bytes.is_empty() {
        match rustix::io::write(&file, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    if uid.is_some() || gid.is_some() {
        rustix::fs::fchown(&file, uid.map(Uid::from_raw), gid.map(Gid::from_raw))?;
    }
    failpoint::hit("chmod")?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    if durable {
        failpoint::hit("sync file")?;
        rustix::fs::fsync(&file)?;
    }
    Ok(())
}

/// Removes what a crashed process left in `directory`. Call it once for each directory of ours when the agent starts.
pub(crate) fn remove_temporaries(directory: &Path) -> Result<usize, FileError> {
    let ours = format!("{PREFIX}{}-", std::process::id());
    let handle = open_directory(directory)?;
    let mut removed = 0;
    for name in names(&handle, usize::MAX).during("list", directory)? {
        if name.as_bytes().starts_with(PREFIX.as_bytes()) && !name.as_bytes().starts_with(ours.as_bytes()) {
            rustix::fs::unlinkat(&handle, &name, AtFlags::empty()).during("remove", directory.join(&name))?;
            removed += 1;
        }
    }
    Ok(removed)
}
