//! What a pod may take: the kernel holds it to that, and the status says so.

use e2e::sandbox::Systemd;
use e2e::virtual_machine::{DEFAULT_TASKS_MAX, VmNode};
use serde_json::{Value, json};

use super::{apply, left, pod, said, shell};

on_both! { limits_are_enforced }

fn limits_are_enforced(systemd: Systemd) {
    let node = VmNode::start(systemd).unwrap();
    assert_eq!(said(&node, "stat -f -c %T /sys/fs/cgroup"), "cgroup2fs");
    memory(&node);
    cpu(&node);
    tasks(&node);
    super::lived_on(&node);
}

fn with_resources(mut container: Value, requests: Value, limits: Value) -> Value {
    container["resources"] = json!({"requests": requests, "limits": limits});
    container
}

/// The kernel's word on a limit of the container's cgroup and of its pod's, in this order.
fn of_both(node: &VmNode, pod: &str, container: &str, file: &str) -> [String; 2] {
    let group = node.cgroup(&node.unit(pod, container).unwrap()).unwrap();
    let text = said(node, &format!("cat {group}/{file} {group}/../{file}"));
    let lines: Vec<&str> = text.lines().collect();
    [lines[0].to_owned(), lines[1].to_owned()]
}

/// What systemd says of units that failed.
const WHY_FAILED: &str = "for unit in $(systemctl list-units --all --plain --no-legend --state=failed | cut -d' ' -f1); do
    systemctl status -n 20 --no-pager $unit; cat /sys/fs/cgroup$(systemctl show -p ControlGroup --value $unit)/memory.events
done; true";

fn remove(node: &VmNode, names: &[&str]) {
    for name in names {
        node.remove(&format!("{name}.json")).unwrap();
    }
    // systemd 257 showed its own scope as failed once, after `memory`. The kernel counts such an end where the memory is, which
    // is PID 1's own as long as a child of its has executed nothing: likely that, and nothing that is left of a pod.
    said(node, "systemctl reset-failed init.scope");
    node.wait("nothing to be left", || left(node, &["none"]).is_empty().then_some(()))
        .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", left(node, &["none"]), said(node, WHY_FAILED)));
}

/// Takes more than it may: itself (`tail` keeps what has no line end), and by a child of a shell that would go on.
fn memory(node: &VmNode) {
    let limits = || json!({"memory": "24Mi"});
    let hog = |script: &str| with_resources(shell("main", script), limits(), limits());
    let once = |name: &str, script: &str| {
        let spec = json!({"restartPolicy": "Never", "containers": [hog(script)]});
        apply(node, &pod(name, spec));
    };
    once("itself", "exec tail /dev/zero");
    once("child", "tail /dev/zero; echo went on; exit 3");
    apply(node, &pod("again", json!({"containers": [hog("exec tail /dev/zero")]})));
    apply(node, &pod("modest", json!({"containers": [hog("sleep infinity & wait")]})));

    for name in ["itself", "child"] {
        let report = node.wait_status(name, "the pod's end", |status| status["phase"] == "Failed").unwrap();
        let terminated = &report["pod"]["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!((&terminated["reason"], &terminated["exitCode"]), (&json!("OOMKilled"), &json!(137)), "{report:#}");
    }
    let restarted = |status: &Value| status["containerStatuses"][0]["restartCount"].as_u64() >= Some(1);
    let report = node.wait_status("again", "a restart", restarted).unwrap();
    let last = &report["pod"]["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["reason"], &last["exitCode"]), (&json!("OOMKilled"), &json!(137)), "{report:#}");

    node.wait_ready(&["modest"]).unwrap();
    let bytes = (24 * 1024 * 1024).to_string();
    assert_eq!(of_both(node, "modest", "main", "memory.max"), [bytes.clone(), bytes]);
    assert_eq!(of_both(node, "modest", "main", "memory.swap.max"), ["0", "0"]);
    assert_eq!(said(node, "journalctl -o cat --no-pager | grep -c '^went on$' || true"), "0");
    remove(node, &["itself", "child", "again", "modest"]);
}

/// Two containers of one pod: each has its own limit, the pod's slice their sum, and one that spins is held back.
fn cpu(node: &VmNode) {
    let spin = shell("spin", "while :; do :; done");
    let spin = with_resources(spin, json!({"cpu": "100m"}), json!({"cpu": "150m"}));
    let rest = with_resources(shell("rest", "sleep infinity"), json!({"cpu": "50m"}), json!({"cpu": "250m"}));
    apply(node, &pod("cpu", json!({"containers": [spin, rest]})));
    node.wait_ready(&["cpu"]).unwrap();
    assert_eq!(of_both(node, "cpu", "spin", "cpu.max"), ["15000 100000", "40000 100000"]);
    assert_eq!(of_both(node, "cpu", "rest", "cpu.max"), ["25000 100000", "40000 100000"]);
    // 100m are 102 shares and 150m are 153, of 262144; weights go to 10000.
    assert_eq!(of_both(node, "cpu", "spin", "cpu.weight"), ["4", "6"]);
    let group = node.cgroup(&node.unit("cpu", "spin").unwrap()).unwrap();
    node.wait_sh("the busy loop to be throttled", &format!("grep '^nr_throttled [1-9]' {group}/cpu.stat")).unwrap();
    remove(node, &["cpu"]);
}

/// A pod has no field for it: what systemd gives every service holds, and a fork bomb takes nothing from others.
fn tasks(node: &VmNode) {
    // Subshells that stop themselves: many tasks, and no work for the emulated processor. A limit on it as well, since bash
    // goes on trying.
    let bomb = shell("main", "while :; do (kill -STOP $BASHPID) & done");
    let bomb = with_resources(bomb, json!({"cpu": "100m"}), json!({"cpu": "500m"}));
    apply(node, &pod("bomb", json!({"containers": [bomb]})));
    node.wait_ready(&["bomb"]).unwrap();
    let group = node.cgroup(&node.unit("bomb", "main").unwrap()).unwrap();
    node.wait_sh("the fork bomb to meet its limit", &format!("grep '^max [1-9]' {group}/pids.events")).unwrap();
    assert_eq!(said(node, &format!("cat {group}/pids.max")), DEFAULT_TASKS_MAX.to_string());
    apply(node, &pod("other", json!({"containers": [shell("main", "sleep 0; exec sleep infinity")]})));
    node.wait_ready(&["other", "bomb"]).unwrap();
    remove(node, &["bomb", "other"]);
}
