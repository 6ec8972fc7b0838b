//! Registry credentials: what a pod's pull secrets and the node's files have, and which of them are for an image.
//!
//! In go the bytes of docker's files and where they come from; out come [`Credential`]s, and from a [`Keyring`] those
//! to try for an image, in order. The rules are the kubelet's (`pkg/credentialprovider` of Kubernetes 1.37:
//! `keyring.go`, `config.go`, `secrets/secrets.go`) with these differences:
//! - a malformed entry is reported and the others of its file are used; the kubelet refuses every secret of the pod.
//! - docker's `identitytoken` and `registrytoken` are read; the kubelet knows them and never fills them in.
//! - `%` in a registry's name is refused instead of decoded, and an IPv6 host without a port matches itself.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The largest file or secret that is read: the API server's limit for a secret.
pub const MAX_CONFIG: usize = 1 << 20;
/// The most registries of one file.
pub const MAX_REGISTRIES: usize = 4096;
/// The longest registry pattern: a host of 255 bytes, a port, a path of 255, and room.
const MAX_PATTERN: usize = 1024;
/// How much of a user's text an error shows.
const MAX_SHOWN: usize = 128;
/// Where docker's files have the credentials of `docker.io`: `https://index.docker.io/v1/`, here without its version.
const DOCKER_HUB: &str = "index.docker.io";
/// Go's decoder takes what the padding's bits say, and the kubelet takes unpadded text too.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where a credential comes from: what may be told, and recorded, about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A file of the node: every pod may use it.
    Node,
    /// A pull secret of the pod.
    Secret {
        /// Its namespace, the pod's.
        namespace: String,
        /// Its name.
        name: String,
        /// Its UID: a secret made anew under the name is another one.
        uid: String,
    },
    /// A credential provider that was asked without a pod's identity: every pod may use it.
    Provider {
        /// The provider's name.
        provider: String,
    },
    /// A credential provider that was given a token of the pod's service account.
    ServiceAccountProvider {
        /// The provider's name.
        provider: String,
        /// The service account's namespace, the pod's.
        namespace: String,
        /// The service account's name.
        name: String,
        /// The service account's UID.
        uid: String,
    },
}

impl Source {
    /// Whether every pod of the node may use what comes from here (upstream: a credential without a source).
    pub fn is_node_wide(&self) -> bool {
        matches!(self, Self::Node | Self::Provider { .. })
    }
}

/// A login for the registries that its pattern matches. Debug output has neither the login nor the user's name, which
/// for some registries is a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    pattern: Pattern,
    /// The user; may be empty.
    pub username: String,
    /// The password; may be empty.
    pub password: String,
    /// An OAuth refresh token (docker's `identitytoken`), to be used instead of the password.
    pub identity_token: Option<String>,
    /// A bearer token for the registry itself (docker's `registrytoken`), visible ASCII.
    pub registry_token: Option<String>,
    /// Where it comes from.
    pub source: Source,
}

impl Credential {
    /// A user and password for a registry, written as in docker's files: `https://quay.io/v1/`, `*.example.com/team`.
    ///
    /// # Errors
    /// What is wrong with the registry's name.
    pub fn new(registry: &str, username: &str, password: &str, source: Source) -> Result<Self, Malformed> {
        let pattern = Pattern::of_registry(registry).map_err(|reason| Malformed::new(registry, reason))?;
        let (username, password) = (username.to_owned(), password.to_owned());
        Ok(Self { pattern, username, password, identity_token: None, registry_token: None, source })
    }

    /// What it is for, without scheme and API version: `quay.io`, `*.example.com:5000/team`.
    pub fn registry(&self) -> &str {
        &self.pattern.key
    }

    /// Whether there is no login in it, as where docker keeps it in a `credsStore`: a pull with it is one without.
    pub fn is_anonymous(&self) -> bool {
        self.username.is_empty()
            && self.password.is_empty()
            && self.identity_token.is_none()
            && self.registry_token.is_none()
    }

