//! The tmpfs of an `emptyDir` with `medium: Memory` and a size limit.

use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::directories::{pin, proc_path};
use super::{During, FileError};

/// Of a handle, without asking a server that may be dead what its file system knows anyway.
pub(super) const UNASKED: AtFlags = AtFlags::EMPTY_PATH.union(AtFlags::STATX_DONT_SYNC);

const TMPFS_MAGIC: u64 = 0x0102_1994;

/// What [`ensure_tmpfs`] had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mounted {
    /// It was mounted now.
    New,
    /// It was there with another size.
    Resized,
    /// It was there as wanted.
    Unchanged,
}

/// Makes the directory `path` a tmpfs of `size_bytes`. The mount goes onto the very directory that was checked, so a
/// symlink put in its place meanwhile is not followed.
pub(crate) fn ensure_tmpfs(path: &Path, size_bytes: u64, mode: u32) -> Result<Mounted, FileError> {
    let operation = "mount a tmpfs at";
    if size_bytes == 0 {
        return Err(FileError::unfit(operation, path, "a size of 0 would mean no limit"));
    }
    let (directory, stat) = pin(path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(FileError::unfit(operation, path, "it is not a directory"));
    }
    let target = proc_path(&directory);
    let options = std::ffi::CString::new(format!("size={size_bytes},mode={:o}", mode & 0o7777)).unwrap_or_default();
    if !is_mount_root(&directory, path)? {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("tmpfs", &target, "tmpfs", flags, Some(options.as_c_str())).during(operation, path)?;
        return Ok(Mounted::New);
    }
    let system = rustix::fs::fstatfs(&directory).during("inspect", path)?;
    if u64::try_from(system.f_type).ok() != Some(TMPFS_MAGIC) {
        return Err(FileError::unfit(operation, path, "something else is mounted there"));
    }
    // The kernel rounds up to whole blocks, which are pages here.
    let block = u64::try_from(system.f_bsize).unwrap_or_default().max(1);
    if system.f_blocks == size_bytes.div_ceil(block) {
        return Ok(Mounted::Unchanged);
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let options = std::ffi::CString::new(format!("size={size_bytes}")).unwrap_or_default();
    rustix::mount::mount_remount(&target, flags, options.as_c_str()).during("resize the tmpfs at", path)?;
    Ok(Mounted::Resized)
}

/// Takes away what is mounted at `path`; true if there was something. A mount that is in use goes away with its last user.
pub(crate) fn unmount(path: &Path) -> Result<bool, FileError> {
    let (handle, _) = match pin(path) {
        Ok(pinned) => pinned,
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error),
    };
    if !is_mount_root(&handle, path)? {
        return Ok(false);
    }
    // The handle itself would keep the mount busy.
    drop(handle);
    match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(true),
        Err(Errno::BUSY) => {
            let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
            rustix::mount::unmount(path, flags).during("unmount", path)?;
            Ok(true)
        }
        Err(Errno::INVAL) => Ok(false),
        Err(error) => Err(error).during("unmount", path),
    }
}

pub(super) fn is_mount_root(handle: &OwnedFd, path: &Path) -> Result<bool, FileError> {
    let stat = rustix::fs::statx(handle, "", UNASKED, StatxFlags::empty()).during("inspect", path)?;
    if !stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(FileError::unfit("inspect", path, "this kernel does not tell mount points (5.8 and later do)"));
    }
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
