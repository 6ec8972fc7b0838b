//! What a credential or a provider is for, and which images that is.

use std::net::Ipv6Addr;

/// The longest registry pattern: a host of 255 bytes, a port, a path of 255, and room.
pub(super) const MAX_PATTERN: usize = 1024;

/// `host[:port][/path]`, where labels of the host may have `*`: what a credential or a provider is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Host, port and path as written.
    pub(super) key: String,
    /// An IPv6 address is in its brackets.
    host: String,
    /// Empty if there is none.
    port: String,
    /// Begins with a slash, or is empty.
    path: String,
}

impl Pattern {
    /// Reads a pattern as `ParseSchemelessURL` does (so `https://host` is a host named `https`); a user, a query and a
    /// fragment are dropped.
    ///
    /// # Errors
    /// What is wrong with it, in a fixed text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_PATTERN {
            return Err("its name is longer than 1024 bytes");
        }
        if text.chars().any(char::is_control) {
            return Err("its name holds a control character");
        }
        if text.contains('%') {
            return Err("its name holds a percent sign, which no image's name has");
        }
        let text = text.split(['#', '?']).next().unwrap_or_default();
        let (authority, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = split_port(authority)?;
        Ok(Self {
            key: format!("{authority}{path}"),
            host: host.to_owned(),
            port: port.to_owned(),
            path: path.to_owned(),
        })
    }

    /// The name of an entry in docker's files: there a scheme may stand before it, and `/v1/` and `/v2/` after the host
    /// are the API's version and no path.
    pub(super) fn of_registry(name: &str) -> Result<Self, &'static str> {
        let bare = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
        let mut pattern = Self::parse(bare)?;
        let authority = pattern.key.len() - pattern.path.len();
        if pattern.path.starts_with("/v1/") || pattern.path.starts_with("/v2/") {
            pattern.path.drain(.."/v1".len());
        }
        if pattern.path == "/" {
            pattern.path.clear();
        }
        pattern.key.truncate(authority);
        pattern.key.push_str(&pattern.path);
        Ok(pattern)
    }

    /// What patterns are held against; `None` for what is no reference. An `@` would hide what is before it.
    pub(in crate::oci) fn of_image(repository: &str) -> Option<Self> {
        if repository.contains('@') { None } else { Self::parse(repository).ok() }
    }

    /// Upstream's `URLsMatch`: the same port (no port is none, not 443), as many labels and each one matches, and a
    /// path that begins with this one's, which need not end at a slash.
    pub(in crate::oci) fn matches(&self, target: &Self) -> bool {
        self.port == target.port
            && target.path.starts_with(&self.path)
            && self.host.split('.').count() == target.host.split('.').count()
            && self.host.split('.').zip(target.host.split('.')).all(|(glob, label)| glob_matches(glob, label))
    }
}

/// `name`, `name:5000`, `[::1]:5000` as host and port: what Go's URL parser takes as a host.
fn split_port(authority: &str) -> Result<(&str, &str), &'static str> {
    let colon = match authority.find(']') {
        Some(end) => end + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(colon);
    let digits = port.strip_prefix(':').unwrap_or(port);
    if port.starts_with(|first| first != ':') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("its port is not a number");
    }
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        address.parse::<Ipv6Addr>().map_err(|_| "its host is not an IPv6 address")?;
    } else if host.is_empty() {
        return Err("its name has no host");
    } else if host.contains(['[', ']', ' ', '\\', '^', '`', '{', '|', '}']) {
        return Err("its host holds a character that no host has");
    }
    Ok((host, digits))
}

/// `*` is any text of one label. Linear, whatever the pattern.
fn glob_matches(glob: &str, label: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(rest) = parts.next().and_then(|first| label.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    let Some(mut rest) = rest.strip_suffix(last) else { return false };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    true
}
