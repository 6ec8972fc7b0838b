//! Directories of our own trees, and owner and mode of what is in them.

use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::{During, FileError};

/// A numeric user and group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
}

/// Makes `path` and what is missing above it. Each directory that is made gets `mode` and `owner` exactly, whatever the
/// umask; one that was there is left as it is. Only for trees whose parents belong to root: symlinks above `path` are
/// followed, `path` itself must not be one.
pub(crate) fn make_dirs(path: &Path, mode: u32, owner: Option<Owner>) -> Result<(), FileError> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) => set_owner_and_mode(path, owner, Some(mode)),
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).during("make directory", path)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                return Ok(());
            }
            Err(FileError::unfit("make directory", path, "something that is no directory is there"))
        }
        Err(Errno::NOENT) => {
            let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
                return Err(Errno::NOENT).during("make directory", path);
            };
            make_dirs(parent, mode, owner)?;
            match rustix::fs::mkdir(path, Mode::RWXU) {
                Ok(()) => set_owner_and_mode(path, owner, Some(mode)),
                Err(Errno::EXIST) => make_dirs(path, mode, owner),
                Err(error) => Err(error).during("make directory", path),
            }
        }
        Err(error) => Err(error).during("make directory", path),
    }
}

/// Makes `path` and what is missing above it without following any symlink: for paths below directories that others may
/// write, where one exchanged for a symlink must not lead root elsewhere.
pub(crate) fn make_dirs_beneath(path: &Path, mode: u32) -> Result<(), FileError> {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else {
        return Err(FileError::unfit("make directory", path, "it has no parent"));
    };
    let handle = match open_without_links(parent) {
        Ok(handle) => handle,
        Err(Errno::NOENT) => {
            make_dirs_beneath(parent, mode)?;
            open_without_links(parent).during("open", parent)?
        }
        Err(error) => return Err(error).during("open", parent),
    };
    match rustix::fs::mkdirat(&handle, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => open_without_links(path).map(drop).during("make directory", path),
        Err(error) => Err(error).during("make directory", path),
    }
}

/// Makes an empty file, unless something is there, without following any symlink on the way to it. What is above it must
/// be there.
pub(crate) fn make_file_beneath(path: &Path, mode: u32) -> Result<(), FileError> {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else {
        return Err(FileError::unfit("make file", path, "it has no parent"));
    };
    let handle = open_without_links(parent).during("open", parent)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::openat(&handle, name, flags, Mode::from_raw_mode(mode)) {
        Ok(_) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).during("make file", path),
    }
}

/// Removes an empty directory without following any symlink on the way to it.
pub(crate) fn remove_dir_beneath(path: &Path) -> Result<(), FileError> {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else {
        return Err(FileError::unfit("remove directory", path, "it has no parent"));
    };
    let handle = open_without_links(parent).during("open", parent)?;
    match rustix::fs::unlinkat(&handle, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error).during("remove directory", path),
    }
}

fn open_without_links(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(CWD, path, flags, Mode::empty(), rustix::fs::ResolveFlags::NO_SYMLINKS)
}

/// Changes owner and mode of exactly the file that is at `path` now; refuses a symlink, opens nothing.
pub(crate) fn set_owner_and_mode(path: &Path, owner: Option<Owner>, mode: Option<u32>) -> Result<(), FileError> {
    let (handle, stat) = pin(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Err(FileError::unfit("change owner and mode of", path, "it is a symlink"));
    }
    if let Some(Owner { uid, gid }) = owner
        && (stat.st_uid, stat.st_gid) != (uid, gid)
    {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(&handle, "", uid, gid, AtFlags::EMPTY_PATH).during("change owner of", path)?;
    }
    if let Some(mode) = mode {
        // fchmod refuses an O_PATH descriptor and fchmodat2 is younger than systemd 252's kernels: through procfs, whose
        // magic link leads to this very inode.
        rustix::fs::chmod(proc_path(&handle), Mode::from_raw_mode(mode)).during("change mode of", path)?;
    }
    Ok(())
}

/// A handle on what is at `path`, without following a last symlink or opening the file.
pub(super) fn pin(path: &Path) -> Result<(OwnedFd, Stat), FileError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(CWD, path, flags, Mode::empty()).during("open", path)?;
    let stat = rustix::fs::fstat(&handle).during("inspect", path)?;
    Ok((handle, stat))
}

/// The magic link to what `handle` refers to.
pub(super) fn proc_path(handle: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}
