//! Nodes of a real cluster: unmodified etcd, API server, controllers and scheduler, and kubectl to look at it with.

use serde_json::{Value, json};

mod access;
mod controllers;
mod deletion;
mod events;
mod faults;
mod fleet;
mod founding;
mod kills;
mod leaks;
mod logs;
mod lost;
mod mirrors;
mod node;
mod outage;
mod pods;
mod requests;
mod tokens;
mod workload;

/// A container that runs a shell script.
fn shell(name: &str, script: &str) -> Value {
    json!({"name": name, "image": "/bin/bash", "command": ["/bin/bash", "-c", script]})
}

/// A pod of one shell script, without the token that nobody asked for.
fn script(script: &str) -> Value {
    json!({
        "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 5,
        "containers": [shell("main", script)],
    })
}
