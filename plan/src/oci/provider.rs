//! Credential providers: the kubelet's exec plugins that are asked for a registry's credentials.
//!
//! In goes a `CredentialProviderConfig`, then what a plugin printed; out come [`Provider`]s, what to write to a plugin,
//! and its [`Answer`]. Starting it, its minute of time and the cache are the caller's. The rules are the kubelet's
//! (`pkg/credentialprovider/plugin` of Kubernetes 1.37: `config.go`, `plugin.go`; the forms are `k8s.io/kubelet`'s
//! `config/v1` and `credentialprovider/v1`) with these differences:
//! - a field's path has its index: `providers[1].name` for upstream's `providers.name`.
//! - names, arguments and variables that no process can be started with are refused here, not at the first pull.
//! - a field of an answer that is not known is passed over; the kubelet refuses the answer.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::keyring::{Credential, MAX_REGISTRIES, Pattern, Registries, Source, repository, shown};

mod config;

use config::go_duration;
pub use config::{CONFIG_API_VERSION, FieldError, InvalidProviders, merge, read_config};

/// The most that is read of a plugin's output.
pub const MAX_RESPONSE: usize = 1 << 20;
/// What plugins speak today, and the only one that has service accounts.
const API_VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";
const RESPONSE_KIND: &str = "CredentialProviderResponse";

/// One plugin. Debug output has its name: arguments and variables may be secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its file in the directory of plugins: a bare name, neither `.` nor `..`.
    pub name: String,
    /// Which images it is asked about; at least one.
    pub match_images: Vec<Pattern>,
    /// How long an answer holds that does not say so; zero is not at all.
    pub default_cache_duration: Duration,
    /// What it speaks: `credentialprovider.kubelet.k8s.io/v1` or an older form.
    pub api_version: &'static str,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its variables, to be set over the agent's own.
    pub env: Vec<(String, String)>,
    /// Whether it wants a token of the pod's service account, and which.
    pub token_attributes: Option<TokenAttributes>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a plugin wants of the pod's service account (`tokenAttributes`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenAttributes {
    /// The token's audience.
    pub audience: String,
    /// What its answers are kept for.
    pub cache_type: CacheType,
    /// A pod without a service account (a static one) is not asked about; else it is, without a token.
    pub require_service_account: bool,
    /// Annotations of the service account that it must be given.
    pub required_annotations: Vec<String>,
    /// Annotations that it is given if they are there.
    pub optional_annotations: Vec<String>,
}

/// What an answer that was got with a token is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheType {
    /// All pods of the service account.
    ServiceAccount,
    /// This very token.
    Token,
}

impl TokenAttributes {
    /// The annotations of a service account that go to the plugin.
    ///
    /// # Errors
    /// The key of a required one that is missing: then the plugin is not asked and the pod has no credentials of it. An
    /// account takes part by having the annotation, so this is no fault (upstream's `getServiceAccountData`).
    pub fn select(&self, annotations: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
        if let Some(missing) = self.required_annotations.iter().find(|key| !annotations.contains_key(*key)) {
            return Err(missing.clone());
        }
        let wanted = self.required_annotations.iter().chain(&self.optional_annotations);
        Ok(wanted.filter_map(|key| annotations.get_key_value(key)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

/// The service account that a plugin is asked for, with its token. Debug output has no token.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Its namespace, the pod's.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// What [`TokenAttributes::select`] gave.
    pub annotations: BTreeMap<String, String>,
    /// A token for the plugin's audience, bound to the pod.
    pub token: String,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({}/{}, uid {})", self.namespace, self.name, self.uid)
    }
}

/// What an answer is kept under; complete, so that one map can have all providers' answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey {
    /// The provider's name.
    pub provider: String,
    /// Which images it is for.
    pub scope: Scope,
    /// Whose it is, if a token was sent: a SHA-256 of the account, and of the token if the answer is for that alone.
    pub account: Option<String>,
}

/// Which images an answer is for (`cacheKeyType`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// This one, without tag and digest.
    Image(String),
    /// All of this host and port.
    Registry(String),
    /// All that the provider is asked about.
    Global,
}

/// A plugin's answer, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it has; no credentials is an answer too.
    pub registries: Registries,
    /// What to keep it under and how long; `None`: not at all.
    pub cache: Option<(CacheKey, Duration)>,
}

