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

use jiff::SignedDuration;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::keyring::{Credential, MAX_REGISTRIES, Pattern, Registries, Source, repository, shown};

/// The most that is read of a plugin's output.
pub const MAX_RESPONSE: usize = 1 << 20;
/// The only form of the configuration that is read. The older two differ in nothing but `tokenAttributes`.
pub const CONFIG_API_VERSION: &str = "kubelet.config.k8s.io/v1";
/// The forms a plugin may speak, the same on the wire: an old plugin cannot be told to speak another.
const API_VERSIONS: [&str; 3] =
    [API_VERSION, "credentialprovider.kubelet.k8s.io/v1beta1", "credentialprovider.kubelet.k8s.io/v1alpha1"];
/// What plugins speak today, and the only one that has service accounts.
const API_VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";
const CONFIG_KIND: &str = "CredentialProviderConfig";
const RESPONSE_KIND: &str = "CredentialProviderResponse";
/// The longest name of a file, which a provider's name is.
const MAX_NAME: usize = 255;

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

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct FieldError {
    /// `providers[0].matchImages[1]`.
    pub field: String,
    /// Why it is refused, with the value if that can be no secret.
    pub reason: String,
}

/// All that is wrong with a configuration: the agent does not start with it, as the kubelet does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(FieldError::to_string).collect::<Vec<_>>().join("; "))]
pub struct InvalidProviders(pub Vec<FieldError>);

/// Reads a `CredentialProviderConfig`, as YAML or JSON gave it: its providers, in the order to ask them.
///
/// # Errors
/// Everything that is wrong, each with its field's path (upstream's `validateCredentialProviderConfig`). Unknown fields
/// are refused, as upstream's strict decoder does.
pub fn read_config(config: &Value) -> Result<Vec<Provider>, InvalidProviders> {
    let mut errors = Errors::default();
    let mut providers = Vec::new();
    if let Some(top) = Object::of(config, String::new(), &["apiVersion", "kind", "providers"], &mut errors) {
        for (field, wanted) in [("apiVersion", CONFIG_API_VERSION), ("kind", CONFIG_KIND)] {
            if top.text(field, &mut errors).is_some_and(|found| found != wanted) {
                errors.add(field, format!("must be {wanted}"));
            }
        }
        for (index, value) in top.list("providers", &mut errors).iter().enumerate() {
            providers.extend(read_provider(value, format!("providers[{index}]"), &mut errors));
        }
        if providers.is_empty() && errors.0.is_empty() {
            errors.add("providers", "needs at least one");
        }
    }
    errors.or_unique(providers)
}

/// The providers of a directory's files, in the order of the files' names.
///
/// # Errors
/// Two have the same name.
pub fn merge(files: impl IntoIterator<Item = Vec<Provider>>) -> Result<Vec<Provider>, InvalidProviders> {
    Errors::default().or_unique(files.into_iter().flatten().collect())
}

/// With errors noted, what it returns is not used.
fn read_provider(value: &Value, path: String, errors: &mut Errors) -> Option<Provider> {
    let known = ["name", "matchImages", "defaultCacheDuration", "apiVersion", "args", "env", "tokenAttributes"];
    let object = Object::of(value, path, &known, errors)?;
    let name = object.text("name", errors).unwrap_or_default().to_owned();
    if let Some(reason) = wrong_name(&name) {
        errors.add(object.at("name"), format!("\"{}\" {reason}", shown(&name)));
    }
    let api_version = object.text("apiVersion", errors).unwrap_or(API_VERSION);
    let api_version = API_VERSIONS.into_iter().find(|known| *known == api_version).unwrap_or_else(|| {
        let supported = API_VERSIONS.join(", ");
        errors.add(object.at("apiVersion"), format!("\"{}\" is none of {supported}", shown(api_version)));
        API_VERSION
    });
    if api_version != API_VERSION && object.get("tokenAttributes").is_some() {
        errors.add(object.at("tokenAttributes"), format!("needs apiVersion {API_VERSION}"));
    }
    let args = object.texts("args", errors);
    if args.iter().any(|arg| arg.contains('\0')) {
        errors.add(object.at("args"), "no argument can hold a NUL");
    }
    Some(Provider {
        name,
        match_images: read_match_images(&object, errors),
        default_cache_duration: read_default_duration(&object, errors),
        api_version,
        args,
        env: object
            .list("env", errors)
            .iter()
            .enumerate()
            .filter_map(|(index, variable)| read_variable(variable, format!("{}[{index}]", object.at("env")), errors))
            .collect(),
        token_attributes: object
            .get("tokenAttributes")
            .and_then(|value| read_token_attributes(value, object.at("tokenAttributes"), errors)),
    })
}

