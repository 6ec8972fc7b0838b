//! The API server's audit log: who asked for what, and what came of it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

/// One line of it, at the level `Metadata`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// `ResponseComplete`; of a watch there is a line `ResponseStarted` before it.
    pub stage: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, ...
    pub verb: String,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// Who asked.
    pub user: AuditUser,
    /// What the client calls itself.
    #[serde(default)]
    pub user_agent: String,
    /// What it is about, if about an object or a kind of them.
    #[serde(default)]
    pub object_ref: ObjectRef,
    /// What came of it.
    #[serde(default)]
    pub response_status: ResponseStatus,
    /// When the request came, in seconds since 1970.
    #[serde(default, rename = "requestReceivedTimestamp", deserialize_with = "seconds")]
    pub received: f64,
    /// When this stage of it was reached.
    #[serde(default, rename = "stageTimestamp", deserialize_with = "seconds")]
    pub reached: f64,
}

impl AuditEvent {
    /// Whether this line counts its request: a watch that goes on has only begun, and each request is one.
    pub fn is_request(&self) -> bool {
        match self.verb.as_str() {
            "watch" => self.stage == "ResponseStarted",
            _ => self.stage == "ResponseComplete",
        }
    }

    /// Whether it asks for all that there is: by a list, or as the beginning of a watch.
    pub fn asks_for_all(&self) -> bool {
        self.verb == "list" || self.request_uri.contains("sendInitialEvents=true")
    }

    /// Whether it is a list that the API server must not answer from its memory as it is.
    pub fn is_plain_list(&self) -> bool {
        self.verb == "list" && !self.request_uri.contains("resourceVersion=0")
    }

    /// What was asked for: `patch pods/status`.
    pub fn what(&self) -> String {
        let object = &self.object_ref;
        let separator = if object.subresource.is_empty() { "" } else { "/" };
        format!("{} {}{separator}{}", self.verb, object.resource, object.subresource)
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let at: Timestamp = text.parse().map_err(serde::de::Error::custom)?;
    Ok(at.as_duration().as_secs_f64())
}

/// Who asked.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditUser {
    /// For a node `system:node:NAME`.
    pub username: String,
}

/// What a request is about; empty where it does not say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ObjectRef {
    /// The kind, in the plural as in URLs.
    pub resource: String,
    /// `status`, `binding`, `token`, ...
    pub subresource: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// What came of a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ResponseStatus {
    /// The HTTP status.
    pub code: u16,
}

/// The complete lines of the log at `path`, oldest first. One that is being written is left for the next time.
pub(super) fn read(path: &Path) -> Result<Vec<AuditEvent>> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("read the audit log {} (was it asked for?)", path.display()))?;
    let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let parse = |line| serde_json::from_str(line).with_context(|| format!("read a line of the audit log: {line}"));
    complete.lines().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_an_unfinished_one_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let line = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","stage":"ResponseComplete",
            "requestURI":"/api/v1/nodes/a","verb":"get","user":{"username":"system:node:a","groups":["system:nodes"]},
            "userAgent":"kubectl/v1.37.2","objectRef":{"resource":"nodes","name":"a","apiVersion":"v1"},
            "responseStatus":{"metadata":{},"code":403},"requestReceivedTimestamp":"1970-01-01T00:00:10.000000Z",
            "stageTimestamp":"1970-01-01T00:00:10.250000Z"}"#;
        fs::write(&path, line.replace('\n', "") + "\n{\"kind\":\"Ev").unwrap();
        let events = read(&path).unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].user.username.as_str(), events[0].response_status.code), ("system:node:a", 403));
        assert!((events[0].reached - events[0].received - 0.25).abs() < 1e-6);
        assert_eq!((events[0].object_ref.resource.as_str(), events[0].object_ref.subresource.as_str()), ("nodes", ""));
    }
}
