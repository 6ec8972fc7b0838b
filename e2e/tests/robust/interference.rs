//! Somebody else's hands on a container's unit: an end like any other, and the restart policy applies once.

use e2e::agent::Node;
use e2e::sandbox::Systemd;

use super::support::{life, pod, shell, sleeper, starts, wait_nothing_left, wait_restarted, wait_sh, wait_terminated};

/// Does `fault` (`UNIT` stands for the unit) to a pod that is restarted always and to one that never is.
fn is_seen_as_one_end(systemd: Systemd, what: &str, fault: &str, code: i64) {
    let node = Node::start(systemd, what).unwrap();
    node.apply("always.yaml", &sleeper("always")).unwrap();
    let main = shell("never", "main", "exec sleep infinity");
    node.apply("never.yaml", &pod("never", "Never", &[main]).to_string()).unwrap();
    for name in ["always", "never"] {
        node.wait_ready(name).unwrap();
        let unit = node.unit(name, "main").unwrap();
        node.sandbox.sh(&fault.replace("UNIT", &unit)).unwrap();
    }
    let ended = wait_terminated(&node, "never", "main");
    assert_eq!(ended["exitCode"].as_i64(), Some(code), "{ended}");
    let status = wait_restarted(&node, "always", "main", 1);
    assert_eq!(status["lastState"]["terminated"]["exitCode"].as_i64(), Some(code), "{status}");
    wait_sh(&node, "nothing of the ended pod to run", "[ $(pgrep -cx sleep) = 1 ]");
    let now = life(&node, "always", "main");
    // Once: another look finds nothing to do.
    node.apply("other.yaml", &sleeper("other")).unwrap();
    node.wait_ready("other").unwrap();
    assert_eq!(now, life(&node, "always", "main"));
    // A restart by others may have run before its end was seen: then that run was ended, and the pod's own came after it.
    let most = if fault.contains("restart") { 3 } else { 2 };
    let (always, never) = (starts(&node, "always", "main"), starts(&node, "never", "main"));
    assert!((2..=most).contains(&always) && never < most, "always {always}, never {never}");
    for name in ["always", "never", "other"] {
        node.remove(&format!("{name}.yaml")).unwrap();
    }
    wait_nothing_left(&node, "bystander");
}

fn a_unit_is_stopped(systemd: Systemd) {
    is_seen_as_one_end(systemd, "ustop", "systemctl stop UNIT", 143);
}

fn a_unit_is_restarted(systemd: Systemd) {
    is_seen_as_one_end(systemd, "urestart", "systemctl restart UNIT || true", 143);
}

fn a_unit_is_killed(systemd: Systemd) {
    is_seen_as_one_end(systemd, "ukill", "systemctl kill --signal=KILL UNIT", 137);
}

fn a_unit_is_masked_and_stopped(systemd: Systemd) {
    is_seen_as_one_end(systemd, "umask", "systemctl mask UNIT; systemctl stop UNIT", 143);
}

fn a_cgroup_is_killed(systemd: Systemd) {
    let kill = "echo 1 > /sys/fs/cgroup$(systemctl show -p ControlGroup --value UNIT)/cgroup.kill";
    is_seen_as_one_end(systemd, "cgroup", kill, 137);
}

fn a_unit_file_is_deleted_under_a_container(systemd: Systemd) {
    let node = Node::start(systemd, "ufile").unwrap();
    node.apply("pod.yaml", &sleeper("pod")).unwrap();
    node.wait_ready("pod").unwrap();
    let before = life(&node, "pod", "main");
    let unit = node.unit("pod", "main").unwrap();
    node.sandbox
        .sh(&format!("rm /run/systemd/system/{unit}; systemctl daemon-reload; systemctl restart systemk"))
        .unwrap();
    node.apply("other.yaml", &sleeper("other")).unwrap();
    node.wait_ready("other").unwrap();
    node.wait_ready("pod").unwrap();
    assert_eq!((before, 1), (life(&node, "pod", "main"), starts(&node, "pod", "main")));
    node.remove("pod.yaml").unwrap();
    node.remove("other.yaml").unwrap();
    wait_nothing_left(&node, "bystander");
    assert_eq!(node.sandbox.exec(&["pgrep", "-x", "sleep"]).unwrap().code, 1);
}

on_both!(
    a_unit_is_stopped,
    a_unit_is_restarted,
    a_unit_is_killed,
    a_unit_is_masked_and_stopped,
    a_cgroup_is_killed,
    a_unit_file_is_deleted_under_a_container,
);
