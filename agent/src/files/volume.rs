//! The content of a ConfigMap, Secret, downward API or projected volume, in the layout of the kubelet's atomic writer:
//! `NAME -> ..data/NAME`, `..data -> ..2026_11_23_01_17_23.5`, so that a running container sees all old or all new files.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::write::{Access, create_new, fill, open_directory, unique};
use super::{During, FileError, directories, failpoint, names, read, remove};
use crate::reconcile::failpoint::crossing;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";
const DIRECTORY_MODE: u32 = 0o755;
const OPERATION: &str = "write the volume";

/// One file of a volume.
#[derive(Clone, Copy)]
pub(crate) struct VolumeFile<'a> {
    /// Inside of the volume.
    pub(crate) path: &'a str,
    pub(crate) content: &'a [u8],
    pub(crate) mode: u32,
    /// Its owner; None: the agent's user, root.
    pub(crate) uid: Option<u32>,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// The volume has new content.
    Changed,
    /// It had this content already; nothing was written.
    Unchanged,
}

/// The directory of one volume. Meant for /run: nothing waits for a disk.
#[derive(Debug)]
pub(crate) struct AtomicVolume {
    path: PathBuf,
}

impl AtomicVolume {
    /// The volume at `path`, whose parent has to exist.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Makes the volume hold exactly `files`, owned by the group `gid`. Cut short at any point it holds the old or the new
    /// ones, and the next write clears up; on an error (a full disk) the old ones stay.
    pub(crate) fn write(&self, files: &[VolumeFile<'_>], gid: Option<u32>) -> Result<Written, FileError> {
        self.check(files)?;
        directories::make_dirs(&self.path, DIRECTORY_MODE, None)?;
        let base = open_directory(&self.path)?;
        let current = self.current(&base);
        if let Some(current) = &current
            && self.holds(&base, current, files, gid)
        {
            self.show(&base, files)?;
            self.clean(&base, Some(current))?;
            return Ok(Written::Unchanged);
        }
        // First, so that what an earlier crash left does not take the space that this write needs.
        self.clean(&base, current.as_deref())?;
        let new = self.create(&base)?;
        crossing("content.directory-made");
        if let Err(error) = self.fill(&base, &new, files, gid).and_then(|()| self.switch(&base, &new)) {
            // What cannot be removed now is removed by the next write; the first error is the one to tell.
            remove::remove_tree_at(base.as_fd(), &new, &self.path.join(&new)).ok();
            return Err(error);
        }
        crossing("content.switched");
        self.show(&base, files)?;
        crossing("content.shown");
        self.clean(&base, Some(&new))?;
        Ok(Written::Changed)
    }

    fn check(&self, files: &[VolumeFile<'_>]) -> Result<(), FileError> {
        let paths: BTreeSet<&str> = files.iter().map(|file| file.path).collect();
        let bad = |path: &str, reason: &str| Err(FileError::unfit(OPERATION, self.path.join(path), reason));
        if paths.len() != files.len() {
            return bad("", "a path is there twice");
        }
        for path in &paths {
            let mut parts = path.split('/');
            if path.len() >= 4096 || parts.any(|part| matches!(part, "" | "." | "..") || part.len() > 255) {
                return bad(path, "a path in it is not relative and clean");
            }
            if path.starts_with("..") || path.contains('\0') {
                return bad(path, "a path in it begins with ..");
            }
            if path.match_indices('/').any(|(at, _)| paths.contains(&path[..at])) {
                return bad(path, "a path in it is a file and a directory");
            }
        }
        Ok(())
    }

    /// The directory that `..data` names, if it does so in our way.
    fn current(&self, base: &OwnedFd) -> Option<OsString> {
        let target = rustix::fs::readlinkat(base, DATA, Vec::new()).ok()?;
        let target = OsStr::from_bytes(target.as_bytes());
        is_version(target).then(|| target.to_owned())
    }

    /// Whether the directory holds these files and nothing else. Any doubt is a no: then it is written anew.
    fn holds(&self, base: &OwnedFd, current: &OsStr, files: &[VolumeFile<'_>], gid: Option<u32>) -> bool {
        let Ok(directory) = open_below(base, Path::new(current), OFlags::DIRECTORY) else { return false };
        let mut wanted_names = BTreeSet::new();
        for VolumeFile { path, content, mode, uid } in files {
            wanted_names.insert(PathBuf::from(path));
            wanted_names.extend(Path::new(path).ancestors().skip(1).map(Path::to_owned));
            let Ok(file) = open_below(&directory, Path::new(path), OFlags::NONBLOCK) else { return false };
            let Ok(stat) = rustix::fs::fstat(&file) else { return false };
            let same = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && stat.st_mode & 0o7777 == *mode & 0o7777
                && gid.is_none_or(|gid| gid == stat.st_gid)
                && uid.is_none_or(|uid| uid == stat.st_uid)
                && u64::try_from(stat.st_size).is_ok_and(|size| size == content.len() as u64)
                && read::read_all(&file, Path::new(path), content.len() as u64).is_ok_and(|found| found == *content);
            if !same {
                return false;
            }
        }
        wanted_names.insert(PathBuf::new());
        count(&directory, wanted_names.len()).is_some_and(|found| found + 1 == wanted_names.len())
    }

    fn create(&self, base: &OwnedFd) -> Result<OsString, FileError> {
        let time = jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S").to_string();
        loop {
            let name = OsString::from(format!("..{time}.{}", unique()));
            failpoint::hit("make directory").during(OPERATION, &self.path)?;
            match rustix::fs::mkdirat(base, &name, Mode::RWXU) {
                Ok(()) => return Ok(name),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error).during(OPERATION, self.path.join(name)),
            }
        }
    }

    fn fill(&self, base: &OwnedFd, new: &OsStr, files: &[VolumeFile<'_>], gid: Option<u32>) -> Result<(), FileError> {
        let root = open_below(base, Path::new(new), OFlags::DIRECTORY).during(OPERATION, &self.path)?;
        self.open_to_all(&root)?;
        for VolumeFile { path, content, mode, uid } in files {
            let path = Path::new(path);
            let here = self.path.join(path);
            let parent = self.make_parents(&root, path)?;
            let name = path.file_name().unwrap_or_default();
            create_new(parent.as_ref().unwrap_or(&root).as_fd(), name)
                .and_then(|file| fill(file, content, Access { mode: *mode, uid: *uid, gid }, false))
                .during(OPERATION, here)?;
        }
        Ok(())
    }

    fn make_parents(&self, root: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>, FileError> {
        let mut parent: Option<OwnedFd> = None;
        for part in path.parent().into_iter().flat_map(Path::components) {
            let above = parent.as_ref().unwrap_or(root);
            let part = Path::new(part.as_os_str());
            let made = match rustix::fs::mkdirat(above, part, Mode::RWXU) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(error) => return Err(error).during(OPERATION, self.path.join(path)),
            };
            let directory = open_below(above, part, OFlags::DIRECTORY).during(OPERATION, self.path.join(path))?;
            if made {
                self.open_to_all(&directory)?;
            }
            parent = Some(directory);
        }
        Ok(parent)
    }

    /// Exactly 0755, whatever the umask.
    fn open_to_all(&self, directory: &OwnedFd) -> Result<(), FileError> {
        rustix::fs::fchmod(directory, Mode::from_raw_mode(DIRECTORY_MODE)).during(OPERATION, &self.path)
    }

    /// The moment at which old becomes new.
    fn switch(&self, base: &OwnedFd, new: &OsStr) -> Result<(), FileError> {
        crossing("content.files-written");
        failpoint::hit("link data")
            .and_then(|()| rustix::fs::symlinkat(new, base, NEW_DATA))
            .and_then(|()| failpoint::hit("switch data"))
            .inspect(|()| crossing("content.data-linked"))
            .and_then(|()| match rustix::fs::renameat(base, NEW_DATA, base, DATA) {
                // Something that is no link of ours sits there.
                Err(Errno::ISDIR) => {
                    let path = self.path.join(DATA);
                    remove::remove_tree_at(base.as_fd(), OsStr::new(DATA), &path).map_err(|_| Errno::ISDIR)?;
                    rustix::fs::renameat(base, NEW_DATA, base, DATA)
                }
                result => result,
            })
            .during(OPERATION, self.path.join(DATA))
    }

    /// Makes the links that a container sees, and removes those of names that are gone.
    fn show(&self, base: &OwnedFd, files: &[VolumeFile<'_>]) -> Result<(), FileError> {
        let wanted: BTreeSet<&OsStr> =
            files.iter().filter_map(|file| file.path.split('/').next()).map(OsStr::new).collect();
        for name in names(base, usize::MAX).during(OPERATION, &self.path)? {
            // A directory is not of ours: systemd made it for a volume that is mounted below this one.
            let is_directory = || {
                rustix::fs::statat(base, &name, AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
            };
            if !name.as_bytes().starts_with(b"..") && !wanted.contains(name.as_os_str()) && !is_directory() {
                failpoint::hit("remove link").during(OPERATION, &self.path)?;
                remove::remove_tree_at(base.as_fd(), &name, &self.path.join(&name))?;
            }
        }
        for name in wanted {
            let target = link_target(name);
            let found = rustix::fs::readlinkat(base, name, Vec::new());
            if found.is_ok_and(|found| found.as_bytes() == target.as_bytes()) {
                continue;
            }
            failpoint::hit("make link").during(OPERATION, &self.path)?;
            remove::remove_tree_at(base.as_fd(), name, &self.path.join(name))?;
            rustix::fs::symlinkat(&target, base, name).during(OPERATION, self.path.join(name))?;
        }
        Ok(())
    }

    /// Removes every version but `current`, and what a crash left.
    fn clean(&self, base: &OwnedFd, current: Option<&OsStr>) -> Result<(), FileError> {
        for name in names(base, usize::MAX).during(OPERATION, &self.path)? {
            let stale = name.as_bytes().starts_with(b"..") && name != DATA && Some(name.as_os_str()) != current;
            if stale {
                failpoint::hit("remove old").during(OPERATION, &self.path)?;
                remove::remove_tree_at(base.as_fd(), &name, &self.path.join(&name))?;
            }
        }
        Ok(())
    }
}

fn is_version(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b"..") && name.len() > 2 && !name.contains(&b'/') && name != DATA.as_bytes()
}

fn link_target(name: &OsStr) -> OsString {
    let mut target = OsString::from(DATA);
    target.push("/");
    target.push(name);
    target
}

/// Opens for reading what is below a directory, through no symlink.
fn open_below(directory: &OwnedFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve)
}

/// How many entries there are in all levels below, if it can be told and is no more than `most`.
fn count(directory: &OwnedFd, most: usize) -> Option<usize> {
    let mut total = 0;
    for name in names(directory, most + 1).ok()? {
        total += 1;
        let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let below = open_below(directory, Path::new(&name), OFlags::DIRECTORY).ok()?;
            total += count(&below, most)?;
        }
        if total > most {
            return None;
        }
    }
    Some(total)
}
