//! Image references: what a container's `image:` says, without asking anybody.
//!
//! Takes the text and how the node reads bare names; gives an [`ImageRef`] whose parts match strict patterns, or why not.
//! Never looks anything up: a name that parses need not exist. In particular `bash-` parses (Debian's `g++` shows that a
//! name may end so), though apt would read it as *remove bash*: installing checks that the exact name is known, and
//! [`simulation::InstallPlan::check`] refuses a plan that removes something or misses the name.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::oci::Reference;

pub mod apt;
pub mod dnf;
pub mod manager;
mod oci;
pub mod os_release;
pub mod pacman;
pub mod policy;
pub mod simulation;
pub mod units;
mod url;
mod version;
pub mod zypper;

pub use manager::Manager;
pub use policy::PullPolicy;
pub use url::{PackageFormat, PackageUrl};
pub use version::VersionPin;

/// The longest image that is read at all; the API server has no limit of its own.
const MAX_IMAGE: usize = 4096;
/// The longest package name: a file name must hold it. Debian's longest is about 80.
const MAX_NAME: usize = 128;

/// How a node reads a name without a host or scheme (`--unqualified-images`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unqualified {
    /// `nginx` is the distribution's package.
    #[default]
    Package,
    /// `nginx` is `docker.io/library/nginx`, for charts written that way.
    Oci,
}

/// A parsed image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageRef {
    /// A package of the distribution: `nginx`, `nginx=1.22.1-9*`, `nginx:1.22.1`, `package://nginx`.
    Package(PackageRef),
    /// A package file: `https://…/x_1.2_amd64.deb#sha256=…`.
    Url(PackageUrl),
    /// A file that is already on the host: `/usr/bin/foo`.
    Path(String),
    /// An OCI image with its host written out: `docker.io/library/nginx:1.27`.
    Oci(Reference),
}

/// A package's name and which versions will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageRef {
    /// Matches the union of the distributions' patterns; [`Manager::accepts_name`] is the strict one.
    pub name: String,
    /// Which versions will do.
    pub version: VersionPin,
}

/// Why an image is not one; the pod's reason is `InvalidImageName`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct InvalidImage {
    /// What was written, shortened and with control characters escaped.
    pub image: String,
    /// What is wrong with it.
    pub reason: String,
    /// What was probably meant, if that is clear.
    pub hint: Option<String>,
}

impl fmt::Display for InvalidImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "image \"{}\": {}", self.image, self.reason)?;
        match &self.hint {
            Some(hint) => write!(f, "; write {hint}"),
            None => Ok(()),
        }
    }
}

impl InvalidImage {
    fn new(image: &str, reason: impl Into<String>) -> Self {
        let mut shown: String = image.chars().take(200).flat_map(char::escape_debug).collect();
        if image.chars().nth(200).is_some() {
            shown.push('…');
        }
        Self { image: shown, reason: reason.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl ImageRef {
    /// Reads `text` as a node that treats bare names as `unqualified` does.
    ///
    /// # Errors
    /// [`InvalidImage`] when the text is no image, or could be two.
    pub fn parse(text: &str, unqualified: Unqualified) -> Result<Self, InvalidImage> {
        let invalid = |reason: &str| InvalidImage::new(text, reason);
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        if text.len() > MAX_IMAGE {
            return Err(invalid("it is longer than 4096 bytes"));
        }
        if text.starts_with('/') {
            return path(text);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid("only printable ASCII characters without blanks are allowed"));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return match scheme {
                "https" => PackageUrl::parse(text).map(Self::Url),
                "http" => {
                    Err(invalid("packages are not fetched over plain http, anybody on the way could replace them")
                        .hint(format!("https://{rest}")))
                }
                "package" => package(text, rest).map(Self::Package),
                "oci" => oci::normalize(text, rest).map(Self::Oci),
                "deb" => Err(invalid("deb:// is not a scheme").hint(format!("https://{rest}"))),
                _ => Err(invalid("the scheme is none of https, package and oci")),
            };
        }
        if text.starts_with('.') {
            return Err(invalid("a path on the host must be absolute"));
        }
        if let Some((first, _)) = text.split_once('/') {
            return match (oci::is_host(first), unqualified) {
                (true, _) | (false, Unqualified::Oci) => oci::normalize(text, text).map(Self::Oci),
                (false, Unqualified::Package) => {
                    Err(invalid("it names no registry host, and a package's name has no /")
                        .hint(format!("docker.io/{text}")))
                }
            };
        }
        match unqualified {
            Unqualified::Package => package(text, text).map(Self::Package),
            Unqualified::Oci if text.contains('=') => {
                Err(invalid("on this node a bare name is an OCI image, which has no =")
                    .hint(format!("package://{text}")))
            }
            Unqualified::Oci => oci::normalize(text, text).map(Self::Oci),
        }
    }
}

/// The canonical form, which parses to the same value on any node.
impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(package) => write!(f, "package://{package}"),
            Self::Url(url) => url.fmt(f),
            Self::Path(path) => f.write_str(path),
            Self::Oci(reference) => write!(f, "oci://{reference}"),
        }
    }
}

impl fmt::Display for PackageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, self.version)
    }
}

fn path(text: &str) -> Result<ImageRef, InvalidImage> {
    let invalid = |reason: &str| Err(InvalidImage::new(text, reason));
    if text.chars().any(char::is_control) {
        return invalid("a path with control characters cannot be written into a unit");
    }
    if text[1..].split('/').any(|part| matches!(part, "" | "." | "..")) {
        return invalid("the path is not clean: it must name a file, without //, . or ..");
    }
    Ok(ImageRef::Path(text.to_owned()))
}

/// `name`, `name=version` or `name:version`; `rest` is `text` without its scheme.
fn package(text: &str, rest: &str) -> Result<PackageRef, InvalidImage> {
    if rest.contains('@') {
        return Err(InvalidImage::new(text, "a package has no digest").hint(format!("docker.io/library/{rest}")));
    }
    // `=` first: its version may hold a colon (an epoch), the one after a colon may not hold another.
    let (name, version) = match (rest.split_once('='), rest.split_once(':')) {
        (Some((name, version)), _) => (name, VersionPin::parse_pin(text, version)?),
        (None, Some((name, version))) => (name, VersionPin::parse_tag(text, name, version)?),
        (None, None) => (rest, VersionPin::Any),
    };
    if !is_name(name) {
        return Err(InvalidImage::new(
            text,
            "a package's name begins with a letter or digit and holds only letters, digits and + - . _ (128 at most)",
        ));
    }
    Ok(PackageRef { name: name.to_owned(), version })
}

/// What any of the supported distributions would call a package.
fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte))
}

#[cfg(test)]
mod tests;
