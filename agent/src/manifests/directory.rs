//! The files of one directory as they were last read: the last good content of each, and what is wrong with it now.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use plan::manifest::{self, Manifest};
use sha2::{Digest, Sha256};

use super::yaml;
use crate::files::{FileError, read_bounded};

/// Each file is a pod, and no node runs as many.
const MOST_FILES: usize = 4096;

/// One file.
#[derive(Debug, Default)]
pub(super) struct ManifestFile {
    digest: Option<[u8; 32]>,
    /// What it said when it was last all right.
    pub(super) good: Manifest,
    /// Why what it says now is not used.
    pub(super) errors: Vec<String>,
}

/// One directory.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) files: BTreeMap<OsString, ManifestFile>,
    /// The directory itself cannot be read.
    pub(super) error: Option<String>,
}

/// Editors' and our own temporary files end otherwise or begin with a dot or a hash.
pub(super) fn is_manifest(name: &OsStr) -> bool {
    let hidden = name.as_bytes().starts_with(b".") || name.as_bytes().starts_with(b"#");
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, files: BTreeMap::new(), error: None }
    }

    /// Reads all of it anew; true if that changed anything.
    pub(super) fn rescan(&mut self, node_name: &str) -> bool {
        let (names, error) = match list(&self.path) {
            Ok(names) => (names, None),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (Vec::new(), None),
            Err(error) => {
                // Nothing is known, so nothing is taken away.
                let error = Some(format!("cannot list it: {error}"));
                let changed = self.error != error;
                self.error = error;
                return changed;
            }
        };
        let error = error.or_else(|| {
            (names.len() > MOST_FILES).then(|| format!("it has more than {MOST_FILES} manifests; the rest is not read"))
        });
        let mut changed = self.error != error;
        self.error = error;
        let before = self.files.len();
        self.files.retain(|name, _| names.contains(name));
        changed |= self.files.len() != before;
        for name in names.iter().take(MOST_FILES) {
            changed |= self.read(name, node_name);
        }
        changed
    }

    /// Reads one file anew; true if that changed anything.
    pub(super) fn read(&mut self, name: &OsStr, node_name: &str) -> bool {
        let bytes = match read_bounded(&self.path.join(name), yaml::LARGEST) {
            Ok(bytes) => bytes,
            // Gone, or a link to nothing: its pods are no longer wanted.
            Err(error) if error.is_not_found() => return self.files.remove(name).is_some(),
            Err(error) => {
                let file = self.files.entry(name.to_owned()).or_default();
                let errors = vec![reason(&error)];
                let changed = file.errors != errors;
                file.errors = errors;
                file.digest = None;
                return changed;
            }
        };
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let new = !self.files.contains_key(name);
        let file = self.files.entry(name.to_owned()).or_default();
        if file.digest == Some(digest) {
            return false;
        }
        file.digest = Some(digest);
        match parse(&bytes, node_name) {
            Ok(manifest) => {
                let changed = new || file.good != manifest || !file.errors.is_empty();
                file.good = manifest;
                file.errors.clear();
                changed
            }
            Err(errors) => {
                let changed = file.errors != errors;
                file.errors = errors;
                changed
            }
        }
    }
}

fn list(path: &Path) -> std::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        if is_manifest(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn parse(bytes: &[u8], node_name: &str) -> Result<Manifest, Vec<String>> {
    let text = std::str::from_utf8(bytes).map_err(|error| vec![format!("it is not UTF-8: {error}")])?;
    let documents = yaml::documents(text).map_err(|error| vec![error])?;
    manifest::parse(&documents, node_name).map_err(|refusals| refusals.iter().map(ToString::to_string).collect())
}

/// An error with the kernel's words; the path is told beside it.
fn reason(error: &FileError) -> String {
    match error {
        FileError::Io { operation, source, .. } => format!("cannot {operation} it: {source}"),
        FileError::Unfit { operation, reason, .. } => format!("cannot {operation} it: {reason}"),
        FileError::TooLarge { limit, .. } => format!("it is larger than {limit} bytes"),
        other @ FileError::Locked { .. } => other.to_string(),
    }
}
