//! Directories named by the Launch: those given to the identity, and the working directory.
//!
//! Everything here happens inside the container's root, but as root and perhaps beside processes of the same container
//! (an earlier Exec line's, another container's on a shared volume), so no name is trusted to stay what it was: what is
//! changed is held open, and the magic links of /proc are never followed (CVE-2024-21626).

use std::os::fd::{AsFd, OwnedFd};

use plan::launch::Identity;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::failure::StepError;

/// Gives `path`, a directory and nothing below it, to `identity`. No component may be a symlink: the agent names these
/// directories itself, so one that is there was planted.
pub(super) fn give(path: &str, identity: &Identity) -> Result<(), StepError> {
    walk(path)
        .and_then(|fd| own(fd.as_fd(), identity))
        .map_err(|e| StepError::os("chown", e, format_args!("chown {path:?} to {}:{}", identity.uid, identity.gid)))
}

/// Opens `path` from the root, one component at a time, none of them a symlink. Not by `openat2`: `RestrictSUIDSGID=` of a
/// vendor's unit makes systemd answer that with ENOSYS, as its filter cannot look at the mode.
fn walk(path: &str) -> Result<OwnedFd, Errno> {
    let root = rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    path.split('/').filter(|name| !name.is_empty()).try_fold(root, |at, name| plain(&at, name))
}

/// One directory below another, if it is one and no symlink to one.
fn plain(at: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn own(fd: impl AsFd, identity: &Identity) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    rustix::fs::chownat(fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
}

/// Makes `path` where it is missing and goes there.
pub(super) fn enter(path: &str, owner: Option<&Identity>) -> Result<(), StepError> {
    let failed = |e| StepError::os("chdir", e, format_args!("chdir to working directory {path:?}"));
    if !path.starts_with('/') {
        return Err(StepError::refused("chdir", format!("working directory {path:?} is not an absolute path")));
    }
    let dir = match lookup(CWD, path) {
        // Following every symlink is safe here: nothing is changed, and where it led is looked at below.
        Err(Errno::NOSYS) => {
            match rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
                Err(Errno::NOENT) => make(path, owner).map_err(failed)?,
                found => found.map_err(failed)?,
            }
        }
        Err(Errno::NOENT) => make(path, owner).map_err(failed)?,
        found => found.map_err(failed)?,
    };
    rustix::process::fchdir(dir).map_err(failed)?;
    // The kernel answers "(unreachable)/…" where the directory is not below the root.
    let here = rustix::process::getcwd(Vec::new()).map_err(failed)?;
    if here.to_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(StepError::refused("chdir", format!("working directory {path:?} is outside the container's root")))
    }
}

fn lookup(at: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
    let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(at, path, dir, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
}

/// The next directory on a way that may have to be made: through symlinks, but where the kernel cannot be told to leave out
/// those of /proc, through none.
fn below(at: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    match lookup(at, name) {
        Err(Errno::NOSYS) => plain(at, name),
        found => found,
    }
}

/// `mkdir -p`, one held component at a time. What is made has mode 0755 whatever the unit's umask, and the owner.
fn make(path: &str, owner: Option<&Identity>) -> Result<OwnedFd, Errno> {
    let mut at = walk("/")?;
    for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
        at = match below(&at, name) {
            Err(Errno::NOENT) => make_one(&at, name, owner)?,
            found => found?,
        };
    }
    Ok(at)
}

fn make_one(at: &OwnedFd, name: &str, owner: Option<&Identity>) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o755)) {
        // Another container of the pod was quicker, or it is a symlink to nowhere, which the look-up reports.
        Err(Errno::EXIST) => return below(at, name),
        made => made?,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(at, name, flags, Mode::empty())?;
    rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755))?;
    if let Some(identity) = owner {
        rustix::fs::fchown(&dir, Some(Uid::from_raw(identity.uid)), Some(Gid::from_raw(identity.gid)))?;
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_goes_through_no_symlink() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("real/below")).unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        let path = |name: &str| base.join(name).to_str().unwrap().to_owned();
        assert!(walk(&path("real/below")).is_ok());
        assert_eq!(walk(&path("link/below")).unwrap_err(), Errno::NOTDIR);
        assert_eq!(walk(&path("link")).unwrap_err(), Errno::NOTDIR);
        assert_eq!(walk(&path("none")).unwrap_err(), Errno::NOENT);
    }
}
