//! Reading files that others put there.

use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::directories::proc_path;
use super::{During, FileError};

/// The whole content of a regular file of at most `limit` bytes, symlinks followed. Nothing else is opened: a FIFO would
/// block, a device would act.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let handle = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).during("open", path)?;
    let stat = rustix::fs::fstat(&handle).during("inspect", path)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        other => return Err(FileError::unfit("read", path, format!("it is a {}, not a file", name(other)))),
    }
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    if size > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, proc_path(&handle), flags, Mode::empty()).during("open", path)?;
    read_all(&file, path, limit)
}

/// The whole content of the regular file `name` below the directory `root`: no symlink is followed and no mount is crossed,
/// for files in trees that a container may write.
pub(crate) fn read_beneath(root: &Path, name: &str, limit: u64) -> Result<Vec<u8>, FileError> {
    use rustix::fs::{ResolveFlags, openat2};
    let path = root.join(name);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, root, flags, Mode::empty()).during("open", root)?;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat2(&directory, name, flags, Mode::empty(), inside).during("open", &path)?;
    let stat = rustix::fs::fstat(&file).during("inspect", &path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(FileError::unfit("read", &path, "it is not a file"));
    }
    read_all(&file, &path, limit)
}

/// Counts what it reads: a file can grow, and those of procfs claim to be empty.
pub(super) fn read_all(file: &OwnedFd, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match rustix::io::read(file, &mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).during("read", path),
        }
        if bytes.len() as u64 > limit {
            return Err(FileError::TooLarge { path: path.to_owned(), limit });
        }
    }
}

fn name(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "directory",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Symlink => "symlink",
        _ => "special file",
    }
}
