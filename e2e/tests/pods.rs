//! Pods of host binaries: what works when the loop works.

use std::collections::BTreeMap;

use e2e::agent::Node;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

mod command;
mod exits;
mod hostile;
mod identity;
mod manifests;
mod mounts;
mod ports;
mod resources;
mod root;
mod stopping;
mod volumes;

/// A pod's manifest, as JSON.
fn pod(name: &str, spec: Value) -> String {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}).to_string()
}

/// A container that runs a shell script.
fn shell(name: &str, script: &str) -> Value {
    json!({"name": name, "image": "/bin/bash", "command": ["/bin/bash", "-c", script]})
}

/// `base` with the fields of `more`.
fn with(mut base: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        base[key] = value.clone();
    }
    base
}

/// A pod of one shell script that runs once.
fn once(script: &str) -> Value {
    json!({"restartPolicy": "Never", "containers": [shell("main", script)]})
}

/// Applies a pod.
fn apply(node: &Node, name: &str, spec: Value) {
    node.apply(&format!("{name}.json"), &pod(name, spec)).unwrap();
}

/// Applies a pod and gives what its container `main` wrote, once the pod has succeeded.
fn output(node: &Node, name: &str, spec: Value) -> String {
    apply(node, name, spec);
    succeeded(node, name)
}

/// What the container `main` of a pod wrote, once the pod has succeeded.
fn succeeded(node: &Node, name: &str) -> String {
    let ended = node.wait_status(name, "an end", |s| s["phase"] == "Succeeded" || s["phase"] == "Failed").unwrap();
    let log = node.log(name, "main").unwrap();
    assert_eq!(ended["pod"]["status"]["phase"], "Succeeded", "{log}\n{:#}", ended["pod"]["status"]);
    log
}

/// The main process of a container.
fn main_pid(node: &Node, pod: &str, container: &str) -> String {
    node.property(&node.unit(pod, container).unwrap(), "MainPID").unwrap()
}

/// The NUL-separated words of one of a container's files in /proc.
fn proc_words(node: &Node, pod: &str, container: &str, file: &str) -> Vec<String> {
    let path = format!("/proc/{}/{file}", main_pid(node, pod, container));
    let text = node.sandbox.read_file(path).unwrap();
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// A container's environment as its program got it.
fn environment(node: &Node, pod: &str, container: &str) -> BTreeMap<String, String> {
    let words = proc_words(node, pod, container, "environ");
    words.iter().map(|w| w.split_once('=').unwrap()).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

/// The status of the first container.
fn first(status: &Value) -> &Value {
    &status["containerStatuses"][0]
}

const TWO_SHELLS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: while}
spec:
  volumes: [{name: shared, emptyDir: {}}]
  containers:
  - name: writer
    image: /bin/bash
    command: [/bin/bash, -c, "while true; do echo tick >> /data/log; sleep 0.2; done"]
    volumeMounts: [{name: shared, mountPath: /data}]
  - name: reader
    image: /bin/bash
    command: [/bin/bash, -c, "while true; do [ -s /look/log ] && echo read $(head -1 /look/log); sleep 0.2; done"]
    volumeMounts: [{name: shared, mountPath: /look, readOnly: true}]
"#;

fn two_shells_share_an_empty_dir(systemd: Systemd) {
    let node = Node::start(systemd, "while").unwrap();
    node.apply("while.yaml", TWO_SHELLS).unwrap();
    node.wait_ready("while").unwrap();
    node.wait_log("while", "reader", "read tick").unwrap();
    node.remove("while.yaml").unwrap();
    node.wait_gone("while").unwrap();
    let left = node
        .sandbox
        .sh("ls /run/systemk/pods /var/lib/systemk/pods; ls /run/systemd/system | grep -c systemk. || true")
        .unwrap();
    assert!(left.trim_end().ends_with('0'), "{left}");
}

#[test]
fn two_shells_share_an_empty_dir_on_252() {
    two_shells_share_an_empty_dir(Systemd::V252);
}

#[test]
fn two_shells_share_an_empty_dir_on_257() {
    two_shells_share_an_empty_dir(Systemd::V257);
}
