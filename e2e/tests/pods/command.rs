//! What a container executes, and with which environment.

use std::collections::BTreeMap;

use e2e::agent::Node;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::{apply, environment, output, pod, proc_words, shell, with};

on_both! { the_command the_environment }

/// Stays, and keeps its arguments for /proc/PID/cmdline.
const STAY: [&str; 3] = ["/bin/bash", "-c", "sleep infinity & wait"];

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|w| (*w).to_owned()).collect()
}

pub(super) fn the_command(systemd: Systemd) {
    let node = Node::start(systemd, "command").unwrap();
    let long = "x".repeat(100 * 1024);
    let odd = ["a b", "%n %%", "$HOME ${HOME}", "\"q'", "new\nline", "tab\t\\", "ü€\u{202e}", ";", "", &long];
    let env = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2 $$(A) $(NOT) $A"}]);
    let refs = ["$(A)", "$(B)", "$$(A)", "$(NOT)", "$(", "$$$(A)"];
    let spec = json!({"containers": [
        {"name": "literal", "image": "/bin/bash", "command": STAY, "args": odd},
        {"name": "expanded", "image": "/bin/bash", "env": env, "command": STAY, "args": refs},
        {"name": "image", "image": "/bin/bash", "args": ["-c", "sleep infinity & wait", "arg"]},
        with(shell("made", "pwd; stat -c %a .; sleep infinity"), json!({"workingDir": "/made/by/init"})),
        with(shell("there", "pwd; sleep infinity"), json!({"workingDir": "/usr/share"})),
    ]});
    apply(&node, "words", spec);
    node.wait_ready("words").unwrap();
    let cmdline = |container| proc_words(&node, "words", container, "cmdline");
    assert_eq!(cmdline("literal"), [words(&STAY), words(&odd)].concat());
    let expanded = ["1", "12 $(A) $(NOT) $A", "$(A)", "$(NOT)", "$(", "$1"];
    assert_eq!(cmdline("expanded"), [words(&STAY), words(&expanded)].concat());
    assert_eq!(cmdline("image"), words(&["/bin/bash", "-c", "sleep infinity & wait", "arg"]));
    node.wait_log("words", "made", "/made/by/init\n755").unwrap();
    node.wait_log("words", "there", "/usr/share").unwrap();
    assert!(node.sandbox.sh("test ! -e /made").is_ok(), "made on the host");
    a_bare_name(&node);
}

fn a_bare_name(node: &Node) {
    let spec = json!({"restartPolicy": "Never", "containers": [
        {"name": "main", "image": "/bin/bash", "command": ["echo", "from $PATH"]},
    ]});
    assert_eq!(output(node, "bare", spec), "from $PATH\n");
}

const OBJECTS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: red, "size.x": "12"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: "s3cret % $x"}
data: {twice: "dHdv"}
"#;

fn sources() -> Value {
    json!([
        {"name": "my.env-name", "value": "dotted"},
        {"name": "1A", "value": "digit first"},
        {"name": "ODD", "value": "% $HOME \"'\\ ü\nsecond line"},
        {"name": "EMPTY"},
        {"name": "colour", "value": "over $(my.env-name)"},
        {"name": "HOSTNAME", "value": "mine"},
        {"name": "FROM_MAP", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
        {"name": "OPTIONAL", "valueFrom": {"secretKeyRef": {"name": "no", "key": "x", "optional": true}}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory"}}},
    ])
}

pub(super) fn the_environment(systemd: Systemd) {
    let node = Node::start(systemd, "environment").unwrap();
    let host = node.sandbox.run(&["uname", "-n"]).unwrap().trim().to_owned();
    node.apply("objects.yaml", OBJECTS).unwrap();
    let full = json!({"name": "full", "image": "/bin/sleep", "args": ["infinity"], "env": sources(),
        "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "1Mi"}},
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"prefix": "P_", "secretRef": {"name": "keys"}},
            {"configMapRef": {"name": "absent", "optional": true}}]});
    let plain = json!({"name": "plain", "image": "/bin/sleep", "args": ["infinity"]});
    let mut manifest: Value = serde_json::from_str(&pod("env", json!({"containers": [plain, full]}))).unwrap();
    manifest["metadata"]["labels"] = json!({"app": "web"});
    node.apply("env.json", &manifest.to_string()).unwrap();
    node.wait_ready("env").unwrap();
    let mut expected: BTreeMap<String, String> = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("HOSTNAME", host.as_str()),
        ("SYSTEMK_NODE_INTERNAL_IP", "10.0.0.1"),
        ("SYSTEMK_NODE_EXTERNAL_IP", "192.0.2.7"),
    ]
    .map(|(n, v)| (n.to_owned(), v.to_owned()))
    .into();
    assert_eq!(environment(&node, "env", "plain"), expected);
    let more = [
        ("colour", "over dotted"),
        ("size.x", "12"),
        ("P_token", "s3cret % $x"),
        ("P_twice", "two"),
        ("my.env-name", "dotted"),
        ("1A", "digit first"),
        ("ODD", "% $HOME \"'\\ ü\nsecond line"),
        ("EMPTY", ""),
        ("HOSTNAME", "mine"),
        ("FROM_MAP", "red"),
        ("FROM_SECRET", "s3cret % $x"),
        ("POD", "env"),
        ("NAMESPACE", "default"),
        ("LABEL", "web"),
        ("POD_IP", "192.0.2.7"),
        ("HOST_IP", "10.0.0.1"),
        ("NODE", host.as_str()),
        ("CPU", "1500"),
        ("MEMORY", "1048576"),
    ];
    expected.extend(more.map(|(n, v)| (n.to_owned(), v.to_owned())));
    assert_eq!(environment(&node, "env", "full"), expected);
    waits_for_a_key(&node);
}

/// A missing object holds the container up, and only for as long as it is missing.
fn waits_for_a_key(node: &Node) {
    let env = json!([{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "later", "key": "x"}}}]);
    apply(
        node,
        "waits",
        json!({"containers": [{"name": "main", "image": "/bin/sleep", "args": ["infinity"], "env": env}]}),
    );
    node.wait_waiting("waits", "CreateContainerConfigError", &["configmap", "later"]).unwrap();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "later"}, "data": {"x": "here"}});
    node.apply("later.json", &map.to_string()).unwrap();
    node.wait_ready("waits").unwrap();
    assert_eq!(environment(node, "waits", "main")["X"], "here");
}