/// It is joined to a directory's path; an empty one is already noted.
fn wrong_name(name: &str) -> Option<&'static str> {
    match name {
        "." | ".." => Some("is not the name of a file"),
        _ if name.contains(['/', ' ']) => Some("holds a / or a space"),
        _ if name.chars().any(char::is_control) => Some("holds a control character"),
        _ if name.len() > MAX_NAME => Some("is longer than 255 bytes"),
        _ => None,
    }
}

fn read_match_images(object: &Object<'_>, errors: &mut Errors) -> Vec<Pattern> {
    let texts = object.texts("matchImages", errors);
    let field = object.at("matchImages");
    if texts.is_empty() {
        errors.add(field.as_str(), "needs at least one");
    }
    let mut patterns = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match Pattern::parse(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(reason) => errors.add(format!("{field}[{index}]"), format!("\"{}\": {reason}", shown(text))),
        }
    }
    patterns
}

fn read_default_duration(object: &Object<'_>, errors: &mut Errors) -> Duration {
    let Some(text) = object.text("defaultCacheDuration", errors) else { return Duration::ZERO };
    let reason = match go_duration(text) {
        Some(nanos) if nanos >= 0 => return Duration::from_nanos(nanos.unsigned_abs()),
        Some(_) => "is less than 0",
        None => "is not a duration like 1h30m",
    };
    errors.add(object.at("defaultCacheDuration"), format!("\"{}\" {reason}", shown(text)));
    Duration::ZERO
}

fn read_variable(value: &Value, path: String, errors: &mut Errors) -> Option<(String, String)> {
    let object = Object::of(value, path, &["name", "value"], errors)?;
    let name = object.text("name", errors)?;
    let value = match object.get("value") {
        None => "",
        Some(Value::String(value)) => value,
        Some(_) => return errors.none(object.at("value"), "is not a string"),
    };
    if name.contains(['=', '\0']) || value.contains('\0') {
        return errors.none(object.at("name"), "no variable holds a NUL, and no variable's name =");
    }
    Some((name.to_owned(), value.to_owned()))
}

fn read_token_attributes(value: &Value, path: String, errors: &mut Errors) -> Option<TokenAttributes> {
    let (required, optional) = ("requiredServiceAccountAnnotationKeys", "optionalServiceAccountAnnotationKeys");
    let known = ["serviceAccountTokenAudience", "cacheType", "requireServiceAccount", required, optional];
    let object = Object::of(value, path, &known, errors)?;
    let audience = object.text("serviceAccountTokenAudience", errors);
    let cache_type = match object.text("cacheType", errors) {
        Some("ServiceAccount") => Some(CacheType::ServiceAccount),
        Some("Token") => Some(CacheType::Token),
        other => other.and_then(|other| {
            errors.none(object.at("cacheType"), format!("\"{}\" is not ServiceAccount or Token", shown(other)))
        }),
    };
    let require_service_account = match object.get("requireServiceAccount") {
        Some(Value::Bool(require)) => Some(*require),
        _ => errors.none(object.at("requireServiceAccount"), "is required, true or false"),
    };
    let [required_annotations, optional_annotations] =
        [required, optional].map(|field| read_annotation_keys(&object, field, errors));
    if require_service_account == Some(false) && !required_annotations.is_empty() {
        errors.add(object.at(required), "needs requireServiceAccount true");
    }
    if let Some(both) = required_annotations.iter().find(|key| optional_annotations.contains(key)) {
        errors.add(object.at(optional), format!("\"{}\" is required too", shown(both)));
    }
    Some(TokenAttributes {
        audience: audience?.to_owned(),
        cache_type: cache_type?,
        require_service_account: require_service_account?,
        required_annotations,
        optional_annotations,
    })
}

