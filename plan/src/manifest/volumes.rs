//! What an API server would refuse in a pod's volumes.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{KeyToPath, PodSpec, Volume};

use super::names;
use crate::note::Refusal;

/// The names of the sources that a volume has; there must be one.
pub(super) fn sources(volume: &Volume) -> Vec<String> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(volume) else { return Vec::new() };
    fields.into_iter().filter(|(key, value)| key != "name" && !value.is_null()).map(|(key, _)| key).collect()
}

/// A path below a volume: relative and without a step up.
pub(super) fn is_relative(path: &str) -> bool {
    !path.is_empty() && !path.starts_with('/') && !path.contains('\0') && path.split('/').all(|part| part != "..")
}

/// Gives the names of the volumes that may be mounted.
pub(super) fn validate<'a>(spec: &'a PodSpec, problems: &mut Vec<Refusal>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = format!("spec.volumes[{index}]");
        if !names::is_label(&volume.name) {
            problems.push(Refusal::new(format!("{path}.name"), names::LABEL));
        } else if !seen.insert(volume.name.as_str()) {
            problems.push(Refusal::new(format!("{path}.name"), format!("{} is there twice", volume.name)));
        }
        let sources = sources(volume);
        if sources.len() > 1 {
            let text = format!("has {} sources ({}); one is possible", sources.len(), sources.join(", "));
            problems.push(Refusal::new(&path, text));
        }
        source(volume, &path, problems);
    }
    seen
}

fn source(volume: &Volume, path: &str, problems: &mut Vec<Refusal>) {
    if let Some(host) = &volume.host_path {
        let bad = !host.path.starts_with('/') || host.path.split('/').any(|part| part == "..");
        if bad || host.path.contains('\0') {
            problems.push(Refusal::new(format!("{path}.hostPath.path"), "must be absolute and without .."));
        }
    }
    if let Some(secret) = &volume.secret {
        mode(secret.default_mode, &format!("{path}.secret.defaultMode"), problems);
        items(secret.items.as_deref(), &format!("{path}.secret"), problems);
        if secret.secret_name.as_deref().unwrap_or_default().is_empty() {
            problems.push(Refusal::new(format!("{path}.secret.secretName"), "is required"));
        }
    }
    if let Some(map) = &volume.config_map {
        mode(map.default_mode, &format!("{path}.configMap.defaultMode"), problems);
        items(map.items.as_deref(), &format!("{path}.configMap"), problems);
        if map.name.is_empty() {
            problems.push(Refusal::new(format!("{path}.configMap.name"), "is required"));
        }
    }
    if let Some(downward) = &volume.downward_api {
        mode(downward.default_mode, &format!("{path}.downwardAPI.defaultMode"), problems);
        for (index, item) in downward.items.iter().flatten().enumerate() {
            entry(&item.path, item.mode, &format!("{path}.downwardAPI.items[{index}]"), problems);
        }
    }
    if let Some(projected) = &volume.projected {
        mode(projected.default_mode, &format!("{path}.projected.defaultMode"), problems);
        for (index, source) in projected.sources.iter().flatten().enumerate() {
            let path = format!("{path}.projected.sources[{index}]");
            if let Some(secret) = &source.secret {
                items(secret.items.as_deref(), &format!("{path}.secret"), problems);
            }
            if let Some(map) = &source.config_map {
                items(map.items.as_deref(), &format!("{path}.configMap"), problems);
            }
            for (index, item) in source.downward_api.iter().flat_map(|source| &source.items).flatten().enumerate() {
                entry(&item.path, item.mode, &format!("{path}.downwardAPI.items[{index}]"), problems);
            }
            if source.service_account_token.as_ref().is_some_and(|token| !is_item_path(&token.path)) {
                problems.push(Refusal::new(format!("{path}.serviceAccountToken.path"), ITEM_PATH));
            }
        }
    }
}

const ITEM_PATH: &str = "must be relative, without .. and must not begin with ..";

fn is_item_path(path: &str) -> bool {
    is_relative(path) && !path.starts_with("..")
}

fn items(items: Option<&[KeyToPath]>, path: &str, problems: &mut Vec<Refusal>) {
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let path = format!("{path}.items[{index}]");
        if item.key.is_empty() {
            problems.push(Refusal::new(format!("{path}.key"), "is required"));
        }
        entry(&item.path, item.mode, &path, problems);
    }
}

fn entry(item_path: &str, item_mode: Option<i32>, path: &str, problems: &mut Vec<Refusal>) {
    if !is_item_path(item_path) {
        problems.push(Refusal::new(format!("{path}.path"), ITEM_PATH));
    }
    mode(item_mode, &format!("{path}.mode"), problems);
}

fn mode(mode: Option<i32>, path: &str, problems: &mut Vec<Refusal>) {
    if mode.is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        problems.push(Refusal::new(path, "must be between 0 and 0777 (octal)"));
    }
}
