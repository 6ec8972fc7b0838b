//! The agent is killed once at each of its side effects; each time the outcome is the same as without.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use e2e::agent::Node;
use e2e::apt_repo::{AptRepo, Archive};
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::support::{
    agent_log, agent_pid, container, forget_starts, life, pod, shell, sleeper, starts, wait_nothing_left, wait_sh,
};

const AGENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/src");

/// The names in the agent's list of failpoints.
pub(crate) fn all() -> Vec<String> {
    let source = fs::read_to_string(format!("{AGENT}/reconcile/failpoint.rs")).unwrap();
    let list = source.split_once("ALL: [").unwrap().1.split_once("];").unwrap().0;
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The names that the agent's sources cross.
fn crossed(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            crossed(&path, names);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(path).unwrap();
            names.extend(text.split("crossing(\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
}

#[test]
fn the_list_names_exactly_the_failpoints_of_the_sources() {
    let mut names = BTreeSet::new();
    crossed(Path::new(AGENT), &mut names);
    let list = all();
    assert!(list.len() > 20, "{list:?}");
    assert_eq!(names, list.into_iter().collect());
}

/// A pod whose life crosses every effect: volumes of all kinds, a container that exits once and one that ignores SIGTERM.
fn walked(image: bool) -> String {
    let name = "walked";
    let once = "[ $(wc -l < /count/walked.once) != 1 ] || exit 7\nexec sleep infinity";
    let mut once = shell(name, "once", once);
    for (volume, path) in [("secret", "/etc/walked"), ("config", "/c"), ("disk", "/d"), ("memory", "/m")] {
        let mounts = once["volumeMounts"].as_array_mut().unwrap();
        mounts.push(json!({"name": volume, "mountPath": path}));
    }
    let stubborn = shell(name, "stubborn", "trap '' TERM\nwhile :; do sleep 1; done");
    let mut pod = pod(name, "Always", &[once, stubborn]);
    pod["spec"]["volumes"].as_array_mut().unwrap().extend([
        json!({"name": "secret", "secret": {"secretName": "s"}}),
        json!({"name": "config", "configMap": {"name": "c"}}),
        json!({"name": "disk", "emptyDir": {}}),
        json!({"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}),
    ]);
    if image {
        pod["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "image", "image": "sk-simple"}));
    }
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}});
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}});
    format!("{secret}\n---\n{config}\n---\n{pod}\n")
}

/// Restarts the agent with a failpoint set.
fn arm(node: &Node, name: &str, done: &str) {
    let env = format!("SYSTEMK_FAILPOINT={name}\nSYSTEMK_FAILPOINT_DONE={done}\n");
    node.sandbox.write_file("/etc/systemk.env", env).unwrap();
    // It may die as soon as it is ready, which fails this command.
    node.sandbox.exec(&["systemctl", "restart", "systemk"]).unwrap();
}

fn survives_a_kill_at(node: &Node, name: &str) {
    let image = name.starts_with("image.");
    if image {
        node.sandbox.sh("dpkg --purge sk-simple").unwrap();
    }
    forget_starts(node, "walked");
    node.sandbox.sh("rm -f /tmp/first /tmp/second").unwrap();

    arm(node, name, "/tmp/first");
    node.apply("walked.yaml", &walked(image)).unwrap();
    let settled = |status: &Value| {
        let all = status["containerStatuses"].as_array();
        let ready = all.is_some_and(|all| all.iter().all(|c| c["ready"] == true));
        ready && container(status, "once")["restartCount"] == 1
    };
    let report = node.wait_status("walked", "both containers to run", settled).unwrap();
    let once = container(&report["pod"]["status"], "once");
    assert_eq!(once["lastState"]["terminated"]["exitCode"], 7, "{once}");
    let before = [life(node, "walked", "once"), life(node, "walked", "stubborn")];

    arm(node, name, "/tmp/second");
    let pid = agent_pid(node);
    assert_eq!(before, [life(node, "walked", "once"), life(node, "walked", "stubborn")], "agent {pid}");
    node.remove("walked.yaml").unwrap();
    wait_nothing_left(node, "bystander");
    assert_eq!((starts(node, "walked", "once"), starts(node, "walked", "stubborn")), (2, 1), "{}", agent_log(node));
    let done = node.sandbox.sh("ls /tmp/first /tmp/second 2>/dev/null || true");
    assert!(done.unwrap().contains("/tmp/"), "the failpoint was never crossed");
}

fn every_failpoint_is_survived(systemd: Systemd) {
    let node = Node::without_agent(systemd, "walk").unwrap();
    AptRepo::build().unwrap().install_into(&node.sandbox, Archive::OursOnly).unwrap();
    node.start_agent().unwrap();
    node.apply("bystander.yaml", &sleeper("bystander")).unwrap();
    node.wait_ready("bystander").unwrap();
    let bystander = life(&node, "bystander", "main");
    // What only a node of a cluster crosses is `cluster::kills`'.
    for name in all().into_iter().filter(|name| !name.starts_with("api.")) {
        println!("killed at {name}");
        survives_a_kill_at(&node, &name);
        assert_eq!(bystander, life(&node, "bystander", "main"), "{name}: the bystander was touched");
    }
    assert_eq!(starts(&node, "bystander", "main"), 1);
    wait_sh(&node, "the agent to be up", "systemctl is-active systemk");
}

on_both!(every_failpoint_is_survived);
