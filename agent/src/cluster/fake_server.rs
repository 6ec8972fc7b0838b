//! An API server of a few lines for tests: objects by their paths, versions, conflicts, and a list of what was asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

#[derive(Default)]
struct Objects {
    by_path: BTreeMap<String, Value>,
    version: u64,
    asked: Vec<String>,
    refuses_node_status: bool,
}

/// Clones are the same server.
#[derive(Clone, Default)]
pub(super) struct FakeServer(Arc<Mutex<Objects>>);

pub(super) const NODE: &str = "/api/v1/nodes/node-1";
pub(super) const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1";

impl FakeServer {
    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().unwrap()
    }

    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or(Value::Null);
                let (code, answer) = server.lock().answer(parts.method.as_str(), parts.uri.path(), body);
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(http::Response::builder().status(code).body(answer).unwrap())
            }
        });
        Client::new(service, "default")
    }

    /// What was asked since the last time: `PATCH node`.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().asked)
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.lock().by_path.get(path).cloned()
    }

    /// Somebody else changes or makes an object.
    pub(super) fn write(&self, path: &str, change: Value) {
        let mut objects = self.lock();
        let mut object = objects.by_path.remove(path).unwrap_or_else(|| json!({"metadata": {"name": "node-1"}}));
        merge(&mut object, change);
        objects.store(path, object);
    }

    /// Whether a webhook takes no status of the Node.
    pub(super) fn refuse_node_status(&self, refuse: bool) {
        self.lock().refuses_node_status = refuse;
    }

    /// Somebody else deletes it.
    pub(super) fn delete(&self, path: &str) {
        assert!(self.lock().by_path.remove(path).is_some());
    }
}

impl Objects {
    fn answer(&mut self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (path, status) = path.strip_suffix("/status").map_or((path, false), |path| (path, true));
        self.asked.push(format!("{method} {}", if path.contains("leases") { "lease" } else { "node" }));
        match method {
            "PATCH" if status && self.refuses_node_status => refuse(403, "Forbidden"),
            "POST" => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                if self.by_path.contains_key(&path) {
                    return refuse(409, "AlreadyExists");
                }
                (201, self.store(&path, body))
            }
            "GET" => self.by_path.get(path).map_or_else(|| refuse(404, "NotFound"), |object| (200, object.clone())),
            "PATCH" => {
                let Some(mut object) = self.by_path.get(path).cloned() else { return refuse(404, "NotFound") };
                for precondition in ["uid", "resourceVersion"] {
                    let wanted = &body["metadata"][precondition];
                    if !wanted.is_null() && *wanted != object["metadata"][precondition] {
                        return refuse(409, "Conflict");
                    }
                }
                merge(&mut object, body);
                (200, self.store(path, object))
            }
            other => panic!("{other} {path}"),
        }
    }

    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.insert("resourceVersion".to_owned(), json!(self.version.to_string()));
        metadata.entry("uid").or_insert_with(|| json!(format!("uid-{}", self.version)));
        self.by_path.insert(path.to_owned(), object.clone());
        object
    }
}

/// RFC 7386. A list that is to replace another one may say so, as strategic patches do.
fn merge(into: &mut Value, change: Value) {
    match change {
        Value::Object(fields) => {
            if !into.is_object() {
                *into = json!({});
            }
            for (name, value) in fields {
                if value.is_null() {
                    into.as_object_mut().unwrap().remove(&name);
                } else {
                    merge(&mut into[name], value);
                }
            }
        }
        Value::Array(items) => *into = items.into_iter().filter(|item| item["$patch"].is_null()).collect(),
        other => *into = other,
    }
}

fn refuse(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code}),
    )
}
