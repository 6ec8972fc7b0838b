//! A container's environment: what systemk sets, the services, `envFrom`, then `env`, as the kubelet's
//! `makeEnvironmentVariables`.
//!
//! Takes the pod and what was gathered for it, gives the variables in the order in which they were first set. Values never
//! appear in a note, a refusal or `Debug`.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapKeySelector, Container, EnvFromSource, EnvVar as PodEnvVar, EnvVarSource, Pod, Secret,
    SecretKeySelector,
};

use crate::blocked::{CREATE_CONTAINER_CONFIG_ERROR, Reasons, Unplannable};
use crate::fields::downward::{FieldUse, field_value, namespace, resource_value};
use crate::fields::expansion::expand;
use crate::inputs::{Gathered, NodeFacts};
use crate::launch::EnvVar;
use crate::note::{Note, NoteKind};

pub(crate) mod services;

/// What one `NAME=value` and its NUL may take: the kernel's MAX_ARG_STRLEN, 32 pages.
pub const MAX_VARIABLE_BYTES: usize = 128 * 1024;
/// What all of them may take: the kernel's limit for argv and environment under the usual 8 MiB stack.
pub const MAX_ENVIRONMENT_BYTES: usize = 2 * 1024 * 1024;

/// All that a container's environment is made from.
pub struct EnvInput<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// One of its containers.
    pub container: &'a Container,
    /// The container's field path: `spec.containers[0]`.
    pub path: String,
    /// The ConfigMaps and Secrets.
    pub gathered: &'a Gathered,
    /// The node.
    pub facts: &'a NodeFacts,
    /// What comes first and anything else overrides: PATH and HOME of a program without a unit of its own.
    pub defaults: Vec<EnvVar>,
}

/// A container's environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Each name once.
    pub vars: Vec<EnvVar>,
    /// Remarks on `envFrom`.
    pub notes: Vec<Note>,
}

/// The environment, or why there is none.
pub type EnvOutcome = Result<Environment, Unplannable>;

/// The environment of one container.
pub fn environment(input: EnvInput<'_>) -> EnvOutcome {
    let EnvInput { pod, container, path, gathered, facts, defaults } = input;
    let mut builder = Builder::new(pod, container, gathered, facts);
    for var in defaults {
        builder.set(&var.name, var.value);
    }
    builder.set_node_variables();
    let services_bytes = builder.set_services();
    for (index, source) in container.env_from.iter().flatten().enumerate() {
        builder.add_source(&format!("{path}.envFrom[{index}]"), source);
    }
    for (index, var) in container.env.iter().flatten().enumerate() {
        builder.add_variable(&format!("{path}.env[{index}]"), var);
    }
    let total: usize = builder.vars.iter().map(size).sum();
    if total > MAX_ENVIRONMENT_BYTES && total.saturating_sub(services_bytes) <= MAX_ENVIRONMENT_BYTES {
        // Not the pod's doing, and there may be fewer of them tomorrow.
        let text = format!(
            "the environment takes {total} bytes, {services_bytes} of them for the services of the namespace; no program \
             can be started with more than {MAX_ENVIRONMENT_BYTES}: set enableServiceLinks: false"
        );
        builder.reasons.block(CREATE_CONTAINER_CONFIG_ERROR, text);
    } else if total > MAX_ENVIRONMENT_BYTES {
        builder.reasons.refuse(
            format!("{path}.env"),
            format!(
                "the environment takes {total} bytes; no program can be started with more than {MAX_ENVIRONMENT_BYTES}"
            ),
        );
    }
    builder.reasons.finish(Environment { vars: builder.vars, notes: builder.notes })
}

struct Builder<'a> {
    pod: &'a Pod,
    container: &'a Container,
    gathered: &'a Gathered,
    facts: &'a NodeFacts,
    vars: Vec<EnvVar>,
    /// Where in `vars` each name stands.
    places: HashMap<String, usize>,
    notes: Vec<Note>,
    reasons: Reasons,
}

impl<'a> Builder<'a> {
    fn new(pod: &'a Pod, container: &'a Container, gathered: &'a Gathered, facts: &'a NodeFacts) -> Self {
        Self {
            pod,
            container,
            gathered,
            facts,
            vars: Vec::new(),
            places: HashMap::new(),
            notes: Vec::new(),
            reasons: Reasons::default(),
        }
    }

    fn set(&mut self, name: &str, value: String) {
        match self.places.get(name).and_then(|place| self.vars.get_mut(*place)) {
            Some(var) => var.value = value,
            None => {
                self.places.insert(name.to_owned(), self.vars.len());
                self.vars.push(EnvVar::new(name, value));
            }
        }
    }

