//! File systems that are full or out of inodes: pods wait and say why, nothing half-written is seen, and all goes on when
//! there is room again.

use e2e::agent::{Node, SOON};
use e2e::eventually::wait_until;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::support::{agent_log, agent_pid, life, pod, shell, sleeper, starts, wait_nothing_left, wait_sh};

/// A Secret of so many bytes of `byte`, and the pod `name` that mounts it at `/s`.
fn with_secret(name: &str, byte: &str, size: usize) -> String {
    let mut main = shell(name, "main", "exec sleep infinity");
    main["volumeMounts"].as_array_mut().unwrap().push(json!({"name": "secret", "mountPath": "/s"}));
    let mut pod = pod(name, "Always", &[main]);
    let volumes = pod["spec"]["volumes"].as_array_mut().unwrap();
    volumes.push(json!({"name": "secret", "secret": {"secretName": name}}));
    let data = json!({"key": byte.repeat(size)});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
    format!("{secret}\n---\n{pod}\n")
}

/// Waits until the pod's report holds the kernel's word for a full disk.
fn wait_told(node: &Node, name: &str) {
    let told = || {
        let report: Value = node.report(name)?;
        let text = report.to_string();
        (text.contains("No space left on device") || text.contains("os error 28")).then_some(())
    };
    wait_until("the full disk to be told", SOON, told)
        .unwrap_or_else(|e| panic!("{e:#}\n{:#}\n{}", node.report(name).unwrap_or_default(), agent_log(node)));
}

fn a_full_run_directory_keeps_old_secrets_and_recovers(systemd: Systemd) {
    let node = Node::without_agent(systemd, "full").unwrap();
    node.sandbox.sh("mkdir -p /run/systemk; mount -t tmpfs -o size=2m tmpfs /run/systemk").unwrap();
    node.start_agent().unwrap();
    node.apply("old.yaml", &with_secret("old", "a", 10)).unwrap();
    node.wait_ready("old").unwrap();
    let (agent, before) = (agent_pid(&node), life(&node, "old", "main"));
    let content = |node: &Node| node.sandbox.sh("head -c 3 /run/systemk/pods/old/volumes/secret/key").unwrap();
    assert_eq!(content(&node), "aaa");
    // Room for reports, none for what follows.
    let fill = "cd /run/systemk; dd if=/dev/zero of=filler bs=4k status=none || true; truncate -s -160k filler";
    node.sandbox.sh(fill).unwrap();

    node.apply("old.yaml", &with_secret("old", "b", 400_000)).unwrap();
    node.apply("new.yaml", &with_secret("new", "c", 400_000)).unwrap();
    wait_told(&node, "old");
    wait_told(&node, "new");
    assert_eq!(content(&node), "aaa", "the old content stays");
    assert_eq!(starts(&node, "new", "main"), 0);
    // Not a byte left: nothing can be written, not even why.
    node.sandbox.sh("cd /run/systemk; dd if=/dev/zero of=more bs=4k status=none || true").unwrap();
    node.apply("third.yaml", &sleeper("third")).unwrap();
    node.sandbox.sh("systemctl is-active systemk").unwrap();

    node.sandbox.sh("rm /run/systemk/filler /run/systemk/more").unwrap();
    node.wait_ready("new").unwrap();
    node.wait_ready("third").unwrap();
    wait_until("the new secret", SOON, || (content(&node) == "bbb").then_some(())).unwrap();
    assert_eq!((agent, before), (agent_pid(&node), life(&node, "old", "main")));
    for name in ["old", "new", "third"] {
        assert_eq!(starts(&node, name, "main"), 1, "{name}");
        node.remove(&format!("{name}.yaml")).unwrap();
    }
    wait_sh(&node, "all pods to be gone", "[ -z \"$(ls /run/systemk/pods)\" ]");
    node.sandbox.sh("systemctl stop systemk; umount /run/systemk").unwrap();
    wait_nothing_left(&node, "bystander");
}

fn a_state_directory_without_inodes_recovers(systemd: Systemd) {
    let node = Node::without_agent(systemd, "inodes").unwrap();
    let mount = "mkdir -p /var/lib/systemk; mount -t tmpfs -o nr_inodes=400 tmpfs /var/lib/systemk";
    node.sandbox.sh(mount).unwrap();
    node.start_agent().unwrap();
    node.apply("first.yaml", &sleeper("first")).unwrap();
    node.wait_ready("first").unwrap();
    let before = life(&node, "first", "main");
    node.sandbox
        .sh("mkdir /var/lib/systemk/x; cd /var/lib/systemk/x; for i in {1..400}; do : > $i || break; done 2>/dev/null")
        .unwrap();
    node.apply("second.yaml", &sleeper("second")).unwrap();
    wait_told(&node, "second");
    assert_eq!(starts(&node, "second", "main"), 0);
    node.sandbox.sh("rm -r /var/lib/systemk/x").unwrap();
    node.wait_ready("second").unwrap();
    assert_eq!((before, 1), (life(&node, "first", "main"), starts(&node, "second", "main")));
    for name in ["first", "second"] {
        node.remove(&format!("{name}.yaml")).unwrap();
    }
    wait_sh(&node, "all pods to be gone", "[ -z \"$(ls /run/systemk/pods)\" ]");
    node.sandbox.sh("systemctl stop systemk; umount /var/lib/systemk").unwrap();
    wait_nothing_left(&node, "bystander");
}

on_both!(a_full_run_directory_keeps_old_secrets_and_recovers, a_state_directory_without_inodes_recovers);
