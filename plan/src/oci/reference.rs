//! What an image is called: `host[:port]/name[/name…][:tag][@algorithm:hex]`, with the host written out.
//!
//! The grammar is distribution's `reference` package; how a shorter text becomes this is [`crate::image::ImageRef`]'s.

use std::fmt;
use std::str::FromStr;

use super::Digest;

/// Distribution's limit of a repository's name.
const MAX_NAME: usize = 255;
/// Distribution's limit of a tag.
const MAX_TAG: usize = 128;

/// A full reference. With a digest the tag says nothing about what is pulled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// It does not match the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not an OCI reference (host/name, then :tag or @sha256:digest)")]
pub struct InvalidReference;

impl Reference {
    /// The registry's host and port as written: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Where it is there: `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag that was written, if one was.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that was written: the only content that will do.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What a registry is asked for: the digest, else the tag, else `latest`.
    pub fn identifier(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// Registry and repository, which credentials are for: `docker.io/library/nginx`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// With the tag that is meant where none and no digest was written.
    pub fn with_default_tag(mut self) -> Self {
        if self.digest.is_none() && self.tag.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// The same image by its content.
    pub fn by_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(full: &str) -> Result<Self, InvalidReference> {
        let (rest, digest) = match full.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| InvalidReference)?)),
            None => (full, None),
        };
        let (registry, rest) = rest.split_once('/').ok_or(InvalidReference)?;
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        let fits = is_registry(registry)
            && repository.len() <= MAX_NAME
            && repository.split('/').all(is_component)
            && tag.is_none_or(is_tag);
        if !fits {
            return Err(InvalidReference);
        }
        let (registry, repository) = (registry.to_owned(), repository.to_owned());
        Ok(Self { registry, repository, tag: tag.map(str::to_owned), digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

fn is_registry(host: &str) -> bool {
    let is_port = |port: &str| {
        port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let is_end = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<std::net::Ipv6Addr>().is_ok() && is_end;
    }
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= MAX_NAME && name.split('.').all(is_label) && port.is_none_or(is_port)
}

/// Words of lower-case letters and digits; between two of them one `.`, one or two `_`, or any number of `-`.
fn is_component(part: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let starts_and_ends = part.starts_with(is_word) && part.ends_with(is_word);
    let is_separator = |run: &str| run.is_empty() || matches!(run, "." | "_" | "__") || run.bytes().all(|b| b == b'-');
    starts_and_ends && part.split(is_word).all(is_separator)
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= MAX_TAG
        && tag.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Reference, InvalidReference> {
        text.parse()
    }

    #[test]
    fn parts_are_found_and_written_as_they_were() {
        let hex = "a".repeat(64);
        let full = format!("localhost:5000/team/app__x/a-b.c:1.2_3-x@sha256:{hex}");
        let reference = parse(&full).unwrap();
        assert_eq!(reference.to_string(), full);
        assert_eq!((reference.registry(), reference.repository()), ("localhost:5000", "team/app__x/a-b.c"));
        assert_eq!((reference.tag(), reference.digest().unwrap().hex()), (Some("1.2_3-x"), hex.as_str()));
        assert_eq!(reference.identifier(), format!("sha256:{hex}"));
        assert_eq!(reference.name(), "localhost:5000/team/app__x/a-b.c");
        let bare = parse("docker.io/library/nginx").unwrap();
        assert_eq!((bare.identifier().as_str(), bare.tag()), ("latest", None));
        assert_eq!(bare.clone().with_default_tag().to_string(), "docker.io/library/nginx:latest");
        assert_eq!(bare.by_digest(Digest::of(b"")).identifier(), Digest::of(b"").to_string());
        assert_eq!(parse("[::1]:5000/a").unwrap().registry(), "[::1]:5000");
    }

    #[test]
    fn hostile_ones_are_none() {
        let long = format!("docker.io/{}", "a".repeat(256));
        let tag = format!("docker.io/a:{}", "a".repeat(129));
        let bad = [
            "",
            "/",
            "docker.io",
            "docker.io/",
            "docker.io//a",
            "docker.io/a/",
            "docker.io/../etc",
            "docker.io/a..b",
            "docker.io/a___b",
            "docker.io/a._b",
            "docker.io/-a",
            "docker.io/a-",
            "docker.io/A",
            "docker.io/a:",
            "docker.io/a:.b",
            "docker.io/a:b:c",
            "docker.io/a@",
            "docker.io/a@sha256:ab",
            "host:0/a",
            "host:65536/a",
            "host:+80/a",
            "host:/a",
            "-host/a",
            "ho st/a",
            "host/a?x",
            "host/a%2f",
            "user@host/a",
            "[::1/a",
            "[::g]/a",
            "[::1]x/a",
            "host\n/a",
            &long,
            &tag,
        ];
        bad.iter().for_each(|text| assert!(parse(text).is_err(), "{text:?}"));
    }
}