fn read_annotation_keys(object: &Object<'_>, name: &str, errors: &mut Errors) -> Vec<String> {
    let keys = object.texts(name, errors);
    for (index, key) in keys.iter().enumerate() {
        let field = format!("{}[{index}]", object.at(name));
        if !is_annotation_key(key) {
            errors.add(field.as_str(), format!("\"{}\" is not an annotation's key", shown(key)));
        }
        if keys[..index].contains(key) {
            errors.add(field.as_str(), format!("\"{}\" is there twice", shown(key)));
        }
    }
    keys
}

/// `[prefix/]name`: apimachinery's qualified name in any case, the prefix a DNS subdomain.
fn is_annotation_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').unwrap_or(("none", key));
    let is_word = |text: &str, inner: &[u8]| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || inner.contains(&byte);
        let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        text.bytes().all(is_inner) && is_edge(text.as_bytes().first()) && is_edge(text.as_bytes().last())
    };
    let is_prefix = prefix.len() <= 253 && prefix.split('.').all(|label| is_word(label, b"-"));
    is_prefix && name.len() <= 63 && is_word(name, b"-_.")
}

/// Go's `time.ParseDuration`, in nanoseconds. jiff wants units in falling order and a fraction last, as Go writes them;
/// what it reads beyond Go (words, ISO 8601) is kept from it, and Go's zero needs no unit.
fn go_duration(text: &str) -> Option<i64> {
    if matches!(text, "0" | "+0" | "-0") {
        return Some(0);
    }
    if !text.chars().all(|char| char.is_ascii_digit() || ".+-hmnsu\u{b5}\u{3bc}".contains(char)) {
        return None;
    }
    // Go's durations end at 292 years.
    let duration = text.replace('\u{3bc}', "\u{b5}").parse::<SignedDuration>().ok()?;
    i64::try_from(duration.as_nanos()).ok()
}

/// An object of the configuration and where it is.
struct Object<'a> {
    path: String,
    fields: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    fn of(value: &'a Value, path: String, known: &[&str], errors: &mut Errors) -> Option<Self> {
        let Value::Object(fields) = value else { return errors.none(path, "is not an object") };
        let object = Self { path, fields };
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            errors.add(object.at(&shown(name)), "is not a field that is known");
        }
        Some(object)
    }

    fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// A field that must be there and not be empty.
    fn text(&self, name: &str, errors: &mut Errors) -> Option<&'a str> {
        match self.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            None | Some(Value::String(_)) => errors.none(self.at(name), "is required"),
            Some(_) => errors.none(self.at(name), "is not a string"),
        }
    }

    fn list(&self, name: &str, errors: &mut Errors) -> &'a [Value] {
        match self.get(name) {
            None => &[],
            Some(Value::Array(items)) => items,
            Some(_) => errors.none(self.at(name), "is not a list").unwrap_or_default(),
        }
    }

    fn texts(&self, name: &str, errors: &mut Errors) -> Vec<String> {
        let items = self.list(name, errors);
        let text = |(index, item): (usize, &Value)| match item {
            Value::String(text) => Some(text.clone()),
            _ => errors.none(format!("{}[{index}]", self.at(name)), "is not a string"),
        };
        items.iter().enumerate().filter_map(text).collect()
    }
}