/// Why an answer is not used. No text has any of the credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAnswer {
    /// More than [`MAX_RESPONSE`].
    #[error("its answer has {0} bytes, and at most {MAX_RESPONSE} are read")]
    TooLarge(usize),
    /// Not JSON, or no object.
    #[error("its answer is not a JSON object")]
    NotJson,
    /// Another kind or form, shortened and escaped, than that of the request.
    #[error("its answer is \"{0}\" and not a {RESPONSE_KIND} of {1}")]
    Form(String, &'static str),
    /// A field has a value that it cannot have.
    #[error("its answer's {0}")]
    Field(&'static str),
    /// A password is the token that was sent, which would be kept for longer than the token is good.
    #[error("its answer's password is the service account's token, which needs tokenAttributes.cacheType Token")]
    EchoedToken,
}

impl Provider {
    /// Whether it is asked about this image, a reference with its host.
    pub fn matches(&self, image: &str) -> bool {
        Pattern::of_image(repository(image))
            .is_some_and(|target| self.match_images.iter().any(|pattern| pattern.matches(&target)))
    }

    /// What to write to its standard input. The image goes without tag and digest; the account only to a provider with
    /// [`Provider::token_attributes`].
    pub fn request(&self, image: &str, account: Option<&Account>) -> String {
        let mut request =
            json!({ "kind": "CredentialProviderRequest", "apiVersion": self.api_version, "image": repository(image) });
        if let Some(account) = self.wanted(account) {
            request["serviceAccountToken"] = json!(account.token);
            if !account.annotations.is_empty() {
                request["serviceAccountAnnotations"] = json!(account.annotations);
            }
        }
        format!("{request}\n")
    }

    /// Where an answer for this image may already be, in the order to look.
    pub fn cache_keys(&self, image: &str, account: Option<&Account>) -> [CacheKey; 3] {
        let image = repository(image);
        let registry = image.split('/').next().unwrap_or_default();
        [Scope::Image(image.to_owned()), Scope::Registry(registry.to_owned()), Scope::Global]
            .map(|scope| self.cache_key(scope, account))
    }

    /// Reads what it printed when it was asked for `image` and `account`.
    ///
    /// # Errors
    /// The answer is too large, not one, in another form than was asked in, or gives the token back.
    pub fn read_answer(&self, bytes: &[u8], image: &str, account: Option<&Account>) -> Result<Answer, InvalidAnswer> {
        if bytes.len() > MAX_RESPONSE {
            return Err(InvalidAnswer::TooLarge(bytes.len()));
        }
        let Ok(Value::Object(answer)) = serde_json::from_slice(bytes) else { return Err(InvalidAnswer::NotJson) };
        let text = |name| answer.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("apiVersion") != self.api_version || text("kind") != RESPONSE_KIND {
            let form = format!("{} of {}", text("kind"), text("apiVersion"));
            return Err(InvalidAnswer::Form(shown(&form), self.api_version));
        }
        let [image_key, registry_key, global_key] = self.cache_keys(image, account);
        let key = match text("cacheKeyType") {
            "Image" => image_key,
            "Registry" => registry_key,
            "Global" => global_key,
            _ => return Err(InvalidAnswer::Field("cacheKeyType is not Image, Registry or Global")),
        };
        let duration = match answer.get("cacheDuration") {
            None | Some(Value::Null) => self.default_cache_duration,
            Some(value) => value
                .as_str()
                .and_then(go_duration)
                .map(|nanos| Duration::from_nanos(nanos.max(0).unsigned_abs()))
                .ok_or(InvalidAnswer::Field("cacheDuration is not a duration"))?,
        };
        let registries = self.read_auth(answer.get("auth"), account)?;
        Ok(Answer { registries, cache: Some((key, duration)).filter(|_| !duration.is_zero()) })
    }

    fn read_auth(&self, auth: Option<&Value>, account: Option<&Account>) -> Result<Registries, InvalidAnswer> {
        let mut registries = Registries::default();
        let entries = match auth {
            None | Some(Value::Null) => return Ok(registries),
            Some(Value::Object(entries)) if entries.len() <= MAX_REGISTRIES => entries,
            Some(Value::Object(_)) => return Err(InvalidAnswer::Field("auth has more than 4096 registries")),
            Some(_) => return Err(InvalidAnswer::Field("auth is not an object")),
        };
        let account = self.wanted(account);
        for (registry, login) in entries {
            let (username, password) = read_login(login)?;
            if !password.is_empty() && account.is_some_and(|account| self.forbids_echo() && account.token == password) {
                return Err(InvalidAnswer::EchoedToken);
            }
            match Credential::new(registry, username, password, self.source(account)) {
                Ok(credential) => registries.credentials.push(credential),
                Err(malformed) => registries.malformed.push(malformed),
            }
        }
        Ok(registries)
    }

    fn forbids_echo(&self) -> bool {
        self.token_attributes.as_ref().is_none_or(|attributes| attributes.cache_type != CacheType::Token)
    }

    /// A token goes to nobody who did not ask for one.
    fn wanted<'a>(&self, account: Option<&'a Account>) -> Option<&'a Account> {
        account.filter(|_| self.token_attributes.is_some())
    }

    fn source(&self, account: Option<&Account>) -> Source {
        let provider = self.name.clone();
        match account {
            None => Source::Provider { provider },
            Some(account) => {
                let [namespace, name, uid] = [&account.namespace, &account.name, &account.uid].map(String::clone);
                Source::ServiceAccountProvider { provider, namespace, name, uid }
            }
        }
    }

    fn cache_key(&self, scope: Scope, account: Option<&Account>) -> CacheKey {
        let account = self.wanted(account).map(|account| {
            let Account { namespace, name, uid, annotations, token } = account;
            // As JSON, in which no part can be taken for the end of another.
            let parts = json!([namespace, name, uid, annotations, (!self.forbids_echo()).then_some(token)]);
            format!("{:x}", Sha256::digest(parts.to_string()))
        });
        CacheKey { provider: self.name.clone(), scope, account }
    }
}

/// A user and a password, each of which may be missing.
fn read_login(login: &Value) -> Result<(&str, &str), InvalidAnswer> {
    let text = |name| match login.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(InvalidAnswer::Field("auth has a username or password that is not a string")),
    };
    match login {
        Value::Null => Ok(("", "")),
        Value::Object(_) => Ok((text("username")?, text("password")?)),
        _ => Err(InvalidAnswer::Field("auth has an entry that is not an object")),
    }
}

#[cfg(test)]
mod tests;
