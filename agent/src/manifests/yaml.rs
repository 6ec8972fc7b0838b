//! YAML and JSON text to documents; the only place that knows the YAML crate.

use serde_json::Value;

/// A ConfigMap can have 1 MiB; more than three of them belong in several files.
pub(super) const LARGEST: u64 = 3 * 1024 * 1024;

/// The documents of a stream, in YAML 1.2 with `true` and `false` as the only booleans and `0400` as an octal number. A key that is there twice is an
/// error, and aliases cannot make more of the text than there is.
///
/// # Errors
/// One sentence with line and column.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>, String> {
    if text.len() as u64 > LARGEST {
        return Err(format!("it is larger than {LARGEST} bytes"));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // YAML is not quite a superset of JSON (tabs, long keys), so what looks like JSON is read as such first.
    if text.trim_start().starts_with(['{', '['])
        && let Ok(value) = serde_json::from_str::<Unique>(text)
    {
        return Ok(vec![value.0]);
    }
    let mut options = serde_saphyr::options! {
        strict_booleans: true,
        // `defaultMode: 0400` is what everybody writes, and octal to kubectl, whose YAML is 1.1.
        legacy_octal_numbers: true,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_events: 400_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_depth: 100,
            max_documents: 1_000,
            max_nodes: 200_000,
        },
    };
    options.alias_limits.max_total_replayed_events = 100_000;
    serde_saphyr::from_multiple_with_options::<Value>(text, options).map_err(|error| {
        let text = error.without_snippet().to_string().replace('\n', " ");
        match error.location() {
            Some(place) if !text.contains("line") => format!("line {} column {}: {text}", place.line(), place.column()),
            _ => text,
        }
    })
}

/// A JSON value whose objects have no key twice, which serde_json would not mind.
struct Unique(Value);

impl<'de> serde::Deserialize<'de> for Unique {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> serde::de::Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = serde_json::Map::new();
        while let Some((key, Unique(value))) = entries.next_entry::<String, Unique>()? {
            if fields.contains_key(&key) {
                return Err(serde::de::Error::custom(format!("the key {key} is there twice")));
            }
            fields.insert(key, value);
        }
        Ok(fields.into())
    }
}