#[derive(Default)]
struct Errors(Vec<FieldError>);

impl Errors {
    fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.0.push(FieldError { field: field.into(), reason: reason.into() });
    }

    fn none<T>(&mut self, field: impl Into<String>, reason: impl Into<String>) -> Option<T> {
        self.add(field, reason);
        None
    }

    fn or_unique(mut self, providers: Vec<Provider>) -> Result<Vec<Provider>, InvalidProviders> {
        for (index, Provider { name, .. }) in providers.iter().enumerate() {
            if !name.is_empty() && providers[..index].iter().any(|other| other.name == *name) {
                self.add(format!("providers[{index}].name"), format!("\"{}\" is there twice", shown(name)));
            }
        }
        if self.0.is_empty() { Ok(providers) } else { Err(InvalidProviders(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(mut base: Value, changes: Value) -> Value {
        base.as_object_mut().unwrap().append(changes.as_object().cloned().as_mut().unwrap());
        base
    }

    fn config(changes: Value) -> Result<Vec<Provider>, InvalidProviders> {
        let base = json!({ "name": "ecr", "matchImages": ["*.dkr.example.com"], "apiVersion": API_VERSION });
        let provider = with(with(base, json!({ "defaultCacheDuration": "12h" })), changes);
        read_config(&json!({ "apiVersion": CONFIG_API_VERSION, "kind": CONFIG_KIND, "providers": [provider] }))
    }

    fn tokens(changes: Value) -> Value {
        let base = json!({ "serviceAccountTokenAudience": "aud", "cacheType": "ServiceAccount" });
        json!({ "tokenAttributes": with(with(base, json!({ "requireServiceAccount": true })), changes) })
    }

    fn provider(changes: Value) -> Provider {
        config(changes).unwrap().remove(0)
    }

    fn account() -> Account {
        let annotations = BTreeMap::from([("example.com/role".to_owned(), "puller".to_owned())]);
        let [namespace, name, uid, token] = ["ns", "sa", "u1", "t0ken"].map(str::to_owned);
        Account { namespace, name, uid, annotations, token }
    }

    fn answer(changes: Value) -> String {
        let base = json!({ "kind": RESPONSE_KIND, "apiVersion": API_VERSION, "cacheKeyType": "Registry" });
        let auth = json!({ "auth": { "*.dkr.example.com": { "username": "AWS", "password": "hunter2" } } });
        with(with(base, auth), changes).to_string()
    }

    const IMAGE: &str = "1.dkr.example.com/app:v1";

    #[test]
    fn a_configuration() {
        let made = provider(json!({ "args": ["get", "-v"], "env": [{ "name": "A", "value": "b" }, { "name": "C" }] }));
        assert!(!format!("{made:?}").contains("-v") && !format!("{made:?}").contains("\"b\""));
        assert_eq!(made.name, "ecr");
        assert_eq!(made.default_cache_duration, Duration::from_secs(12 * 3600));
        assert_eq!(made.args, ["get", "-v"]);
        assert_eq!(made.env, [("A".to_owned(), "b".to_owned()), ("C".to_owned(), String::new())]);
        assert_eq!(made.token_attributes, None);
        let old = provider(json!({ "apiVersion": "credentialprovider.kubelet.k8s.io/v1alpha1" }));
        assert!(old.request(IMAGE, None).contains("v1alpha1"));
    }

    #[test]
    fn refused_with_the_fields_path() {
        let (required, optional) = ("requiredServiceAccountAnnotationKeys", "optionalServiceAccountAnnotationKeys");
        let cases = json!([
            ["name: is required", { "name": "" }], ["name: is required", { "name": null }],
            ["name: \"foo/../bar\" holds a / or", { "name": "foo/../bar" }], ["name: \".\" is not", { "name": "." }],
            ["name: \"foo bar\" holds a / or", { "name": "foo bar" }], ["name: \"..\" is not", { "name": ".." }],
            ["name: \"a\\n\" holds a control", { "name": "a\n" }], ["name: is not a string", { "name": 1 }],
            ["name: \"aaa", { "name": "a".repeat(256) }], ["apiVersion: is required", { "apiVersion": null }],
            ["apiVersion: \"cred", { "apiVersion": "credentialprovider.kubelet.k8s.io/v2" }],
            ["matchImages: needs", { "matchImages": [] }], ["matchImages[1]: \"%a%\"", { "matchImages": ["a", "%a%"] }],
            ["defaultCacheDuration: is required", { "defaultCacheDuration": null }],
            ["defaultCacheDuration: \"-1m\" is less", { "defaultCacheDuration": "-1m" }],
            ["defaultCacheDuration: \"1 day\" is not", { "defaultCacheDuration": "1 day" }],
            ["defaultCacheDuration: is not a string", { "defaultCacheDuration": 60 }],
            ["unknown: is not a field", { "unknown": 1 }], ["args: is not a list", { "args": "hunter2" }],
            ["args: no argument", { "args": ["\0"] }], ["args[1]: is not", { "args": ["a", 1] }],
            ["env[0].name: is required", { "env": [{ "value": "hunter2" }] }], ["env[0]: is not", { "env": ["x"] }],
            ["env[0].name: no variable", { "env": [{ "name": "A=", "value": "hunter2" }] }],
            ["env[0].name: no variable", { "env": [{ "name": "A", "value": "hunter2\0" }] }],
            ["env[0].value: is not", { "env": [{ "name": "A", "value": ["hunter2"] }] }],
            ["tokenAttributes: is not an object", { "tokenAttributes": [] }],
            ["tokenAttributes.serviceAccountTokenAudience: is", tokens(json!({ "serviceAccountTokenAudience": "" }))],
            ["tokenAttributes.cacheType: is required", tokens(json!({ "cacheType": "" }))],
            ["tokenAttributes.cacheType: \"Pod\" is not", tokens(json!({ "cacheType": "Pod" }))],
            ["tokenAttributes.requireServiceAccount: is", tokens(json!({ "requireServiceAccount": null }))],
            [format!("tokenAttributes.{required}[0]: \"ends-\""), tokens(json!({ required: ["ends-"] }))],
            [format!("tokenAttributes.{optional}[0]: \"a/b/c\""), tokens(json!({ optional: ["a/b/c"] }))],
            [format!("tokenAttributes.{required}[1]: \"a\" is there"), tokens(json!({ required: ["a", "a"] }))],
        ]);
        for case in cases.as_array().unwrap() {
            let (expected, changes) = (case[0].as_str().unwrap(), case[1].clone());
            let told = config(changes).unwrap_err().to_string();
            assert!(told.starts_with(&format!("providers[0].{expected}")), "{told} {expected}");
            assert!(told.len() < 400 && !["hunter2", "\n", "; "].iter().any(|bad| told.contains(bad)), "{told}");
        }
        let both = tokens(json!({ required: ["a"], optional: ["a"], "requireServiceAccount": false }));
        assert_eq!(config(both).unwrap_err().0.len(), 2);
        let mut old = tokens(json!({}));
        old["apiVersion"] = json!("credentialprovider.kubelet.k8s.io/v1beta1");
        assert_eq!(config(old).unwrap_err().0[0].field, "providers[0].tokenAttributes");
    }

    #[test]
    fn refused_as_a_whole() {
        let of = |value| read_config(&value).unwrap_err().to_string();
        assert!(of(json!([])).contains("is not an object"));
        assert_eq!(of(json!({})), "apiVersion: is required; kind: is required");
        let wrong = json!({ "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "X", "providers": [] });
        assert_eq!(of(wrong), format!("apiVersion: must be {CONFIG_API_VERSION}; kind: must be {CONFIG_KIND}"));
        assert!(of(json!({ "apiVersion": CONFIG_API_VERSION, "kind": CONFIG_KIND })).contains("needs at least one"));
        let one = config(json!({})).unwrap();
        let twice = merge([one.clone(), one.clone()]).unwrap_err().to_string();
        assert_eq!(twice, "providers[1].name: \"ecr\" is there twice");
        assert_eq!(merge([one.clone(), Vec::new()]), Ok(one));
    }

    #[test]
    fn images() {
        let made = provider(json!({ "matchImages": ["*.dkr.example.com", "reg.io:8080/path", "[::1]:5000"] }));
        for image in [IMAGE, "1.dkr.example.com/app@sha256:00", "reg.io:8080/path/app:v1", "[::1]:5000/app"] {
            assert!(made.matches(image), "{image}");
        }
        for image in ["", "reg.io/path/app", "reg.io:8080/app", "1.2.dkr.example.com/app", "x@1.dkr.example.com/a"] {
            assert!(!made.matches(image), "{image}");
        }
    }

    #[test]
    fn requests() {
        let plain = provider(json!({}));
        let request: Value = serde_json::from_str(&plain.request(IMAGE, Some(&account()))).unwrap();
        let (kind, image) = ("CredentialProviderRequest", "1.dkr.example.com/app");
        assert_eq!(request, json!({ "kind": kind, "apiVersion": API_VERSION, "image": image }));
        let asking = provider(tokens(json!({})));
        let request: Value = serde_json::from_str(&asking.request(IMAGE, Some(&account()))).unwrap();
        assert_eq!(request["serviceAccountToken"], "t0ken");
        assert_eq!(request["serviceAccountAnnotations"], json!({ "example.com/role": "puller" }));
        assert!(!asking.request(IMAGE, None).contains("serviceAccount"));
    }

    #[test]
    fn annotations_for_a_plugin() {
        let required = json!({ "requiredServiceAccountAnnotationKeys": ["example.com/Role"] });
        let keys = with(required, json!({ "optionalServiceAccountAnnotationKeys": ["zone"] }));
        let attributes = provider(tokens(keys)).token_attributes.unwrap();
        let all = |keys: &[&str]| -> BTreeMap<_, _> { keys.iter().map(|key| ((*key).into(), "v".into())).collect() };
        assert_eq!(attributes.select(&all(&["zone"])), Err("example.com/Role".to_owned()));
        assert_eq!(attributes.select(&all(&["example.com/Role", "other"])), Ok(all(&["example.com/Role"])));
        assert_eq!(attributes.select(&all(&["example.com/Role", "zone"])).unwrap().len(), 2);
    }

    #[test]
    fn answers() {
        let made = provider(json!({}));
        let read = |changes| made.read_answer(answer(changes).as_bytes(), IMAGE, None).unwrap();
        let got = read(json!({}));
        assert_eq!(got.registries.credentials[0].password, "hunter2");
        assert_eq!(got.registries.credentials[0].source, Source::Provider { provider: "ecr".into() });
        assert!(!format!("{got:?}").contains("hunter2"));
        let keys = made.cache_keys(IMAGE, None);
        assert_eq!(keys[1].scope, Scope::Registry("1.dkr.example.com".into()));
        assert_eq!(got.cache, Some((keys[1].clone(), Duration::from_secs(12 * 3600))));
        for (index, key_type) in ["Image", "Registry", "Global"].into_iter().enumerate() {
            let (key, _) = read(json!({ "cacheKeyType": key_type, "cacheDuration": "5m" })).cache.unwrap();
            assert_eq!(key, keys[index]);
        }
        assert_eq!(keys[0].scope, Scope::Image("1.dkr.example.com/app".into()));
        for none in ["0", "0s", "-5m"] {
            assert_eq!(read(json!({ "cacheDuration": none })).cache, None);
        }
        assert!(read(json!({ "auth": null, "expires": "later" })).registries.credentials.is_empty());
        let mixed = read(json!({ "auth": { "https://a.io/v1/": {}, "b c": { "password": "hunter2" } } })).registries;
        assert_eq!((mixed.credentials[0].registry(), mixed.malformed[0].registry.as_str()), ("a.io", "b c"));
    }

    #[test]
    fn no_answers() {
        let made = provider(json!({}));
        let many: Map<_, _> = (0..=MAX_REGISTRIES).map(|n| (format!("r{n}.io"), json!({}))).collect();
        let changes = json!([
            { "kind": "CredentialProviderRequest" }, { "kind": 5 }, { "apiVersion": null }, { "auth": "hunter2" },
            { "apiVersion": "credentialprovider.kubelet.k8s.io/v1beta1" }, { "cacheDuration": "hunter2" },
            { "cacheDuration": 5 }, { "auth": ["hunter2"] }, { "auth": { "a.io": "hunter2" } },
            { "auth": { "a.io": { "password": ["hunter2"] } } }, { "auth": many }, { "cacheKeyType": "hunter2" },
        ]);
        let bad = ["".into(), "hunter2".into(), "[]".into(), "[".repeat(MAX_RESPONSE), " ".repeat(MAX_RESPONSE + 1)];
        for bad in changes.as_array().unwrap().iter().cloned().map(answer).chain(bad) {
            let told = made.read_answer(bad.as_bytes(), IMAGE, None).unwrap_err().to_string();
            assert!(told.starts_with("its answer") && !told.contains('\n') && !told.contains("hunter2"), "{told}");
        }
        assert_eq!(made.read_answer(b"\xff", IMAGE, None), Err(InvalidAnswer::NotJson));
    }

    #[test]
    fn an_answer_for_a_service_account() {
        let (shared, single) = (provider(tokens(json!({}))), provider(tokens(json!({ "cacheType": "Token" }))));
        let account = account();
        let got = shared.read_answer(answer(json!({})).as_bytes(), IMAGE, Some(&account)).unwrap();
        let source = &got.registries.credentials[0].source;
        assert!(matches!(source, Source::ServiceAccountProvider { uid, .. } if uid == "u1"));
        let later = Account { token: "other".into(), ..account.clone() };
        assert_eq!(shared.cache_keys(IMAGE, Some(&account)), shared.cache_keys(IMAGE, Some(&later)));
        assert_ne!(single.cache_keys(IMAGE, Some(&account)), single.cache_keys(IMAGE, Some(&later)));
        assert_ne!(shared.cache_keys(IMAGE, Some(&account)), shared.cache_keys(IMAGE, None));
        let echo = answer(json!({ "auth": { "a.io": { "password": "t0ken" } } }));
        let read = |provider: &Provider| provider.read_answer(echo.as_bytes(), IMAGE, Some(&account));
        assert_eq!(read(&shared), Err(InvalidAnswer::EchoedToken));
        assert_eq!(read(&single).unwrap().registries.credentials.len(), 1);
        assert!(!format!("{account:?} {:?}", single.cache_keys(IMAGE, Some(&account))).contains("t0ken"));
    }

    #[test]
    fn durations_as_go_reads_them() {
        let good = "0|-0|5s|+5s|-5m|1.5h|1h0m0.5s|7ms2us3ns|1\u{b5}s|1\u{3bc}s|2562047h";
        let got: Vec<_> = good.split('|').map(|text| go_duration(text).unwrap()).collect();
        let (s, h) = (1_000_000_000, 3_600_000_000_000);
        assert_eq!(got, [0, 0, 5 * s, 5 * s, -300 * s, h + h / 2, h + s / 2, 7_002_003, 1000, 1000, 2_562_047 * h]);
        let long = "1h".repeat(500_000);
        let bad = "|-|5|s|.s|1.2.3s|1d|1 s|1s |--1s|1S|\u{663}s|PT1H|1hour|1m ago|2562048h|99999999999999999999s";
        for text in bad.split('|').chain([long.as_str()]) {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }
}
