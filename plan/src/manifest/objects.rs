//! ConfigMaps and Secrets: the namespace, `stringData`, and what an API server would refuse.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::{identity, names};
use crate::note::Refusal;

/// Kubernetes' own limit on the data of one object.
const MOST_DATA_BYTES: usize = 1024 * 1024;

pub(super) fn finish_config_map(map: &mut ConfigMap, problems: &mut Vec<Refusal>) {
    identity::namespace(&mut map.metadata.namespace);
    names::metadata(&map.metadata, problems);
    let text = map.data.iter().flatten().map(|(key, value)| (key, value.len()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key, value.0.len()));
    keys("data", text.chain(binary), problems);
}

pub(super) fn finish_secret(secret: &mut Secret, problems: &mut Vec<Refusal>) {
    identity::namespace(&mut secret.metadata.namespace);
    names::metadata(&secret.metadata, problems);
    if let Some(text) = secret.string_data.take() {
        let data = secret.data.get_or_insert_default();
        data.extend(text.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))));
    }
    keys("data", secret.data.iter().flatten().map(|(key, value)| (key, value.0.len())), problems);
}

fn keys<'a>(path: &str, entries: impl Iterator<Item = (&'a String, usize)>, problems: &mut Vec<Refusal>) {
    let mut seen = BTreeSet::new();
    let mut total = 0;
    for (key, length) in entries {
        total += length;
        let path = format!("{path}[{}]", super::shorten(key));
        if !names::is_data_key(key) {
            let text = "the key must be 1 to 253 letters, digits, -, _ and ., and must not begin with ..";
            problems.push(Refusal::new(path, text));
        } else if !seen.insert(key) {
            problems.push(Refusal::new(path, "the key is in data and in binaryData"));
        }
    }
    if total > MOST_DATA_BYTES {
        problems.push(Refusal::new(path, "must be at most 1 MiB together"));
    }
}
