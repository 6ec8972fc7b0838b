//! The end of a pod: grace, signals, what is left.

use std::time::Instant;

use e2e::agent::Node;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::{apply, shell, with};

on_both! { the_end_of_a_pod }

/// A container that says on the host how it ended.
fn said(name: &str, script: &str) -> Value {
    with(shell(name, script), json!({"volumeMounts": [{"name": "out", "mountPath": "/out"}]}))
}

fn spec(grace: u32, containers: &[Value]) -> Value {
    json!({"terminationGracePeriodSeconds": grace, "containers": containers,
        "volumes": [{"name": "out", "hostPath": {"path": "/mnt/out", "type": "DirectoryOrCreate"}}]})
}

/// Removes the pod; gives the seconds until it was gone.
fn seconds_to_go(node: &Node, name: &str) -> f64 {
    node.wait_ready(name).unwrap();
    let begun = Instant::now();
    node.remove(&format!("{name}.json")).unwrap();
    node.wait_gone(name).unwrap();
    begun.elapsed().as_secs_f64()
}

pub(super) fn the_end_of_a_pod(systemd: Systemd) {
    let node = Node::start(systemd, "stopping").unwrap();
    let trap =
        |file: &str| format!("trap 'sleep 2; echo clean > /out/{file}; exit 0' TERM; echo up; sleep infinity & wait");
    let deaf = "trap '' TERM; (trap '' TERM; exec sleep 1234) & echo up; while :; do wait; done";
    apply(&node, "clean", spec(5, &[said("a", &trap("a")), said("b", &trap("b"))]));
    apply(&node, "deaf", spec(2, &[said("main", deaf)]));
    apply(
        &node,
        "now",
        spec(0, &[said("main", "trap 'echo heard > /out/now' TERM; echo up; while :; do sleep 1; done")]),
    );
    for (pod, container) in [("clean", "a"), ("clean", "b"), ("deaf", "main"), ("now", "main")] {
        node.wait_log(pod, container, "up").unwrap();
    }
    let now = seconds_to_go(&node, "now");
    assert!(now < 1.5, "grace 0 took {now} s");
    let deaf = seconds_to_go(&node, "deaf");
    assert!((1.9..4.0).contains(&deaf), "a deaf pod with 2 s of grace took {deaf} s");
    assert_eq!(node.sandbox.sh("pgrep -f '[s]leep 1234' | wc -l").unwrap().trim(), "0", "a child outlived its pod");
    let clean = seconds_to_go(&node, "clean");
    assert!((1.9..3.8).contains(&clean), "two clean-ups of 2 s side by side took {clean} s");
    assert_eq!(node.sandbox.sh("cd /mnt/out && cat a b").unwrap(), "clean\nclean\n");
    let left = "find /run/systemk/pods /var/lib/systemk/pods -mindepth 1; ls /run/systemd/system | grep -E 'systemk\\.|pod' || true; \
        systemctl list-units --all --plain --no-legend 'systemk.default.*' '*-pod*.slice'; true";
    assert_eq!(node.sandbox.sh(left).unwrap(), "");
}
