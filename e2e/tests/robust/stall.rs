//! A file system that does not answer (a dead NFS server, a disk that hangs) holds up the pods that use it and no others.

use std::time::Duration;

use e2e::agent::{Node, SOON};
use e2e::eventually::wait_until;
use e2e::sandbox::{Running, Systemd};
use serde_json::{Value, json};

use super::support::{agent_pid, kill_agent, life, pod, shell, sleeper, starts, wait_nothing_left, wait_sh};

/// FUSE without anybody who reads the requests: whoever asks for anything below `/mnt/stall` waits until this ends.
const STALL: &str = "exec 3<>/dev/fuse; mkdir -p /mnt/stall
    mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 stalled /mnt/stall
    echo stalled; exec sleep infinity";

fn stall(node: &Node) -> Running {
    let running = node.sandbox.spawn(&["bash", "-ec", STALL]).unwrap();
    wait_until("the stall", SOON, || running.stdout().ok().filter(|text| text == "stalled\n"))
        .unwrap_or_else(|e| panic!("{e}: {}", running.stderr().unwrap_or_default()));
    running
}

/// Ends it: what waits gets an error, and then the directory below is there.
fn thaw(node: &Node, mut running: Running) {
    running.kill().unwrap();
    node.sandbox.sh("umount /mnt/stall").unwrap();
}

/// A pod whose host path lies on the stalled file system.
fn stalled(name: &str) -> String {
    let mut main = shell(name, "main", "exec sleep infinity");
    main["volumeMounts"].as_array_mut().unwrap().push(json!({"name": "host", "mountPath": "/host"}));
    let mut pod = pod(name, "Always", &[main]);
    let volume =
        json!({"name": "host", "hostPath": {"path": format!("/mnt/stall/{name}"), "type": "DirectoryOrCreate"}});
    pod["spec"]["volumes"].as_array_mut().unwrap().push(volume);
    pod.to_string()
}

fn told(report: &Value, name: &str) -> bool {
    let events = report["events"].as_array().cloned().unwrap_or_default();
    let names_it = |e: &Value| e["message"].as_str().is_some_and(|m| m.contains(&format!("/mnt/stall/{name}")));
    events.iter().any(|e| e["type"] == "Warning" && e["reason"] == "FailedMount" && names_it(e))
}

/// More pods stall than the agent has threads for its own files.
fn a_stalled_host_path_holds_up_its_pods_only(systemd: Systemd) {
    let node = Node::start(systemd, "stall").unwrap();
    node.apply("before.yaml", &sleeper("before")).unwrap();
    node.wait_ready("before").unwrap();
    let before = life(&node, "before", "main");
    let names: Vec<String> = (0..12).map(|n| format!("stalled{n}")).collect();
    let stall = stall(&node);
    for name in &names {
        node.apply(&format!("{name}.yaml"), &stalled(name)).unwrap();
    }
    // All are at it once the agent says so, and that takes it no thread that the others need.
    for name in &names {
        wait_until("the stall to be told", SOON, || node.report(name).filter(|r| told(r, name)).map(drop))
            .unwrap_or_else(|e| panic!("{name}: {e}: {:#}", node.report(name).unwrap_or_default()));
    }
    node.apply("beside.yaml", &sleeper("beside")).unwrap();
    node.wait_ready("beside").unwrap();
    // One that stalls can be deleted, and the agent be ended.
    node.remove("stalled0.yaml").unwrap();
    node.wait_gone("stalled0").unwrap();
    let threads = node.sandbox.sh(&format!("ls /proc/{}/task | wc -l", agent_pid(&node))).unwrap();
    assert!(threads.trim().parse::<usize>().unwrap() < 12 + 16, "{threads} threads: one for each try");
    node.sandbox.sh("timeout 20 systemctl restart systemk").unwrap();
    node.remove("beside.yaml").unwrap();
    wait_nothing_left(&node, "before|stalled");

    thaw(&node, stall);
    for name in &names[1..] {
        node.wait_ready(name).unwrap();
        assert_eq!(starts(&node, name, "main"), 1, "{name}");
    }
    assert_eq!((before, 1), (life(&node, "before", "main"), starts(&node, "before", "main")));
    for name in names[1..].iter().map(String::as_str).chain(["before"]) {
        node.remove(&format!("{name}.yaml")).unwrap();
    }
    wait_nothing_left(&node, "bystander");
    wait_sh(&node, "the host's directories to stay", "[ $(ls /mnt/stall | wc -l) = 11 ]");
}

/// What runs on a file system that then stalls goes on, also over a restart of the agent, and can be stopped.
fn a_stall_under_a_running_pod_stops_nothing(systemd: Systemd) {
    let node = Node::start(systemd, "later").unwrap();
    node.apply("stalled.yaml", &stalled("stalled")).unwrap();
    node.wait_ready("stalled").unwrap();
    let before = life(&node, "stalled", "main");
    let stall = stall(&node);
    kill_agent(&node);
    let told = || node.report("stalled").filter(|r| told(r, "stalled")).map(drop);
    wait_until("the stall to be told", SOON + Duration::from_secs(15), told).unwrap();
    node.apply("beside.yaml", &sleeper("beside")).unwrap();
    node.wait_ready("beside").unwrap();
    assert_eq!(before, life(&node, "stalled", "main"));
    let status = &node.report("stalled").unwrap()["pod"]["status"];
    assert!(status["containerStatuses"][0]["state"]["running"].is_object(), "{status:#}");
    node.remove("stalled.yaml").unwrap();
    node.remove("beside.yaml").unwrap();
    wait_nothing_left(&node, "bystander");
    assert_eq!(starts(&node, "stalled", "main"), 1);
    thaw(&node, stall);
}

on_both!(a_stalled_host_path_holds_up_its_pods_only, a_stall_under_a_running_pod_stops_nothing);
