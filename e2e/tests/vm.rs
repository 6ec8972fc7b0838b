//! What only a kernel of its own shows: limits, the end of a boot, the loss of power. Each on a virtual machine with
//! systemd 252 and one with 257, made a node by `systemk install`. Never about time.

use e2e::virtual_machine::VmNode;
use serde_json::{Value, json};

mod limits;
mod power_cut;
mod reboot;

/// A pod's manifest whose name is its uid as well, so that its directories are found by it.
fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "uid": name}, "spec": spec});
    pod["spec"]["terminationGracePeriodSeconds"] = json!(2);
    pod
}

/// A container `name` that runs a shell script.
fn shell(name: &str, script: &str) -> Value {
    json!({"name": name, "image": "/bin/bash", "command": ["/bin/bash", "-c", script]})
}

fn apply(node: &VmNode, pod: &Value) {
    let name = pod["metadata"]["name"].as_str().unwrap();
    node.apply(&format!("{name}.json"), &pod.to_string()).unwrap();
}

/// What a script says, without blanks at its end.
fn said(node: &VmNode, script: &str) -> String {
    node.machine.sh(script).unwrap().trim_end().to_owned()
}

/// Since the boot, systemd had no reason to start the agent again.
fn lived_on(node: &VmNode) {
    assert_eq!(said(node, "systemctl show -p NRestarts --value systemk"), "0");
}

/// All that a removal or an interrupted write could leave, a line each: what the running pods have is not listed.
fn left(node: &VmNode, running: &[&str]) -> String {
    let (stays, slices) = (running.join("|"), running.join("|").replace('-', "_"));
    let script = format!(
        "{{ find /etc/systemk /var/lib/systemk /run/systemk /run/systemd/system -name '.systemk-tmp*' -o -name '*.new'
            ls -A /var/lib/systemk/pods /run/systemk/pods | grep -vxE '|/.*:|{stays}'
            systemctl list-units --all --plain --no-legend --state=failed
            find /sys/fs/cgroup -name 'kubepods*-pod*' | grep -vE 'pod({slices})[.]slice'
            ls /var/lib/systemk/packages/installing.json
        }} 2>/dev/null || true"
    );
    node.machine.sh(&script).unwrap()
}