    /// The SHA-256 of the login, 64 hexadecimal digits, to record which one pulled an image. As upstream
    /// (`hashAuthConfig`) it is neither of the registry nor of the source, so the same login in another secret is known
    /// again; it is not upstream's value. A weak password can be guessed from it: the record is for root only.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        let identity = self.identity_token.as_deref().unwrap_or_default();
        let registry = self.registry_token.as_deref().unwrap_or_default();
        // With their lengths, so that no part can be taken for the end of another.
        for part in [&self.username, &self.password, identity, registry] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        format!("{:x}", hasher.finalize())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("registry", &self.registry())
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// The two forms of docker's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `config.json`: `{"auths": {"<registry>": {…}}}`.
    ConfigJson,
    /// The older `.dockercfg`: `{"<registry>": {…}}`.
    Dockercfg,
}

impl Format {
    /// What a Secret of this type holds, `None` if it is no pull secret: the kubelet passes over those, and over a pull
    /// secret that has nothing under its key.
    pub fn of_secret_type(secret_type: &str) -> Option<Self> {
        match secret_type {
            "kubernetes.io/dockerconfigjson" => Some(Self::ConfigJson),
            "kubernetes.io/dockercfg" => Some(Self::Dockercfg),
            _ => None,
        }
    }

    /// The Secret's key that has it.
    pub fn key(self) -> &'static str {
        match self {
            Self::ConfigJson => ".dockerconfigjson",
            Self::Dockercfg => ".dockercfg",
        }
    }

    /// Reads a file or a secret's value: the credentials, and which entries are none.
    ///
    /// # Errors
    /// The whole is too large, not JSON, or not of this form. No error has any of the content.
    pub fn read(self, bytes: &[u8], source: &Source) -> Result<Registries, InvalidConfig> {
        if bytes.len() > MAX_CONFIG {
            return Err(InvalidConfig::TooLarge(bytes.len()));
        }
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| InvalidConfig::NotJson { line: error.line(), column: error.column() })?;
        let Value::Object(top) = value else { return Err(InvalidConfig::NotObject) };
        let auths = match self {
            Self::Dockercfg => &top,
            Self::ConfigJson => match field(&top, "auths") {
                None | Some(Value::Null) => return Ok(Registries::default()),
                Some(Value::Object(auths)) => auths,
                Some(_) => return Err(InvalidConfig::AuthsNotObject),
            },
        };
        if auths.len() > MAX_REGISTRIES {
            return Err(InvalidConfig::TooMany(auths.len()));
        }
        let mut registries = Registries::default();
        for (registry, entry) in auths {
            match read_entry(registry, entry, source) {
                Ok(credential) => registries.credentials.push(credential),
                Err(malformed) => registries.malformed.push(malformed),
            }
        }
        Ok(registries)
    }
}

/// What a file of docker's has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registries {
    /// The good entries, in the order of their names.
    pub credentials: Vec<Credential>,
    /// The others.
    pub malformed: Vec<Malformed>,
}

/// An entry that is not used; its text names the registry and nothing else of the entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("registry \"{registry}\": {reason}")]
pub struct Malformed {
    /// The entry's name, shortened, escaped, and without a user and password in it.
    pub registry: String,
    /// What is wrong.
    pub reason: &'static str,
}

impl Malformed {
    fn new(registry: &str, reason: &'static str) -> Self {
        // `https://user:pa/ss@host` too: all before the last @ may be a password.
        let public = registry.rsplit('@').next().unwrap_or_default();
        Self { registry: shown(public), reason }
    }
}

/// Why a file or secret has no credentials at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// Larger than [`MAX_CONFIG`].
    #[error("it has {0} bytes, and at most {MAX_CONFIG} are read")]
    TooLarge(usize),
    /// Not JSON.
    #[error("it is not JSON (line {line}, column {column})")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// JSON, but not an object.
    #[error("it is not a JSON object")]
    NotObject,
    /// `auths` is something else.
    #[error("auths is not a JSON object")]
    AuthsNotObject,
    /// More than [`MAX_REGISTRIES`].
    #[error("it has {0} registries, and at most {MAX_REGISTRIES} are read")]
    TooMany(usize),
}

/// Go reads a field's name in any case if nothing has it exactly.
fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let any_case = || object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    object.get(name).or_else(any_case)
}

