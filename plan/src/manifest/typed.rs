//! JSON value to a typed object: every wrong type is reported with its path, and every field that no type knows is found.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::note::{Note, NoteKind, Refusal};

/// Deeper documents are refused: nothing in Kubernetes' types is, and recursion stays small.
const DEEPEST: usize = 64;

#[derive(Clone)]
enum Segment {
    Key(String),
    Index(usize),
}

/// The typed object, or None with at least one refusal.
pub(super) fn read<T: DeserializeOwned + Serialize>(
    value: &Value,
    kind: &str,
    problems: &mut Vec<Refusal>,
    warnings: &mut Vec<Note>,
    label: &str,
) -> Option<T> {
    if too_deep(value, DEEPEST) {
        problems.push(Refusal::new("", format!("it is nested more than {DEEPEST} levels deep")));
        return None;
    }
    let mut value = value.clone();
    numbers_to_quantities(&mut value);
    value["kind"] = Value::String(kind.to_owned());
    match T::deserialize(&value) {
        Ok(object) => {
            if let Ok(known) = serde_json::to_value(&object) {
                let mut paths = Vec::new();
                unknown(&value, &known, &mut Vec::new(), &mut paths);
                let text =
                    "is not a field that Kubernetes has and nothing reads it; check its spelling and its indentation";
                warnings.extend(
                    paths.into_iter().map(|path| Note::new(NoteKind::Ignored, format!("{label} {path}"), text)),
                );
            }
            Some(object)
        }
        Err(error) => {
            let before = problems.len();
            wrong::<T>(kind, &value, &mut Vec::new(), problems);
            if problems.len() == before {
                problems.push(Refusal::new("", error.to_string()));
            }
            None
        }
    }
}

fn too_deep(value: &Value, left: usize) -> bool {
    match value {
        Value::Object(fields) => left == 0 || fields.values().any(|field| too_deep(field, left - 1)),
        Value::Array(items) => left == 0 || items.iter().any(|item| too_deep(item, left - 1)),
        _ => false,
    }
}

/// `cpu: 1` is a number in YAML; the API server takes it for the quantity "1".
fn numbers_to_quantities(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match (key.as_str(), &mut *field) {
                    ("limits" | "requests" | "overhead", Value::Object(quantities)) => {
                        quantities.values_mut().for_each(number_to_text);
                    }
                    ("sizeLimit" | "divisor", number @ Value::Number(_)) => number_to_text(number),
                    (_, other) => numbers_to_quantities(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(numbers_to_quantities),
        _ => {}
    }
}

fn number_to_text(value: &mut Value) {
    if let Value::Number(number) = value {
        *value = Value::String(number.to_string());
    }
}

/// Reports each innermost value that is wrong by itself. Every field may be absent in Kubernetes' types, so an object
/// reduced to the one path in question fails exactly when that path is wrong.
fn wrong<T: DeserializeOwned>(kind: &str, value: &Value, path: &mut Vec<Segment>, problems: &mut Vec<Refusal>) {
    let Some(error) = alone::<T>(kind, value, path) else { return };
    let before = problems.len();
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                if path.is_empty() && (key == "kind" || key == "apiVersion") {
                    continue;
                }
                path.push(Segment::Key(key.clone()));
                wrong::<T>(kind, field, path, problems);
                path.pop();
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(Segment::Index(index));
                wrong::<T>(kind, item, path, problems);
                path.pop();
            }
        }
        _ => {}
    }
    if problems.len() == before {
        let text = of_data(kind, path).map_or(error, str::to_owned);
        problems.push(Refusal::new(show(path), text));
    }
}

/// What is wrong with an object's data in words that hold nothing of it: a Secret's must not get into a message.
fn of_data(kind: &str, path: &[Segment]) -> Option<&'static str> {
    let Some(Segment::Key(field)) = path.first() else { return None };
    let text = match (kind, field.as_str(), path.len()) {
        ("Secret", "data" | "stringData", 1) | ("ConfigMap", "binaryData", 1) => {
            "must be an object of names and values"
        }
        ("Secret", "data", _) => "is not base64; plain text goes into stringData",
        ("Secret", "stringData", _) => "must be a string: put it into quotes",
        ("ConfigMap", "binaryData", _) => "is not base64; plain text goes into data",
        _ => return None,
    };
    Some(text)
}

fn alone<T: DeserializeOwned>(kind: &str, value: &Value, path: &[Segment]) -> Option<String> {
    let mut wrapped = value.clone();
    for segment in path.iter().rev() {
        wrapped = match segment {
            Segment::Key(key) => Value::Object(Map::from_iter([(key.clone(), wrapped)])),
            Segment::Index(_) => Value::Array(vec![wrapped]),
        };
    }
    if let Value::Object(fields) = &mut wrapped {
        fields.insert("apiVersion".to_owned(), "v1".into());
        fields.insert("kind".to_owned(), kind.into());
    }
    T::deserialize(&wrapped).err().map(|error| error.to_string())
}

/// Every key that is set in `raw` and missing from what the typed object says of itself.
fn unknown(raw: &Value, known: &Value, path: &mut Vec<Segment>, paths: &mut Vec<String>) {
    match (raw, known) {
        (Value::Object(raw), Value::Object(known)) => {
            for (key, value) in raw {
                path.push(Segment::Key(key.clone()));
                match known.get(key) {
                    Some(known) => unknown(value, known, path, paths),
                    None if is_empty(value) => {}
                    None => paths.push(show(path)),
                }
                path.pop();
            }
        }
        (Value::Array(raw), Value::Array(known)) => {
            for (index, (raw, known)) in raw.iter().zip(known).enumerate() {
                path.push(Segment::Index(index));
                unknown(raw, known, path, paths);
                path.pop();
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// `spec.containers[0].resources.limits[nvidia.com/gpu]`.
fn show(path: &[Segment]) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Index(index) => text.push_str(&format!("[{index}]")),
            Segment::Key(key) if key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !key.is_empty() => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            Segment::Key(key) => text.push_str(&format!("[{}]", super::shorten(key))),
        }
    }
    text
}
