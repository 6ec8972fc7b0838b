//! Why a package is not there: what the pod's status says, and the package manager's own last words.

use std::io;
use std::path::PathBuf;

use plan::image::simulation::PlanRefusal;

/// The pod's message carries at most this much of what the package manager printed.
const LAST_LINES: usize = 10;
const LAST_BYTES: usize = 2048;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PackageError {
    #[error("{name} is not a package name on this distribution")]
    InvalidName { name: String },
    #[error("this node installs {expected} files, not {found}")]
    WrongFormat { expected: &'static str, found: &'static str },
    #[error("{reference} is an OCI image, not a package")]
    NotAPackage { reference: String },
    #[error("{image} is not on the host and imagePullPolicy is Never")]
    NeverPull { image: String },
    #[error("{path} is not a file on this host")]
    NoSuchFile { path: String },
    #[error("no package is called {name}")]
    UnknownPackage { name: String },
    #[error("no version of {name} matches {wanted}; there is {}", available.join(", "))]
    NoSuchVersion { name: String, wanted: String, available: Vec<String> },
    #[error("installing {wanted} is refused: {refusal}")]
    Refused { wanted: String, refusal: PlanRefusal },
    #[error(
        "{name} {version} is in use by pod {pod}; version {wanted} is installed when that pod is gone \
         (one version of a package per node: set maxSurge: 0 if this pod is to replace it)"
    )]
    InUse { name: String, version: String, pod: String, wanted: String },
    #[error("the SHA-256 of {url} is {found}, not {expected}")]
    HashMismatch { url: String, expected: String, found: String },
    #[error("gave up waiting for {what}")]
    LockTimeout { what: String },
    #[error("the disk is full{}", after(lines))]
    NoSpace { lines: String },
    #[error("{step} failed{}", after(lines))]
    Failed { step: String, lines: String },
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl PackageError {
    /// The waiting reason of the container.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::InvalidName { .. } | Self::WrongFormat { .. } | Self::NotAPackage { .. } => "InvalidImageName",
            Self::NeverPull { .. } => "ErrImageNeverPull",
            Self::NoSuchFile { .. }
            | Self::UnknownPackage { .. }
            | Self::NoSuchVersion { .. }
            | Self::Refused { .. }
            | Self::InUse { .. }
            | Self::HashMismatch { .. }
            | Self::LockTimeout { .. }
            | Self::NoSpace { .. }
            | Self::Failed { .. }
            | Self::Io { .. } => "ErrImagePull",
        }
    }

    /// The failure of `step`, which printed `output`.
    pub(super) fn failed(step: impl Into<String>, output: &str) -> Self {
        let lines = last_lines(output);
        if output.contains("No space left on device") || output.contains("don't have enough free space") {
            return Self::NoSpace { lines };
        }
        Self::Failed { step: step.into(), lines }
    }

    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

fn after(lines: &str) -> String {
    if lines.is_empty() { String::new() } else { format!(": {lines}") }
}

/// The last non-empty lines without control characters: they come from maintainer scripts and end on terminals.
fn last_lines(output: &str) -> String {
    let lines: Vec<String> = output
        .lines()
        .rev()
        .map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>())
        .filter(|line| !line.trim().is_empty())
        .take(LAST_LINES)
        .collect();
    let mut text = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
    if text.len() > LAST_BYTES {
        let mut start = text.len() - LAST_BYTES;
        while !text.is_char_boundary(start) {
            start += 1;
        }
        text.drain(..start);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_short_and_plain() {
        let output = format!("{}\n\n\x1b[31mE: no\x07\r\nlast\n", "x\n".repeat(50));
        let lines = last_lines(&output);
        assert_eq!(lines.lines().count(), 10);
        assert!(lines.ends_with("[31mE: no\nlast"));
        assert!(last_lines(&"é".repeat(5000)).len() <= LAST_BYTES);
    }

    #[test]
    fn a_full_disk_is_recognised() {
        let error = PackageError::failed("install", "dpkg: error: failed to write: No space left on device\n");
        assert!(matches!(error, PackageError::NoSpace { .. }));
        assert_eq!(error.reason(), "ErrImagePull");
    }
}