/// `auth` wins over `username` and `password`, as upstream; unknown fields are docker's own business.
fn read_entry(registry: &str, entry: &Value, source: &Source) -> Result<Credential, Malformed> {
    let malformed = |reason| Malformed::new(registry, reason);
    let empty = Map::new();
    let object = match entry {
        Value::Object(object) => object,
        Value::Null => &empty,
        _ => return Err(malformed("its value is not a JSON object")),
    };
    let mut texts = BTreeMap::new();
    for name in ["auth", "username", "password", "email", "identitytoken", "registrytoken"] {
        match field(object, name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => drop(texts.insert(name, text.as_str())),
            Some(_) => return Err(malformed("a field of it is not a string")),
        }
    }
    let text = |name| texts.get(name).copied().filter(|text| !text.is_empty());
    let mut credential = match text("auth") {
        Some(auth) => {
            let (username, password) = decode_auth(auth).map_err(malformed)?;
            Credential::new(registry, &username, &password, source.clone())?
        }
        None => {
            let (username, password) = (text("username").unwrap_or_default(), text("password").unwrap_or_default());
            Credential::new(registry, username, password, source.clone())?
        }
    };
    let tokens = [text("identitytoken"), text("registrytoken")];
    // They go into a header or a form: nothing in them may end it.
    if tokens.iter().flatten().any(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(malformed("its token holds a character that no token has"));
    }
    [credential.identity_token, credential.registry_token] = tokens.map(|token| token.map(str::to_owned));
    Ok(credential)
}

/// base64 of `user:password`, of which Go's decoder passes over line ends only.
fn decode_auth(auth: &str) -> Result<(String, String), &'static str> {
    let text: String = auth.chars().filter(|char| !matches!(char, '\r' | '\n')).collect();
    let bytes = BASE64.decode(text).map_err(|_| "its auth is not base64")?;
    let decoded = String::from_utf8(bytes).map_err(|_| "its auth is not text")?;
    let Some((username, password)) = decoded.split_once(':') else {
        return Err("its auth is not base64 of user:password");
    };
    Ok((username.to_owned(), password.to_owned()))
}

/// The credentials that a pull may use, in rings: what one ring has for an image is tried before what the next has.
///
/// Upstream's rings (`MakeDockerKeyring`) are: all pull secrets of the pod in their order, the node's file, all
/// credential providers in their order.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    rings: Vec<Vec<Credential>>,
}

impl Keyring {
    /// Without any credentials.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a ring after the others. Credentials for the same registry keep their order in it.
    pub fn push(&mut self, ring: impl IntoIterator<Item = Credential>) {
        let mut ring: Vec<_> = ring.into_iter().collect();
        // Reversed, a longer path comes before a shorter one, and a name before a glob (`*` sorts before letters).
        ring.sort_by(|a, b| b.registry().cmp(a.registry()));
        self.rings.push(ring);
    }

    /// What to try for an image, a reference with or without its host, tag and digest: of each ring all that match, the
    /// most specific first; if none does and the image is docker.io's, then what the ring has for `index.docker.io`.
    /// Empty also for what is no reference.
    pub fn lookup(&self, image: &str) -> Vec<&Credential> {
        let repository = repository(image);
        let target = Pattern::of_image(repository);
        let is_docker_hub = is_docker_hub(repository);
        let mut found = Vec::new();
        for ring in &self.rings {
            let before = found.len();
            if let Some(target) = &target {
                found.extend(ring.iter().filter(|credential| credential.pattern.matches(target)));
            }
            if found.len() == before && is_docker_hub {
                found.extend(ring.iter().filter(|credential| credential.registry() == DOCKER_HUB));
            }
        }
        found
    }
}

/// A reference without its tag and digest: what credentials are looked up for, and what a provider is asked about.
pub fn repository(image: &str) -> &str {
    let last = image.rfind('/').map_or(0, |slash| slash + 1);
    let end = image[last..].find('@').map_or(image.len(), |at| last + at);
    // Without a path a colon is a port's: `localhost:5000`.
    let tag = if last > 0 { image[last..end].find(':') } else { None };
    &image[..tag.map_or(end, |colon| last + colon)]
}

