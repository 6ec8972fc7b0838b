//! What an unpacker makes of one entry of a layer's tar: something of a clean path below the root, or nothing.
//!
//! image-spec 1.1, "Image Layer Filesystem Changeset", for what entries and whiteouts mean; the form on disk is what
//! overlayfs reads (kernel, `Documentation/filesystems/overlayfs.rst`): a whiteout is a character device 0:0, an opaque
//! directory has an attribute. The unpacker resolves what this gives below a directory descriptor, never following a link
//! out of it: paths are clean here, but what lies under them is the layer's own doing.

use std::fmt;

pub mod budget;

/// The longest path of an entry or of a link's target, in bytes (Linux: PATH_MAX with its NUL).
pub const MAX_PATH: usize = 4095;
/// The longest name in it (Linux: NAME_MAX).
pub const MAX_COMPONENT: usize = 255;
/// The deepest path; a tree that is deeper could not be removed again by tools that recurse.
pub const MAX_DEPTH: usize = 256;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What aufs keeps for itself (`.wh..wh.plnk`, `.wh..wh.aufs`); nobody else reads it.
const AUFS: &[u8] = b".wh..wh.";

/// What the tar says a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file with contents.
    Regular,
    /// Another name of a file that is there already.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
    /// Anything else, by its type byte.
    Other(u8),
}

/// An entry as the tar has it, extended headers applied.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// As written, maybe with `./` or `/` before it.
    pub path: &'a [u8],
    /// What it is.
    pub kind: Kind,
    /// A link's target.
    pub link: &'a [u8],
    /// The mode's lower bits; those above 07777 are not looked at.
    pub mode: u32,
    /// The owner.
    pub uid: u64,
    /// The group.
    pub gid: u64,
}

/// A path below the layer's root: names without `/`, none of them empty, `.` or `..`. Empty: the root itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanPath(Vec<Vec<u8>>);

impl CleanPath {
    /// The directories that lead there.
    pub fn parents(&self) -> &[Vec<u8>] {
        self.0.split_last().map_or(&[], |(_, parents)| parents)
    }

    /// Its last name; None: it is the root.
    pub fn name(&self) -> Option<&[u8]> {
        self.0.last().map(Vec::as_slice)
    }

    /// All of it, relative to the root; empty for the root.
    pub fn joined(&self) -> Vec<u8> {
        self.0.join(&b'/')
    }

    /// `..` is refused wherever it stands: `a/../b` is `b` only where `a` is no link.
    fn of(path: &[u8]) -> Result<Self, Problem> {
        if path.len() > MAX_PATH {
            return Err(Problem::TooLong);
        }
        if path.contains(&0) {
            return Err(Problem::Nul);
        }
        let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
        let names: Vec<Vec<u8>> = names.map(<[u8]>::to_vec).collect();
        if names.iter().any(|name| name == b"..") {
            return Err(Problem::Upwards);
        }
        if names.iter().any(|name| name.len() > MAX_COMPONENT) {
            return Err(Problem::TooLong);
        }
        if names.len() > MAX_DEPTH {
            return Err(Problem::TooDeep);
        }
        Ok(Self(names))
    }

    fn parent(mut self) -> Self {
        self.0.pop();
        self
    }

    fn sibling(&self, name: &[u8]) -> Self {
        let mut sibling = self.clone().parent();
        sibling.0.push(name.to_vec());
        sibling
    }
}

/// For people: what does not print is escaped.
impl fmt::Display for CleanPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", shown(&self.joined()))
    }
}

/// What to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Make {
    /// A directory; one that is there is kept with what is in it and given the entry's attributes.
    Directory,
    /// A file with the entry's contents, in place of whatever is there but a directory with something in it.
    File,
    /// A link to that text, which means something only inside the container.
    Symlink(Vec<u8>),
    /// One more name for that file of the same layer.
    HardLink(CleanPath),
    /// A named pipe.
    Fifo,
    /// Hides what the layers below have of that name: a character device 0:0.
    Whiteout,
    /// The directory hides all that the layers below have in it.
    Opaque,
}

/// What becomes of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make it, with that owner and mode.
    Make {
        /// Where; of a whiteout what it hides, of an opaque directory the directory.
        path: CleanPath,
        /// What.
        make: Make,
        /// Permission bits and set-id bits, 07777 at most.
        mode: u32,
        /// The owner.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// Nothing: it is of no use to a container.
    Skip,
}

