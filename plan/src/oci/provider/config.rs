//! The `CredentialProviderConfig`: read and checked as a whole, each mistake with its field's path.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Map, Value};

use super::{API_VERSION, CacheType, Provider, TokenAttributes};
use crate::manifest::names::is_qualified;
use crate::oci::keyring::{Pattern, shown};

/// The only form of the configuration that is read. The older two differ in nothing but `tokenAttributes`.
pub const CONFIG_API_VERSION: &str = "kubelet.config.k8s.io/v1";
/// The forms a plugin may speak, the same on the wire: an old plugin cannot be told to speak another.
const API_VERSIONS: [&str; 3] =
    [API_VERSION, "credentialprovider.kubelet.k8s.io/v1beta1", "credentialprovider.kubelet.k8s.io/v1alpha1"];
pub(super) const CONFIG_KIND: &str = "CredentialProviderConfig";
/// The longest name of a file, which a provider's name is.
const MAX_NAME: usize = 255;

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
        // Upstream checks annotations' keys in lower case, so a prefix may have capitals.
        if !is_qualified(&key.to_ascii_lowercase()) {
            errors.add(field.as_str(), format!("\"{}\" is not an annotation's key", shown(key)));
        }
        if keys[..index].contains(key) {
            errors.add(field.as_str(), format!("\"{}\" is there twice", shown(key)));
        }
    }
    keys
}

/// Go's `time.ParseDuration`, in nanoseconds. jiff wants units in falling order and a fraction last, as Go writes them;
/// what it reads beyond Go (words, ISO 8601) is kept from it, and Go's zero needs no unit.
pub(super) fn go_duration(text: &str) -> Option<i64> {
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