/// Upstream's `isDefaultRegistryMatch`: written without a host, or with one of docker.io's names.
fn is_docker_hub(repository: &str) -> bool {
    match repository.split_once('/') {
        None => !repository.is_empty(),
        Some((first, _)) => {
            first == "docker.io" || first == DOCKER_HUB || (!first.is_empty() && !first.contains(['.', ':']))
        }
    }
}

/// `host[:port][/path]`, where labels of the host may have `*`: what a credential or a provider is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Host, port and path as written.
    key: String,
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
    fn of_registry(name: &str) -> Result<Self, &'static str> {
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
    pub(super) fn of_image(repository: &str) -> Option<Self> {
        if repository.contains('@') { None } else { Self::parse(repository).ok() }
    }

    /// Upstream's `URLsMatch`: the same port (no port is none, not 443), as many labels and each one matches, and a
    /// path that begins with this one's, which need not end at a slash.
    pub(super) fn matches(&self, target: &Self) -> bool {
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

/// A user's text for an error: shortened, and escaped so that it stays on its line.
pub(super) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(glob: &str, target: &str) -> bool {
        Pattern::parse(glob).is_ok_and(|glob| Pattern::of_image(target).is_some_and(|target| glob.matches(&target)))
    }

    fn secret(name: &str) -> Source {
        Source::Secret { namespace: "ns".into(), name: name.into(), uid: format!("uid-{name}") }
    }

    fn ring(registries: &[&str]) -> Vec<Credential> {
        let credential = |registry: &&str| Credential::new(registry, registry, "pw", Source::Node).unwrap();
        registries.iter().map(credential).collect()
    }

    fn found(registries: &[&str], image: &str) -> Vec<String> {
        let mut keyring = Keyring::new();
        keyring.push(ring(registries));
        keyring.lookup(image).iter().map(|credential| credential.username.clone()).collect()
    }

    /// The only entry of a `.dockercfg`.
    fn entry(entry: &str) -> Result<Credential, Malformed> {
        let mut read = Format::Dockercfg.read(format!("{{\"r.io\":{entry}}}").as_bytes(), &Source::Node).unwrap();
        read.credentials.pop().ok_or_else(|| read.malformed.remove(0))
    }

    #[test]
    fn patterns() {
        for (glob, target, expected) in [
            ("*.example.io", "a.example.io", true),
            ("a.*.io", "a.example.io", true),
            ("a.example.*", "a.example.io", true),
            ("*-eu.example.io", "pull-eu.example.io", true),
            ("app*.example.io", "app1.example.io", true),
            ("a*b*c.io", "a-b-b-c.io", true),
            ("a*b*c.io", "ac.io", false),
            ("ab*bc.io", "abc.io", false),
            ("a**.io", "a.io", true),
            ("*example.io", "example.io", true),
            ("*.*.*.example.io", "a.b.c.example.io", true),
            ("*.example.io/team", "a.example.io/team", true),
            ("a.*.io/team", "a.example.io/team/app", true),
            ("*.example.io:5000/team", "a.example.io:5000/team", true),
            ("a.example.io:", "a.example.io/app", true),
            ("*", "localhost/app", true),
            // A star is one label.
            ("*", "example.io/app", false),
            ("*.example.io", "example.io", false),
            ("*.*.example.io", "a.example.io", false),
            ("*example.io", "a.example.io", false),
            ("*.io", "a.example.io", false),
            ("example.io", "example.com", false),
            ("k*.io", "quay.io", false),
            // Ports are the same or there is none: 443 is nobody's default.
            ("*.example.io:1234/team", "a.example.io:1111/team", false),
            ("a.*.io/team", "a.example.io:1111/team", false),
            ("example.io:443", "example.io/app", false),
            ("example.io", "example.io:443/app", false),
            // A path's stars are stars.
            ("example.io/*", "example.io/app", false),
            ("example.io/team/", "example.io/team", false),
            ("[::1]:5000", "[::1]:5000/app", true),
            ("[::1]", "[::1]/app", true),
            ("[::1]", "[::2]/app", false),
            ("https://example.io", "example.io/app", false),
            ("example.io?x=1#y", "example.io/app", true),
            ("user:pw@example.io", "example.io/app", true),
            ("EXAMPLE.io", "example.io/app", false),
            ("bücher.*", "bücher.io/app", true),
        ] {
            assert_eq!(matches(glob, target), expected, "{glob} {target}");
        }
    }

    #[test]
    fn no_patterns() {
        let long = "a".repeat(MAX_PATTERN + 1);
        let bad = "|/|/path|:5000|a:b|a:b:5000|::1|::1:5000|[::1|[::1]x|[::1]:x|[*]|[1.2.3.4]|a[b]|x[::1]|a b.io|a\\b.io\
            |{a}|%61.io|%invalid%|a.io/%2f|a\nb.io|a.io/\u{7f}|a\0|user@|a.io:-1|a.io:+1|a.io:\u{663}";
        for bad in bad.split('|').chain([long.as_str()]) {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Pattern::of_image("evil.io@docker.io/app").is_none());
    }

    #[test]
    fn globs_are_linear() {
        let host = "a".repeat(1000);
        let glob = "a*".repeat(500) + "b";
        assert!(!matches(&glob, &host));
        assert!(matches(&"*".repeat(1000), &host));
    }

    #[test]
    fn schemes_and_versions_of_registries() {
        for (registry, image) in [
            ("https://hello.example.io", "hello.example.io/foo/bar"),
            ("http://*.example.io/path", "a.example.io/path/foo"),
            ("https://*.example.io:8888", "a.example.io:8888/foo"),
            ("https://*.example.io/path:1111", "a.example.io/path:1111/foo/bar"),
            ("https://*.example.io/v1/", "a.example.io/path/foo"),
            ("https://*.example.io/v2/", "a.example.io/path/foo"),
            ("https://quay.io/v1/", "quay.io"),
            ("quay.io/v2/team", "quay.io/team/app"),
            ("example.io:1111", "example.io:1111/path"),
            ("example.io/", "example.io/path"),
        ] {
            assert_eq!(found(&[registry], image), [registry], "{image}");
        }
        for (registry, image) in [
            ("https://hello.example.io", "world.example.org/foo"),
            ("https://*.example.com", "a.example.io/foo"),
            ("https://a.example.c*", "a.example.io/foo"),
            ("https://a.*.io/path:1111", "a.example.io/path/sub:1111/foo"),
            ("quay.io/v1", "quay.io/foo"),
            ("HTTPS://quay.io", "quay.io/foo"),
        ] {
            assert!(found(&[registry], image).is_empty(), "{registry} {image}");
        }
    }

    #[test]
    fn the_most_specific_first() {
        let registries = ["example.io", "*.io", "example.io/pong", "ex*.io", "example.io/pong/deep"];
        assert_eq!(found(&registries, "example.io/ping"), ["example.io", "ex*.io", "*.io"]);
        assert_eq!(found(&registries, "example.io/pongz:1")[0], "example.io/pong");
        assert_eq!(
            found(&registries, "example.io/pong/deep@sha256:00"),
            ["example.io/pong/deep", "example.io/pong", "example.io", "ex*.io", "*.io"]
        );
        assert!(found(&registries, "foo.example.com/pong").is_empty());
    }

    #[test]
    fn docker_hub() {
        for hub in ["https://index.docker.io/v1/", "index.docker.io", "http://index.docker.io/v2/"] {
            for image in ["nginx", "google/registry", "docker.io/library/nginx:1.27", "index.docker.io/foo/bar"] {
                assert_eq!(found(&[hub], image), [hub], "{image}");
            }
            for image in ["", "/", "quay.io/foo", "registry:5000/foo", "mydocker.io/foo", "docker.io.evil.io/foo"] {
                assert!(found(&[hub], image).is_empty(), "{image}");
            }
        }
        // Only what no entry is written for.
        assert_eq!(found(&["index.docker.io", "docker.io"], "docker.io/library/nginx"), ["docker.io"]);
        assert_eq!(found(&["docker.io/team"], "docker.io/library/nginx"), [""; 0]);
    }

    #[test]
    fn rings_come_one_after_the_other() {
        let mut keyring = Keyring::new();
        let of = |registry, name| Credential::new(registry, "u", "p", secret(name)).unwrap();
        keyring.push([of("quay.io", "one"), of("quay.io/team", "two"), of("https://quay.io/v1/", "three")]);
        keyring.push(ring(&["quay.io/team/app", "index.docker.io"]));
        let sources: Vec<_> = keyring.lookup("quay.io/team/app:1").iter().map(|found| found.source.clone()).collect();
        assert_eq!(sources, [secret("two"), secret("one"), secret("three"), Source::Node]);
        assert_eq!(keyring.lookup("docker.io/library/nginx").len(), 1);
        assert!(Keyring::new().lookup("docker.io/library/nginx").is_empty());
    }

    #[test]
    fn references_without_tag_and_digest() {
        for (image, expected) in [
            ("docker.io/library/nginx:1.27", "docker.io/library/nginx"),
            ("docker.io/library/nginx:1.27@sha256:00", "docker.io/library/nginx"),
            ("localhost:5000/app", "localhost:5000/app"),
            ("localhost:5000/app@sha256:00", "localhost:5000/app"),
            ("[::1]:5000/app:x", "[::1]:5000/app"),
            ("localhost:5000", "localhost:5000"),
            ("nginx@sha256:00", "nginx"),
            ("", ""),
            ("/", "/"),
            ("@", ""),
            ("ü/é:ß", "ü/é"),
        ] {
            assert_eq!(repository(image), expected, "{image}");
        }
    }

    #[test]
    fn entries() {
        for (text, username, password) in [
            (r#"{"username":"foo","password":"bar","email":"a@b.c"}"#, "foo", "bar"),
            (r#"{"auth":"Zm9vOmJhcg=="}"#, "foo", "bar"),
            (r#"{"auth":"Zm9vOmJhcg"}"#, "foo", "bar"),
            (r#"{"auth":"Zm9vOm\nJhcg==\n"}"#, "foo", "bar"),
            (r#"{"auth":"Zm9vOmJhcgo="}"#, "foo", "bar\n"),
            (r#"{"auth":"Zm9vOmJhOnI="}"#, "foo", "ba:r"),
            (r#"{"username":"foo","password":"bar","auth":"cGluZzpwb25n"}"#, "ping", "pong"),
            (r#"{"Username":"foo","PASSWORD":"bar","auth":""}"#, "foo", "bar"),
            (r#"{"username":null,"password":"bar","unknown":[{}]}"#, "", "bar"),
            (r#"{"auth":"Og=="}"#, "", ""),
            ("null", "", ""),
            ("{}", "", ""),
        ] {
            let credential = entry(text).unwrap();
            assert_eq!((&*credential.username, &*credential.password), (username, password), "{text}");
            assert_eq!(credential.is_anonymous(), username.is_empty() && password.is_empty(), "{text}");
        }
        let tokens = entry(r#"{"auth":"MDAwMDo=","identitytoken":"refresh","registrytoken":"bearer"}"#).unwrap();
        assert_eq!(tokens.identity_token.as_deref(), Some("refresh"));
        assert_eq!(tokens.registry_token.as_deref(), Some("bearer"));
        for text in [
            r#"{"auth":"pants"}"#,
            r#"{"auth":"cGFudHM="}"#,
            r#"{"auth":"Zm9vOmJhcg== "}"#,
            r#"{"auth":"//86//8="}"#,
            r#"{"email":false}"#,
            r#"{"password":{"hunter2":1}}"#,
            r#"{"registrytoken":"hunter2\r\nX-Evil: 1"}"#,
            r#""hunter2""#,
            "[]",
        ] {
            let told = entry(text).unwrap_err().to_string();
            assert!(told.starts_with("registry \"r.io\": its ") || told.starts_with("registry \"r.io\": a "), "{told}");
            assert!(!told.contains("hunter2") && !told.contains("pants"), "{told}");
        }
    }

    #[test]
    fn the_good_entries_of_a_bad_file() {
        let file = br#"{"auths":{"good.io":{"auth":"Zm9vOmJhcg=="},"bad.io":{"auth":"?"},"a b":{},
            "https://me:hun/ter2@x y":{}}, "credsStore":"desktop"}"#;
        let read = Format::ConfigJson.read(file, &secret("pull")).unwrap();
        assert_eq!(read.credentials.len(), 1);
        assert_eq!(read.credentials[0].source, secret("pull"));
        let names: Vec<_> = read.malformed.iter().map(|malformed| malformed.registry.as_str()).collect();
        assert_eq!(names, ["a b", "bad.io", "x y"]);
        let long = "\u{202e}\n\"".repeat(500);
        let told = Credential::new(&long, "", "", Source::Node).unwrap_err().to_string();
        assert!(told.len() < 2000 && !told.contains(['\n', '\u{202e}']), "{told}");
    }

    #[test]
    fn whole_files() {
        let read = |format: Format, text: &str| format.read(text.as_bytes(), &Source::Node);
        for empty in ["{}", r#"{"auths":null}"#, r#"{"auths":{}}"#, r#"{"HttpHeaders":{"a":"b"}}"#] {
            assert_eq!(read(Format::ConfigJson, empty), Ok(Registries::default()), "{empty}");
        }
        assert_eq!(read(Format::ConfigJson, r#"{"auths":[]}"#), Err(InvalidConfig::AuthsNotObject));
        assert_eq!(read(Format::Dockercfg, "[]"), Err(InvalidConfig::NotObject));
        for bad in ["", "{", "\0", "{\"r.io\":{\"password\":\"hunter2\"", &"[".repeat(100_000)] {
            let error = read(Format::Dockercfg, bad).unwrap_err();
            assert!(matches!(error, InvalidConfig::NotJson { .. }), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let large = " ".repeat(MAX_CONFIG + 1);
        assert_eq!(read(Format::Dockercfg, &large), Err(InvalidConfig::TooLarge(MAX_CONFIG + 1)));
        let many: Vec<_> = (0..=MAX_REGISTRIES).map(|n| format!("\"r{n}.io\":{{}}")).collect();
        let many = format!("{{{}}}", many.join(","));
        assert_eq!(read(Format::Dockercfg, &many), Err(InvalidConfig::TooMany(MAX_REGISTRIES + 1)));
        let key = |secret_type| Format::of_secret_type(secret_type).map(Format::key);
        assert_eq!(key("kubernetes.io/dockerconfigjson"), Some(".dockerconfigjson"));
        assert_eq!(key("kubernetes.io/dockercfg"), Some(".dockercfg"));
        assert_eq!(key("Opaque"), None);
    }

    #[test]
    fn a_hash_is_of_the_login() {
        let of = |registry, username, password, source| Credential::new(registry, username, password, source).unwrap();
        let ada = of("a.io", "ada", "smash", Source::Node);
        assert_eq!(ada.hash().len(), 64);
        assert_eq!(ada.hash(), of("b.io/x", "ada", "smash", secret("s")).hash());
        assert_ne!(ada.hash(), of("a.io", "adas", "mash", Source::Node).hash());
        let token = Credential { identity_token: Some("t".into()), ..ada.clone() };
        let other = Credential { registry_token: Some("t".into()), ..ada.clone() };
        assert_ne!(ada.hash(), token.hash());
        assert_ne!(token.hash(), other.hash());
    }

    #[test]
    fn debug_output_has_no_login() {
        let read = Format::Dockercfg
            .read(br#"{"r.io":{"username":"me-9","password":"hunter2","identitytoken":"tok-7"}}"#, &secret("pull"))
            .unwrap();
        let mut keyring = Keyring::new();
        keyring.push(read.credentials.clone());
        let told = format!("{keyring:?} {read:#?}");
        assert!(told.contains("r.io") && told.contains("pull"));
        assert!(!told.contains("hunter2") && !told.contains("tok-7") && !told.contains("me-9"), "{told}");
        assert!(Source::Node.is_node_wide() && !secret("x").is_node_wide());
    }
}
