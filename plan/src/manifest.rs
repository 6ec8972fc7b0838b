//! Takes the documents of one manifest file as JSON values, gives the Pods, ConfigMaps and Secrets in it, defaulted and
//! validated as an API server would, or every reason why the file cannot be used. Never reads a file and never parses YAML.

mod defaults;
mod identity;
pub(crate) mod names;
mod objects;
mod pod;
mod ports;
mod typed;
mod volumes;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde_json::Value;

use crate::fields::downward::DEFAULT_NAMESPACE;
use crate::note::{Note, Refusal};

/// More problems than this in one file are counted, not listed.
const MOST_PROBLEMS: usize = 100;

/// What one manifest file holds.
#[derive(Clone, Default, PartialEq)]
pub struct Manifest {
    /// Its pods: namespace, uid and defaults filled in.
    pub pods: Vec<Pod>,
    /// Its ConfigMaps, namespace filled in.
    pub config_maps: Vec<ConfigMap>,
    /// Its Secrets, namespace filled in and `stringData` merged into `data`.
    pub secrets: Vec<Secret>,
    /// Fields that nothing knows.
    pub warnings: Vec<Note>,
}

/// Reads the documents of one file. `node_name` is part of the uid of a pod that has none.
///
/// # Errors
/// Every problem of every document: a file is used as a whole or not at all, so that a typing error in its last document
/// does not start half of it.
pub fn parse(documents: &[Value], node_name: &str) -> Result<Manifest, Vec<Refusal>> {
    let mut manifest = Manifest::default();
    let mut refusals = Vec::new();
    for document in documents {
        if document.is_null() {
            continue;
        }
        match list_items(document) {
            Some((items, item_kind)) => {
                for item in items {
                    object(item, item_kind, node_name, &mut manifest, &mut refusals);
                }
            }
            None => object(document, None, node_name, &mut manifest, &mut refusals),
        }
    }
    if refusals.is_empty() {
        return Ok(manifest);
    }
    if refusals.len() > MOST_PROBLEMS {
        let more = refusals.len() - MOST_PROBLEMS;
        refusals.truncate(MOST_PROBLEMS);
        refusals.push(Refusal::new("", format!("and {more} more problems")));
    }
    Err(refusals)
}

/// The items of a `List`, `PodList`, `ConfigMapList` or `SecretList`, and the kind of an item that does not say its own.
fn list_items(document: &Value) -> Option<(&[Value], Option<&'static str>)> {
    let kind = match document.get("kind")?.as_str()? {
        "List" => None,
        "PodList" => Some("Pod"),
        "ConfigMapList" => Some("ConfigMap"),
        "SecretList" => Some("Secret"),
        _ => return None,
    };
    match document.get("items") {
        None | Some(Value::Null) => Some((&[], kind)),
        Some(Value::Array(items)) => Some((items, kind)),
        Some(_) => None,
    }
}

fn object(
    value: &Value,
    kind: Option<&'static str>,
    node_name: &str,
    manifest: &mut Manifest,
    refusals: &mut Vec<Refusal>,
) {
    let label = label(value, kind);
    let Value::Object(fields) = value else {
        refusals.push(Refusal::new(label, "a document must be an object with apiVersion, kind and metadata"));
        return;
    };
    let kind = match fields.get("kind") {
        Some(Value::String(kind)) => kind.as_str(),
        None | Some(Value::Null) => kind.unwrap_or_default(),
        Some(_) => "",
    };
    if let Some(text) = unusable_kind(kind) {
        refusals.push(Refusal::new(label, text));
        return;
    }
    match fields.get("apiVersion") {
        Some(Value::String(version)) if version == "v1" => {}
        Some(version) => {
            refusals.push(Refusal::new(label, format!("apiVersion must be v1 for a {kind}, it is {version}")));
            return;
        }
        None => {
            refusals.push(Refusal::new(label, format!("apiVersion is missing; it is v1 for a {kind}")));
            return;
        }
    }
    let mut problems = Vec::new();
    match kind {
        "Pod" => {
            if let Some(mut pod) = typed::read::<Pod>(value, kind, &mut problems, &mut manifest.warnings, &label) {
                identity::fill(&mut pod, node_name, &mut problems);
                defaults::fill(&mut pod);
                pod::validate(&pod, &mut problems);
                manifest.pods.push(pod);
            }
        }
        "ConfigMap" => {
            if let Some(mut map) = typed::read::<ConfigMap>(value, kind, &mut problems, &mut manifest.warnings, &label)
            {
                objects::finish_config_map(&mut map, &mut problems);
                manifest.config_maps.push(map);
            }
        }
        _ => {
            if let Some(mut secret) = typed::read::<Secret>(value, kind, &mut problems, &mut manifest.warnings, &label)
            {
                objects::finish_secret(&mut secret, &mut problems);
                manifest.secrets.push(secret);
            }
        }
    }
    refusals
        .extend(problems.into_iter().map(|problem| Refusal::new(format!("{label} {}", problem.path), problem.text)));
}

/// `Pod default/web`: how an object is named in messages, also when it has no usable name.
fn label(value: &Value, kind: Option<&'static str>) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(shorten);
    let kind = text(value.get("kind")).or(kind.map(str::to_owned)).unwrap_or_else(|| "document".to_owned());
    let metadata = value.get("metadata");
    let name = text(metadata.and_then(|metadata| metadata.get("name")));
    let namespace = text(metadata.and_then(|metadata| metadata.get("namespace")));
    match name {
        Some(name) => format!("{kind} {}/{name}", namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())),
        None => format!("{kind} without a name"),
    }
}

/// A name that is short enough, and harmless on a terminal, for a message.
fn shorten(text: &str) -> String {
    let clean: String = text.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().count() > 64 { clean + "…" } else { clean }
}

fn unusable_kind(kind: &str) -> Option<String> {
    let advice = match kind {
        "Pod" | "ConfigMap" | "Secret" => return None,
        "" => return Some("kind is missing; it is Pod, ConfigMap, Secret or a List of these".to_owned()),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            "a node runs pods and nothing here makes them from a template: write the content of spec.template as a Pod"
        }
        "CronJob" => "nothing here starts pods by the clock: write the pod as a Pod and start it with a systemd timer",
        "Service" | "Ingress" | "Endpoints" | "EndpointSlice" | "NetworkPolicy" => {
            "it is the work of a cluster: remove it from this directory; a pod is reached at its ports on the node's address"
        }
        "PersistentVolumeClaim" | "PersistentVolume" | "StorageClass" => {
            "storage is not provisioned here: use a hostPath or emptyDir volume in the pod"
        }
        "ServiceAccount" | "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding" | "Namespace" => {
            "there is no API server that would need it: remove it from this directory"
        }
        "List" | "PodList" | "ConfigMapList" | "SecretList" => {
            "items must be a list, and a list inside of a list is not read"
        }
        _ => "a manifest directory may hold Pod, ConfigMap, Secret and a List of these",
    };
    Some(format!("a {} cannot be used here; {advice}", shorten(kind)))
}

#[cfg(test)]
mod tests;
