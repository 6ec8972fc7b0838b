//! Who a pod of a manifest is: its namespace and its uid. A pod whose manifest changed is another pod, with another uid,
//! as with the kubelet's static pods.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::fields::downward::DEFAULT_NAMESPACE;
use crate::note::Refusal;

/// Fills in the namespace and the uid. Call it before defaults are filled in: a later version's new default must not make
/// another pod of an unchanged manifest.
pub(super) fn fill(pod: &mut Pod, node_name: &str, problems: &mut Vec<Refusal>) {
    namespace(&mut pod.metadata.namespace);
    match &pod.metadata.uid {
        Some(uid) if is_uid(uid) => {}
        Some(_) => problems.push(Refusal::new("metadata.uid", "must be 1 to 64 letters, digits and -")),
        None => pod.metadata.uid = Some(derive(pod, node_name)),
    }
}

pub(super) fn namespace(namespace: &mut Option<String>) {
    if namespace.as_deref().unwrap_or_default().is_empty() {
        *namespace = Some(DEFAULT_NAMESPACE.to_owned());
    }
}

fn is_uid(uid: &str) -> bool {
    (1..=64).contains(&uid.len()) && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn derive(pod: &Pod, node_name: &str) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    add(node_name);
    add(pod.metadata.namespace.as_deref().unwrap_or_default());
    add(pod.metadata.name.as_deref().unwrap_or_default());
    let parts = [
        serde_json::to_value(&pod.spec),
        serde_json::to_value(&pod.metadata.annotations),
        serde_json::to_value(&pod.metadata.labels),
    ];
    for part in parts {
        let mut text = String::new();
        canonical(&part.unwrap_or_default(), &mut text);
        add(&text);
    }
    let digest = hash.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    // RFC 9562 version 8: a UUID of one's own making.
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut uid = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            uid.push('-');
        }
        let _infallible = write!(uid, "{byte:02x}");
    }
    uid
}

/// JSON with sorted keys whatever order the map type keeps, so that the uid depends on neither the manifest's order nor
/// the features that serde_json is built with.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
            fields.sort_by_key(|(key, _)| key.as_str());
            text.push('{');
            for (key, value) in fields {
                text.push_str(&Value::String(key.clone()).to_string());
                text.push(':');
                canonical(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                canonical(item, text);
                text.push(',');
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}
