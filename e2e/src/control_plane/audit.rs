//! The API server's audit log: who asked for what, and what came of it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

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
            "responseStatus":{"metadata":{},"code":403}}"#;
        fs::write(&path, line.replace('\n', "") + "\n{\"kind\":\"Ev").unwrap();
        let events = read(&path).unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].user.username.as_str(), events[0].response_status.code), ("system:node:a", 403));
        assert_eq!((events[0].object_ref.resource.as_str(), events[0].object_ref.subresource.as_str()), ("nodes", ""));
    }
}
