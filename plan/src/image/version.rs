//! Version pins: what follows a package's name.

use std::fmt;

use super::InvalidImage;

/// The longest version; Debian's longest are about 60.
const MAX_VERSION: usize = 128;

/// Which versions of a package will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionPin {
    /// Nothing said, or `:latest`.
    Any,
    /// `=1.22.1-9`: this one, epoch and revision included.
    Exact(String),
    /// `=1.22*`: any that begins so.
    Prefix(String),
    /// `:1.22.1`: the upstream version, or the whole version without its epoch; people write what the project calls it.
    Upstream(String),
}

impl VersionPin {
    /// After `=`.
    pub(super) fn parse_pin(image: &str, text: &str) -> Result<Self, InvalidImage> {
        let (stem, glob) = match text.strip_suffix('*') {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        if !is_version(stem) {
            return Err(invalid(image));
        }
        Ok(if glob { Self::Prefix(stem.to_owned()) } else { Self::Exact(stem.to_owned()) })
    }

    /// After `:`, where a second colon would be an epoch or an architecture, and is refused.
    pub(super) fn parse_tag(image: &str, name: &str, text: &str) -> Result<Self, InvalidImage> {
        if text.contains(':') {
            return Err(InvalidImage::new(image, "after : comes a version, which has no second : (an epoch needs =)")
                .hint(format!("{name}={text}")));
        }
        if text.ends_with('*') {
            return Err(InvalidImage::new(image, "a * needs =").hint(format!("{name}={text}")));
        }
        if !is_version(text) {
            return Err(invalid(image));
        }
        Ok(if text == "latest" { Self::Any } else { Self::Upstream(text.to_owned()) })
    }

    /// Whether `version`, as the package manager writes it, will do.
    pub fn matches(&self, version: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => version == exact,
            Self::Prefix(prefix) => version.starts_with(prefix.as_str()),
            Self::Upstream(upstream) => {
                let plain = version.split_once(':').map_or(version, |(_, plain)| plain);
                plain == upstream || plain.rsplit_once('-').is_some_and(|(stem, _)| stem == upstream)
            }
        }
    }

    /// Whether the pod asked for something particular: only then may a package go back to an older version.
    pub fn is_explicit(&self) -> bool {
        *self != Self::Any
    }
}

impl fmt::Display for VersionPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Exact(version) => write!(f, "={version}"),
            Self::Prefix(version) => write!(f, "={version}*"),
            Self::Upstream(version) => write!(f, ":{version}"),
        }
    }
}

fn invalid(image: &str) -> InvalidImage {
    InvalidImage::new(
        image,
        "a version begins with a letter or digit and holds only letters, digits and . + ~ : ^ _ - (128 at most)",
    )
}

/// Debian's characters, and `^` and `_` of RPM and pacman.
fn is_version(text: &str) -> bool {
    text.len() <= MAX_VERSION
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+~:^_-".contains(&byte))
}
