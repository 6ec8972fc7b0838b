//! Hundreds of pods come and go and leave nothing: no unit, mount, cgroup, file, descriptor, and no more memory.

use std::time::{Duration, Instant};

use e2e::agent::Node;
use e2e::apt_repo::{AptRepo, Archive};
use e2e::eventually::wait_until;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::support::{agent_log, agent_pid, pod, shell, wait_nothing_left, wait_sh};

const BATCH: usize = 25;

/// The n-th pod of a batch: every kind of volume at mount points that the host lacks.
fn leaky(number: usize) -> Value {
    let name = format!("leak{number}");
    let mut main = shell(&name, "main", "exec sleep infinity");
    // A rebuilt /etc costs systemd a mount per entry: not in every pod.
    let config = if number.is_multiple_of(5) { "/etc/leaked/config" } else { "/leaked/config" };
    let mut mounts = vec![("config", config), ("secret", "/opt/leaked/secret"), ("disk", "/d"), ("memory", "/m")];
    if number == 0 {
        main["image"] = json!("sk-var");
        mounts[2].1 = "/var/lib/sk-var/leaked/disk";
    }
    for (volume, path) in mounts {
        let mounts = main["volumeMounts"].as_array_mut().unwrap();
        mounts.push(json!({"name": volume, "mountPath": path}));
    }
    let mut pod = pod(&name, "Always", &[main]);
    pod["spec"]["volumes"].as_array_mut().unwrap().extend([
        json!({"name": "secret", "secret": {"secretName": "leak"}}),
        json!({"name": "config", "configMap": {"name": "leak"}}),
        json!({"name": "disk", "emptyDir": {}}),
        json!({"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}),
    ]);
    pod
}

fn batch() -> String {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "leak"}, "stringData": {"a": "b"}});
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "leak"}, "data": {"a": "b"}});
    let pods = (0..BATCH).map(leaky);
    [secret, config].into_iter().chain(pods).map(|object| format!("{object}\n---\n")).collect()
}

fn cycle(node: &Node, manifest: &str) {
    node.apply("batch.yaml", manifest).unwrap();
    let count = "systemctl list-units --plain --no-legend --state=active 'systemk.default.leak*' | wc -l";
    wait_sh(node, "the batch to run", &format!("[ $({count}) = {BATCH} ]"));
    node.remove("batch.yaml").unwrap();
    wait_nothing_left(node, "bystander");
}

/// Every path that a pod could have made on the host.
pub(crate) fn paths(node: &Node) -> String {
    let find = "find /etc /usr /opt /srv /var /run/systemk /run/systemd/system -xdev \\( -path /var/log -o -path /var/cache \
         -o -path /var/tmp -o -path /var/lib/systemd -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/lib/count \\) \
         -prune -o -print | grep -v /etc/systemk/manifests/ | sort";
    node.sandbox.sh(find).unwrap()
}

/// How many mounts the host has.
pub(crate) fn mounts(node: &Node) -> usize {
    node.sandbox.sh("wc -l < /proc/1/mountinfo").unwrap().trim().parse().unwrap()
}

/// How many descriptors the agent has open, and its resident KiB.
pub(crate) fn footprint(node: &Node) -> (usize, usize) {
    let pid = agent_pid(node);
    let text = node.sandbox.sh(&format!("ls /proc/{pid}/fd | wc -l; awk '/VmRSS/ {{print $2}}' /proc/{pid}/status"));
    let numbers: Vec<usize> = text.unwrap().split_whitespace().map(|n| n.parse().unwrap()).collect();
    (numbers[0], numbers[1])
}

fn many_pods_leave_nothing(systemd: Systemd) {
    let node = Node::without_agent(systemd, "leak").unwrap();
    AptRepo::build().unwrap().install_into(&node.sandbox, Archive::OursOnly).unwrap();
    node.sandbox
        .sh("mkdir -p /var/lib/count; DEBIAN_FRONTEND=noninteractive apt-get install -qy sk-var; systemctl stop sk-var")
        .unwrap();
    node.start_agent().unwrap();
    let before = (paths(&node), mounts(&node));
    let manifest = batch();
    // The first batches fill caches and the allocator's pools.
    cycle(&node, &manifest);
    cycle(&node, &manifest);
    let (descriptors, resident) = footprint(&node);

    let pods = if systemd == Systemd::V252 { 500 } else { 100 };
    let began = Instant::now();
    for _ in 0..pods / BATCH {
        cycle(&node, &manifest);
    }
    println!("{pods} pods in {:?}", began.elapsed());
    let now = paths(&node);
    let new: Vec<&str> = now.lines().filter(|path| !before.0.lines().any(|old| old == *path)).collect();
    assert!(new.is_empty() && now.len() == before.0.len(), "paths that came: {new:?}");
    assert_eq!(mounts(&node), before.1);
    // The agent's threads for files come and go, within two seconds.
    wait_until("the agent's descriptors to be closed", Duration::from_secs(10), || {
        (footprint(&node).0 <= descriptors + 2).then_some(())
    })
    .unwrap_or_else(|e| panic!("{e:#}: {descriptors}, now {:?}\n{}", footprint(&node), agent_log(&node)));
    let now = footprint(&node).1;
    println!("the agent's memory: {resident} KiB, {pods} pods later {now} KiB");
    assert!(now < resident + 8 * 1024, "the agent grew from {resident} KiB to {now} KiB");
}

on_both!(many_pods_leave_nothing);
