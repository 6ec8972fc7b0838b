//! The downward API: what `fieldRef` and `resourceFieldRef` yield, for variables and for volume files.
//!
//! Errors are the reason why the reference cannot be used, for a refusal at its path.

use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};

use crate::fields::resources::{container_limit, container_request};
use crate::inputs::NodeFacts;
use crate::quantity::{Format, Quantity};

/// Where the value goes: each place allows its own fields (apiserver's `validEnvDownwardAPIFieldPathExpressions` and
/// `validVolumeDownwardAPIFieldPathExpressions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldUse {
    /// `env[].valueFrom`.
    Variable,
    /// `downwardAPI.items[]`.
    File,
}

/// Where an object is that names no namespace.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The pod's namespace; a manifest need not name it.
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or(DEFAULT_NAMESPACE)
}

/// The pod's addresses on the host's network: the node's external ones, as the founding README has it, where there are
/// any and the pod did not ask for the host's network itself; else the internal ones.
pub fn pod_ips<'a>(pod: &Pod, facts: &'a NodeFacts) -> &'a [String] {
    let asked = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    if asked || facts.external_ips.is_empty() { &facts.internal_ips } else { &facts.external_ips }
}

/// What `fieldRef` yields.
pub fn field_value(
    pod: &Pod,
    facts: &NodeFacts,
    place: FieldUse,
    selector: &ObjectFieldSelector,
) -> Result<String, String> {
    let ObjectFieldSelector { api_version, field_path } = selector;
    if let Some(version) = api_version.as_deref().filter(|version| !matches!(*version, "" | "v1")) {
        return Err(format!("unsupported pod version: {version}"));
    }
    if let Some((map, key)) = subscript(field_path) {
        let entries = match map {
            "metadata.labels" => &pod.metadata.labels,
            "metadata.annotations" => &pod.metadata.annotations,
            _ => return Err(format!("field label does not support subscript: {field_path}")),
        };
        if !is_qualified_name(key) {
            return Err(format!("invalid key subscript in {field_path}"));
        }
        return Ok(entries.as_ref().and_then(|entries| entries.get(key)).cloned().unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    let first = |addresses: &[String]| addresses.first().cloned().unwrap_or_default();
    Ok(match (place, field_path.as_str()) {
        (_, "metadata.name") => pod.metadata.name.clone().unwrap_or_default(),
        (_, "metadata.namespace") => namespace(pod).to_owned(),
        (_, "metadata.uid") => pod.metadata.uid.clone().unwrap_or_default(),
        (FieldUse::File, "metadata.labels") => format_map(pod.metadata.labels.iter().flatten()),
        (FieldUse::File, "metadata.annotations") => format_map(pod.metadata.annotations.iter().flatten()),
        (FieldUse::Variable, "spec.nodeName" | "spec.host") => spec
            .and_then(|spec| spec.node_name.clone())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| facts.node_name.clone()),
        (FieldUse::Variable, "spec.serviceAccountName") => {
            spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default()
        }
        (FieldUse::Variable, "status.podIP") => first(pod_ips(pod, facts)),
        (FieldUse::Variable, "status.podIPs") => pod_ips(pod, facts).join(","),
        (FieldUse::Variable, "status.hostIP") => first(&facts.internal_ips),
        (FieldUse::Variable, "status.hostIPs") => facts.internal_ips.join(","),
        (FieldUse::Variable | FieldUse::File, other) => return Err(format!("unsupported fieldPath: {other}")),
    })
}

/// What `resourceFieldRef` yields. `own` is the container of the variable; a volume has none and must name one.
pub fn resource_value(
    pod: &Pod,
    facts: &NodeFacts,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
) -> Result<String, String> {
    let ResourceFieldSelector { container_name, divisor, resource } = selector;
    let container = match container_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => find_container(pod, name).ok_or_else(|| format!("container {name} not found"))?,
        None => own.ok_or("containerName is required in a volume")?,
    };
    let (of_limits, name) = match resource.split_once('.') {
        Some(("limits", name)) => (true, name),
        Some(("requests", name)) => (false, name),
        _ => return Err(format!("unsupported container resource: {resource}")),
    };
    if !matches!(name, "cpu" | "memory" | "ephemeral-storage") {
        return Err(format!("unsupported container resource: {resource}"));
    }
    let divisor = match divisor {
        Some(divisor) => Quantity::from_api(divisor).map_err(|error| error.to_string())?,
        None => Quantity::ZERO,
    };
    if !divisor_allowed(name, divisor) {
        return Err(format!("divisor {divisor} is not supported for {resource}"));
    }
    let amount = if of_limits {
        match container_limit(container, name)?.filter(|limit| !limit.is_zero()) {
            Some(limit) => limit,
            None => allocatable(pod, facts, name)?,
        }
    } else {
        container_request(container, name)?.unwrap_or(Quantity::ZERO)
    };
    Ok(if name == "cpu" { amount.divided_milli(divisor) } else { amount.divided(divisor) }.to_string())
}

