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

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

mod pattern;

pub use pattern::Pattern;

/// The largest file or secret that is read: the API server's limit for a secret.
pub const MAX_CONFIG: usize = 1 << 20;
/// The most registries of one file.
pub const MAX_REGISTRIES: usize = 4096;
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

/// A user's text for an error: shortened, and escaped so that it stays on its line.
pub(super) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
