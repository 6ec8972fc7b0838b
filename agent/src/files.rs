//! Every file effect of the agent: crash-safe writing, volume contents, removal that never leaves its tree, private tmpfs
//! mounts, what the host has at a path, versioned state and the lock of the one agent. Takes paths and bytes, gives typed
//! errors that name the operation and the path; never decides what is written where.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

mod directories;
mod failpoint;
mod host_path;
mod lock;
mod read;
mod read_only;
mod remove;
mod state;
mod tmpfs;
mod volume;
mod write;

pub(crate) use directories::{
    Owner, make_dirs, make_dirs_beneath, make_file_beneath, remove_dir_beneath, set_owner_and_mode,
};
pub(crate) use host_path::lookup_host_path;
pub(crate) use lock::Lock;
pub(crate) use read::{read_beneath, read_bounded};
pub(crate) use read_only::{View, release_views, viewable};
pub(crate) use remove::{RemoveError, remove_tree};
pub(crate) use state::{State, StateFile};
pub(crate) use tmpfs::{ensure_tmpfs, unmount};
pub(crate) use volume::{AtomicVolume, VolumeFile};
pub(crate) use write::{remove_temporaries, write_atomic, write_volatile};
#[cfg(test)]
pub(crate) use {host_path::lookup_host_path_below, state::Loaded, tmpfs::Mounted, volume::Written};

/// What could not be done to which file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The kernel said no.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried: a verb, fit for "cannot …".
        operation: &'static str,
        /// To which path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It is there and it is not what it has to be; nothing was changed.
    #[error("cannot {operation} {}: {reason}", path.display())]
    Unfit {
        /// What was tried.
        operation: &'static str,
        /// To which path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is longer than the caller allows.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that was allowed.
        limit: u64,
    },
    /// Another agent holds the lock.
    #[error("another systemk (pid {pid}) is running; {} is its lock", path.display())]
    Locked {
        /// Its process, as the lock file says; `?` when the file does not say.
        pid: String,
        /// The lock file.
        path: PathBuf,
    },
}

impl FileError {
    /// The file system or the user's quota is full: trying again later can help, another path cannot.
    pub(crate) fn is_no_space(&self) -> bool {
        matches!(self.errno(), Some(Errno::NOSPC | Errno::DQUOT))
    }

    /// Nothing is at that path.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self.errno(), Some(Errno::NOENT | Errno::NOTDIR))
    }

    fn errno(&self) -> Option<Errno> {
        match self {
            Self::Io { source, .. } => Errno::from_io_error(source),
            Self::Unfit { .. } | Self::TooLarge { .. } | Self::Locked { .. } => None,
        }
    }

    fn unfit(operation: &'static str, path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Unfit { operation, path: path.as_ref().to_owned(), reason: reason.into() }
    }
}

/// Adds the operation and the path to an error of the kernel.
trait During<T> {
    fn during(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T, FileError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T, FileError> {
        self.map_err(|source| FileError::Io { operation, path: path.as_ref().to_owned(), source: source.into() })
    }
}

/// The directory that holds `path`, and its last component.
fn split<'a>(operation: &'static str, path: &'a Path) -> Result<(&'a Path, &'a OsStr), FileError> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((if parent.as_os_str().is_empty() { Path::new(".") } else { parent }, name)),
        _ => Err(FileError::unfit(operation, path, "it has no last component")),
    }
}

fn is_dots(name: &[u8]) -> bool {
    name == b"." || name == b".."
}

/// The names in a directory, at most `most` of them, without `.` and `..`.
fn names(directory: impl rustix::fd::AsFd, most: usize) -> rustix::io::Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if is_dots(name) {
            continue;
        }
        if names.len() == most {
            break;
        }
        names.push(OsStr::from_bytes(name).to_owned());
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