/// What a container without a limit of its own may use: the pod's limit, else the whole node. The node's disk is not
/// among its facts; upstream yields 0 as well where the node does not report it.
fn allocatable(pod: &Pod, facts: &NodeFacts, name: &str) -> Result<Quantity, String> {
    let pod_limits = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref()).and_then(|all| all.limits.as_ref());
    let of_node = match name {
        "cpu" => Quantity::from_milli(facts.cpu_milli, Format::DecimalSi),
        "memory" => Quantity::from_units(facts.memory_bytes, Format::BinarySi),
        _ => return Ok(Quantity::ZERO),
    };
    match pod_limits.and_then(|limits| limits.get(name)) {
        Some(limit) => {
            let limit = Quantity::from_api(limit).map_err(|error| error.to_string())?;
            Ok(if limit.is_zero() { of_node } else { limit })
        }
        None => Ok(of_node),
    }
}

/// The apiserver's `validContainerResourceDivisorFor…`; 0 stands for 1.
fn divisor_allowed(name: &str, divisor: Quantity) -> bool {
    let allowed: &[&str] = match name {
        "cpu" => &["0", "1m", "1"],
        _ => &["0", "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"],
    };
    allowed.iter().any(|text| Quantity::parse(text).is_ok_and(|allowed| allowed == divisor))
}

/// As upstream: among the containers, then among the init containers.
fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}

/// `SplitMaybeSubscriptedPath`: `metadata.labels['key']` is `metadata.labels` and `key`.
fn subscript(field_path: &str) -> Option<(&str, &str)> {
    field_path.strip_suffix("']")?.split_once("['").filter(|(map, _)| !map.is_empty())
}

/// `IsQualifiedName`: an optional DNS prefix and `/`, then at most 63 of letters, digits, `-`, `_` and `.`.
fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let name_ok = name.len() <= 63
        && edge(name.as_bytes().first())
        && edge(name.as_bytes().last())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let prefix_ok = prefix.is_none_or(|prefix| {
        prefix.len() <= 253
            && prefix.split('.').all(|label| {
                edge(label.as_bytes().first())
                    && edge(label.as_bytes().last())
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            })
    });
    name_ok && prefix_ok
}

/// `fieldpath.FormatMap`: `key="value"` lines in key order, without a last line feed.
pub fn format_map<'a>(entries: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let lines: Vec<String> = entries.map(|(key, value)| format!("{key}={}", quote(value))).collect();
    lines.join("\n")
}

/// Go's `strconv.Quote`.
fn quote(text: &str) -> String {
    use std::fmt::Write as _;
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            other if is_print(other) => quoted.push(other),
            other => {
                let code = u32::from(other);
                // Writing to a String cannot fail.
                let written = match code {
                    0..0x80 => write!(quoted, "\\x{code:02x}"),
                    0x80..0x1_0000 => write!(quoted, "\\u{code:04x}"),
                    _ => write!(quoted, "\\U{code:08x}"),
                };
                debug_assert!(written.is_ok());
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Go's `unicode.IsPrint`, which has the same general categories as what Rust escapes in a string's `Debug`. A leading
/// letter keeps a combining mark, which is printable, from being escaped for standing first.
fn is_print(character: char) -> bool {
    if character.is_ascii() {
        return (' '..='~').contains(&character);
    }
    let mut text = String::from("a");
    text.push(character);
    text.escape_debug().nth(1).is_some_and(|first| first != '\\')
}

#[cfg(test)]
mod tests;
