//! The config file: the flags' names in camelCase.

use std::path::Path;

use serde_json::Value;

use super::settings::{Flag, Origin, Setting};
use crate::manifests::documents;

pub(super) fn parse(text: &str, path: &Path, flags: &[Flag], problems: &mut Vec<String>) -> Vec<(String, Setting)> {
    let mut settings = Vec::new();
    let mut problem = |text: String| problems.push(format!("{}: {text}", path.display()));
    let documents = match documents(text) {
        Ok(documents) => documents,
        Err(error) => {
            problem(error);
            return settings;
        }
    };
    let mut documents = documents.into_iter().filter(|document| !document.is_null());
    let fields = match (documents.next(), documents.next()) {
        (None, _) => return settings,
        (Some(Value::Object(fields)), None) => fields,
        _ => {
            problem("it must be one document of 'key: value' lines".to_owned());
            return settings;
        }
    };
    for (key, value) in fields {
        let Some(flag) = flags.iter().find(|flag| flag.key() == key && flag.name != "config") else {
            let keys = flags.iter().filter(|flag| flag.name != "config").map(Flag::key);
            problem(match nearest(&key, keys) {
                Some(near) => format!("there is no setting {key}; did you mean {near}?"),
                None => format!("there is no setting {key}"),
            });
            continue;
        };
        match values(flag, &value) {
            Ok(None) => {}
            Ok(Some(values)) => {
                let origin = Origin::File(path.to_owned(), key);
                settings.push((flag.name.clone(), Setting { values, origin }));
            }
            Err(wanted) => problem(format!("{key} must be {wanted}")),
        }
    }
    settings
}

fn values(flag: &Flag, value: &Value) -> Result<Option<Vec<String>>, &'static str> {
    let wanted = match (flag.switch, flag.list) {
        (true, _) => "true or false",
        (_, true) => "a text or a list of texts",
        _ => "a text",
    };
    match value {
        Value::Null => Ok(None),
        Value::Bool(on) if flag.switch => Ok(Some(vec![on.to_string()])),
        Value::String(text) if !flag.switch => Ok(Some(vec![text.clone()])),
        Value::Array(items) if flag.list => {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>().map(Some).ok_or(wanted)
        }
        _ => Err(wanted),
    }
}

/// The key that differs least, if it differs little.
fn nearest(key: &str, keys: impl Iterator<Item = String>) -> Option<String> {
    let lower = key.to_lowercase().replace(['-', '_'], "");
    keys.map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 3))
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