    /// The founding README's variables: the external address falls back to the internal one.
    fn set_node_variables(&mut self) {
        let internal = self.facts.internal_ips.first().cloned().unwrap_or_default();
        let external = self.facts.external_ips.first().cloned().unwrap_or_else(|| internal.clone());
        self.set("HOSTNAME", self.facts.node_name.clone());
        self.set("SYSTEMK_NODE_INTERNAL_IP", internal);
        self.set("SYSTEMK_NODE_EXTERNAL_IP", external);
    }

    /// The API server's word on services; what the pod itself says of the same names comes later and counts more. Gives
    /// what they take.
    fn set_services(&mut self) -> usize {
        let Some(cluster) = &self.gathered.cluster else { return 0 };
        let mut bytes = 0;
        for var in services::variables(self.pod, cluster) {
            match unusable(&var.name, &var.value) {
                None => {
                    bytes += size(&var);
                    self.set(&var.name, var.value);
                }
                Some(reason) => {
                    let text = format!("the service variable {:?} is left out: {reason}", var.name);
                    self.notes.push(Note::new(NoteKind::Warned, "spec.enableServiceLinks", text));
                }
            }
        }
        bytes
    }

    /// One `envFrom` entry.
    fn add_source(&mut self, path: &str, source: &EnvFromSource) {
        let EnvFromSource { config_map_ref, prefix, secret_ref } = source;
        let prefix = prefix.as_deref().unwrap_or_default();
        if !prefix.is_empty() && !is_variable_name(prefix) {
            self.reasons
                .refuse(format!("{path}.prefix"), "is not part of a variable's name: printable ASCII without =");
        }
        match (config_map_ref, secret_ref) {
            (Some(reference), None) => {
                let Some(map) = self.config_map(&reference.name, reference.optional) else { return };
                let data: BTreeMap<&str, Result<String, &str>> =
                    map.data.iter().flatten().map(|(key, value)| (key.as_str(), Ok(value.clone()))).collect();
                self.add_data(&format!("{path}.configMapRef"), prefix, data);
            }
            (None, Some(reference)) => {
                let Some(secret) = self.secret(&reference.name, reference.optional) else { return };
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| "its value is not UTF-8");
                let data: BTreeMap<&str, Result<String, &str>> =
                    secret.data.iter().flatten().map(|(key, value)| (key.as_str(), text(&value.0))).collect();
                self.add_data(&format!("{path}.secretRef"), prefix, data);
            }
            (Some(_), Some(_)) => self.reasons.refuse(path, "may not have more than one of configMapRef and secretRef"),
            (None, None) => self.reasons.refuse(path, "must have one of configMapRef and secretRef"),
        }
    }

    /// All keys of one object; those that cannot be variables are left out with one note for all of them.
    fn add_data(&mut self, path: &str, prefix: &str, data: BTreeMap<&str, Result<String, &str>>) {
        let mut skipped = Vec::new();
        for (key, value) in data {
            let name = format!("{prefix}{key}");
            let usable = value.and_then(|value| match unusable(&name, &value) {
                Some(reason) => Err(reason),
                None => Ok(value),
            });
            match usable {
                Ok(value) => self.set(&name, value),
                Err(reason) => skipped.push(format!("{key:?} ({reason})")),
            }
        }
        if !skipped.is_empty() {
            let text = format!("keys that cannot be environment variables are left out: {}", skipped.join(", "));
            self.notes.push(Note::new(NoteKind::Warned, path, text));
        }
    }

    /// One `env` entry.
    fn add_variable(&mut self, path: &str, var: &PodEnvVar) {
        let PodEnvVar { name, value, value_from } = var;
        if !is_variable_name(name) {
            let text = "is not a variable's name: at least one character, printable ASCII without =";
            return self.reasons.refuse(format!("{path}.name"), text);
        }
        let literal = value.as_deref().unwrap_or_default();
        match value_from {
            Some(_) if !literal.is_empty() => {
                self.reasons.refuse(format!("{path}.valueFrom"), "may not be given together with value");
            }
            Some(source) => self.add_reference(&format!("{path}.valueFrom"), name, source),
            None => {
                let value = expand(literal, |wanted| {
                    self.places.get(wanted).and_then(|place| self.vars.get(*place)).map(|known| known.value.clone())
                });
                match unusable(name, &value) {
                    Some(reason) => {
                        let text = format!("{name}: {reason} ({} bytes)", value.len());
                        self.reasons.refuse(format!("{path}.value"), text);
                    }
                    None => self.set(name, value),
                }
            }
        }
    }

    /// `env[].valueFrom`.
    fn add_reference(&mut self, path: &str, name: &str, source: &EnvVarSource) {
        let EnvVarSource { config_map_key_ref, field_ref, file_key_ref, resource_field_ref, secret_key_ref } = source;
        let given = [
            config_map_key_ref.is_some(),
            field_ref.is_some(),
            file_key_ref.is_some(),
            resource_field_ref.is_some(),
            secret_key_ref.is_some(),
        ];
        if given.into_iter().filter(|given| *given).count() != 1 {
            return self.reasons.refuse(path, "must have exactly one source");
        }
        if file_key_ref.is_some() {
            let text = "is not supported yet: put the value into a ConfigMap or Secret and use envFrom";
            return self.reasons.refuse(format!("{path}.fileKeyRef"), text);
        }
        if let Some(reference) = config_map_key_ref {
            return self.add_config_map_key(name, reference);
        }
        if let Some(reference) = secret_key_ref {
            return self.add_secret_key(name, reference);
        }
        let (path, value) = match (field_ref, resource_field_ref) {
            (Some(selector), _) => {
                (format!("{path}.fieldRef.fieldPath"), field_value(self.pod, self.facts, FieldUse::Variable, selector))
            }
            (None, Some(selector)) => (
                format!("{path}.resourceFieldRef"),
                resource_value(self.pod, self.facts, Some(self.container), selector),
            ),
            (None, None) => return,
        };
        match value {
            Ok(value) => match unusable(name, &value) {
                Some(reason) => self.reasons.refuse(path, format!("{name}: {reason} ({} bytes)", value.len())),
                None => self.set(name, value),
            },
            Err(text) => self.reasons.refuse(path, text),
        }
    }

    fn add_config_map_key(&mut self, name: &str, reference: &ConfigMapKeySelector) {
        let ConfigMapKeySelector { key, name: object, optional } = reference;
        let Some(map) = self.config_map(object, *optional) else { return };
        match map.data.as_ref().and_then(|data| data.get(key)) {
            Some(value) => self.set_from_object(name, value.clone(), &format!("key {key} of ConfigMap {object}")),
            None if optional == &Some(true) => {}
            None => {
                let text = format!("couldn't find key {key} in ConfigMap {}/{object}", namespace(self.pod));
                self.reasons.block(CREATE_CONTAINER_CONFIG_ERROR, text);
            }
        }
    }

    fn add_secret_key(&mut self, name: &str, reference: &SecretKeySelector) {
        let SecretKeySelector { key, name: object, optional } = reference;
        let Some(secret) = self.secret(object, *optional) else { return };
        match secret.data.as_ref().and_then(|data| data.get(key)) {
            Some(bytes) => match String::from_utf8(bytes.0.clone()) {
                Ok(value) => self.set_from_object(name, value, &format!("key {key} of Secret {object}")),
                Err(_) => {
                    let text = format!("{name}: key {key} of Secret {object} is not UTF-8");
                    self.reasons.block(CREATE_CONTAINER_CONFIG_ERROR, text);
                }
            },
            None if optional == &Some(true) => {}
            None => {
                let text = format!("couldn't find key {key} in Secret {}/{object}", namespace(self.pod));
                self.reasons.block(CREATE_CONTAINER_CONFIG_ERROR, text);
            }
        }
    }

    /// What an object holds can be put right without touching the pod, so it does not refuse the pod.
    fn set_from_object(&mut self, name: &str, value: String, origin: &str) {
        match unusable(name, &value) {
            Some(reason) => {
                let text = format!("{name}: {origin}: {reason} ({} bytes)", value.len());
                self.reasons.block(CREATE_CONTAINER_CONFIG_ERROR, text);
            }
            None => self.set(name, value),
        }
    }

    fn config_map(&mut self, name: &str, optional: Option<bool>) -> Option<&'a ConfigMap> {
        let found = self.gathered.config_maps.get(name);
        if found.is_none() && optional != Some(true) {
            self.reasons.block(CREATE_CONTAINER_CONFIG_ERROR, format!("configmap {name:?} not found"));
        }
        found
    }

    fn secret(&mut self, name: &str, optional: Option<bool>) -> Option<&'a Secret> {
        let found = self.gathered.secrets.get(name);
        if found.is_none() && optional != Some(true) {
            self.reasons.block(CREATE_CONTAINER_CONFIG_ERROR, format!("secret {name:?} not found"));
        }
        found
    }
}

/// `IsRelaxedEnvVarName`.
fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
}

/// What `NAME=value` takes with its NUL.
fn size(var: &EnvVar) -> usize {
    var.name.len() + var.value.len() + 2
}

/// Why the kernel would not take the variable.
fn unusable(name: &str, value: &str) -> Option<&'static str> {
    if !is_variable_name(name) {
        return Some("is not a variable's name");
    }
    if value.contains('\0') {
        return Some("its value holds a NUL byte");
    }
    (name.len() + value.len() + 2 > MAX_VARIABLE_BYTES).then_some("NAME=value is larger than 128 KiB")
}

#[cfg(test)]
mod tests;