/// An entry that no honest image has: the whole layer is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its entry \"{path}\" {problem}")]
pub struct Refused {
    /// Which one, shortened and with control characters escaped.
    pub path: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// `..`.
    #[error("leads upwards")]
    Upwards,
    /// A NUL.
    #[error("has a NUL in its path")]
    Nul,
    /// Over [`MAX_PATH`] or [`MAX_COMPONENT`].
    #[error("is longer than a path may be")]
    TooLong,
    /// Over [`MAX_DEPTH`].
    #[error("is deeper than {MAX_DEPTH} directories")]
    TooDeep,
    /// The root as something else.
    #[error("replaces the root directory")]
    Root,
    /// `.wh.`, `.wh..`, `.wh...`, or below such a name.
    #[error("is a whiteout of nothing")]
    Whiteout,
    /// A link without a target.
    #[error("is a link to nothing")]
    Link,
    /// A target that leads out.
    #[error("is a hard link that leads upwards or is too long")]
    HardLink,
    /// A device that is not below `/dev`.
    #[error("is a device: a container gets its devices from the node, not from its image")]
    Device,
    /// An owner that the kernel does not know.
    #[error("has an owner that is no id of Linux")]
    Owner,
    /// A kind that no layer has.
    #[error("is of the unknown kind {0:#04x}")]
    Kind(u8),
}

impl Entry<'_> {
    /// What becomes of it.
    ///
    /// # Errors
    /// [`Refused`]: which entry, and what is wrong with it.
    pub fn action(&self) -> Result<Action, Refused> {
        self.judge().map_err(|problem| Refused { path: shown(self.path), problem })
    }

    fn judge(&self) -> Result<Action, Problem> {
        let path = CleanPath::of(self.path)?;
        if path.parents().iter().any(|parent| parent.starts_with(WHITEOUT)) {
            // Inside aufs' own directories there is nothing of the image's.
            let is_aufs = path.parents().iter().any(|parent| parent.starts_with(AUFS));
            return if is_aufs { Ok(Action::Skip) } else { Err(Problem::Whiteout) };
        }
        let Some(name) = path.name() else {
            // The root's own mode and owner; as anything else it would be a way to swap it.
            return if self.kind == Kind::Directory { self.made(path, Make::Directory) } else { Err(Problem::Root) };
        };
        if name.starts_with(WHITEOUT) {
            return self.whiteout(&path, name);
        }
        let make = match self.kind {
            Kind::Regular => Make::File,
            Kind::Directory => Make::Directory,
            Kind::Fifo => Make::Fifo,
            Kind::Symlink => Make::Symlink(self.target()?.to_vec()),
            Kind::HardLink => {
                let target = CleanPath::of(self.target()?).map_err(|_| Problem::HardLink)?;
                // A whiteout that a link names would be another one, and the root is no file.
                if target.0.iter().any(|name| name.starts_with(WHITEOUT)) || target.name().is_none() {
                    return Err(Problem::HardLink);
                }
                Make::HardLink(target)
            }
            // Images made from a whole root have some there, where the container's own /dev covers them. Elsewhere one is a
            // door to the host's disk, or, as 0:0, a whiteout that the format does not know.
            Kind::Character | Kind::Block if path.0[0] == b"dev" => return Ok(Action::Skip),
            Kind::Character | Kind::Block => return Err(Problem::Device),
            Kind::Other(kind) => return Err(Problem::Kind(kind)),
        };
        self.made(path, make)
    }

    /// Of an entry whose name begins with `.wh.`, whatever it is.
    fn whiteout(&self, path: &CleanPath, name: &[u8]) -> Result<Action, Problem> {
        if name == OPAQUE {
            return self.made(path.clone().parent(), Make::Opaque);
        }
        if name.starts_with(AUFS) {
            return Ok(Action::Skip);
        }
        match name.strip_prefix(WHITEOUT) {
            None | Some(b"" | b"." | b"..") => Err(Problem::Whiteout),
            Some(hidden) => self.made(path.sibling(hidden), Make::Whiteout),
        }
    }

    fn made(&self, path: CleanPath, make: Make) -> Result<Action, Problem> {
        // -1 means "do not change" to chown.
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or(Problem::Owner);
        Ok(Action::Make { path, make, mode: self.mode & 0o7777, uid: id(self.uid)?, gid: id(self.gid)? })
    }

    fn target(&self) -> Result<&[u8], Problem> {
        match self.link {
            [] => Err(Problem::Link),
            link if link.contains(&0) => Err(Problem::Nul),
            link if link.len() > MAX_PATH => Err(Problem::TooLong),
            link => Ok(link),
        }
    }
}

/// Whether an extended attribute is the image's to set. `trusted.*` is overlayfs' own and would make a file of the layer
/// stand for another; labels are the node's.
pub fn is_attribute(name: &[u8]) -> bool {
    let is_acl = matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default");
    let is_user = name.strip_prefix(b"user.").is_some_and(|rest| !rest.is_empty() && !rest.starts_with(b"overlay."));
    name.len() <= MAX_COMPONENT && !name.contains(&0) && (is_acl || is_user || name == b"security.capability")
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown: String = text.chars().take(200).flat_map(char::escape_debug).collect();
    if text.chars().nth(200).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests;
