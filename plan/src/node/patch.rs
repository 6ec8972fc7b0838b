//! The patch that makes a Node object say what this node says, and leaves alone what others say.
//!
//! Upstream: `component-helpers/node/util` (PatchNodeStatus): a strategic merge patch of `nodes/status`, which takes labels
//! too, so that a registration is one write.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Map, Value, json};

use super::report::{is_own, must_report, written_ms};

/// The fields of a status that this node writes whole, beside amounts, addresses and conditions.
const FIELDS: [&str; 3] = ["daemonEndpoints", "images", "nodeInfo"];

/// What has to be written so that `known`, as it was read, becomes `wanted`; None: nothing has to. Refused (409) if somebody has written it since: it may
/// have become another machine's.
pub fn patch(known: &Node, wanted: &Node, now_ms: i64) -> Option<Value> {
    let no_status = NodeStatus::default();
    let known_status = known.status.as_ref().unwrap_or(&no_status);
    let wanted_status = wanted.status.as_ref()?;
    let written = written_ms(known_status);
    let labels = labels(known, wanted);
    if labels.is_empty() && !must_report(known_status, written, wanted_status, now_ms) {
        return None;
    }
    let mut metadata = Map::new();
    metadata.insert("uid".to_owned(), json!(known.metadata.uid));
    metadata.insert("resourceVersion".to_owned(), json!(known.metadata.resource_version));
    if !labels.is_empty() {
        metadata.insert("labels".to_owned(), json!(labels));
    }
    Some(json!({"metadata": metadata, "status": status(known_status, wanted_status)}))
}

/// The labels of ours that are missing or say something else. Others stay.
fn labels<'a>(known: &Node, wanted: &'a Node) -> BTreeMap<&'a str, &'a str> {
    let there = known.metadata.labels.as_ref();
    let wanted = wanted.metadata.labels.iter().flatten();
    wanted
        .filter(|(name, value)| there.and_then(|labels| labels.get(*name)) != Some(value))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

fn status(known: &NodeStatus, wanted: &NodeStatus) -> Map<String, Value> {
    let mut changed = Map::new();
    let (is, shall) = (json!(known), json!(wanted));
    for field in FIELDS {
        let empty = shall[field].is_null() || shall[field].as_array().is_some_and(Vec::is_empty);
        if is[field] != shall[field] && !(empty && is[field].is_null()) {
            changed.insert(field.to_owned(), shall[field].clone());
        }
    }
    if known.addresses != wanted.addresses {
        // Merged by type otherwise, and of two internal addresses one would be lost.
        let replaced = [json!({"$patch": "replace"})].into_iter();
        let all = replaced.chain(wanted.addresses.iter().flatten().map(|address| json!(address)));
        changed.insert("addresses".to_owned(), all.collect());
    }
    for (field, is, shall) in
        [("capacity", &known.capacity, &wanted.capacity), ("allocatable", &known.allocatable, &wanted.allocatable)]
    {
        let amounts = amounts(is.as_ref(), shall.as_ref());
        if !amounts.is_empty() {
            changed.insert(field.to_owned(), Value::Object(amounts));
        }
    }
    // Whole, for the times of the heartbeat; merged by type.
    changed.insert("conditions".to_owned(), json!(wanted.conditions));
    changed
}

/// What changes of the amounts; null takes away a size of huge pages that is gone. Extended resources are others'.
fn amounts(is: Option<&BTreeMap<String, Quantity>>, shall: Option<&BTreeMap<String, Quantity>>) -> Map<String, Value> {
    let gone = is.into_iter().flatten().filter(|(name, _)| is_own(name, shall));
    let gone = gone.filter(|(name, _)| !shall.is_some_and(|shall| shall.contains_key(*name)));
    let new = shall.into_iter().flatten().filter(|(name, amount)| is.and_then(|is| is.get(*name)) != Some(amount));
    gone.map(|(name, _)| (name.clone(), Value::Null))
        .chain(new.map(|(name, amount)| (name.clone(), json!(amount))))
        .collect()
}
