//! Package files on the web.

use std::fmt;

use super::InvalidImage;

const MAX_URL: usize = 2048;

/// `https://…/x_1.2_amd64.deb`, optionally `#sha256=<64 hex digits>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageUrl {
    /// Without the fragment.
    pub url: String,
    /// What kind of package the suffix says it is.
    pub format: PackageFormat,
    /// What the file must hash to, in lower case; without it the user is warned.
    pub sha256: Option<String>,
}

/// The package formats, by suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackageFormat {
    /// `.deb`
    Deb,
    /// `.rpm`
    Rpm,
    /// `.pkg.tar.zst`
    Pacman,
}

impl PackageFormat {
    /// The file name's ending.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Deb => ".deb",
            Self::Rpm => ".rpm",
            Self::Pacman => ".pkg.tar.zst",
        }
    }
}

impl PackageUrl {
    /// `text` begins with `https://` and is printable ASCII.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidImage> {
        let invalid = |reason: &str| InvalidImage::new(text, reason);
        let (url, fragment) = match text.split_once('#') {
            Some((url, fragment)) => (url, Some(fragment)),
            None => (text, None),
        };
        if url.len() > MAX_URL {
            return Err(invalid("the URL is longer than 2048 bytes"));
        }
        if !url.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/?@!$&'()*+,;=%".contains(&byte)) {
            return Err(invalid("the URL holds a character that must be percent-encoded"));
        }
        let rest = url.trim_start_matches("https://");
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.contains('@') {
            return Err(invalid("the URL holds credentials, which everyone who can read the pod would see"));
        }
        if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte)) {
            return Err(invalid("the URL has no host"));
        }
        let file = path.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let format = [PackageFormat::Deb, PackageFormat::Rpm, PackageFormat::Pacman]
            .into_iter()
            .find(|format| file.strip_suffix(format.suffix()).is_some_and(|stem| !stem.is_empty()))
            .ok_or_else(|| invalid("the URL must end in .deb, .rpm or .pkg.tar.zst"))?;
        let sha256 = match fragment.map(|fragment| fragment.strip_prefix("sha256=")) {
            None => None,
            Some(Some(hex)) if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Some(hex.to_ascii_lowercase())
            }
            Some(_) => return Err(invalid("after # only sha256= and 64 hexadecimal digits may follow")),
        };
        Ok(Self { url: url.to_owned(), format, sha256 })
    }
}

impl fmt::Display for PackageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)?;
        match &self.sha256 {
            Some(sha256) => write!(f, "#sha256={sha256}"),
            None => Ok(()),
        }
    }
}
