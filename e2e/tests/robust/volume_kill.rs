//! The agent is killed between the system calls of a volume's update: the container sees all old or all new files, and the
//! new ones once there is an agent again.

use std::collections::BTreeMap;

use e2e::agent::{Node, SOON};
use e2e::eventually::wait_until;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::support::{life, pod, shell, starts, wait_nothing_left, wait_sh};

/// Where a write of contents can be cut short, in its order.
const STEPS: [&str; 5] =
    ["content.directory-made", "content.files-written", "content.data-linked", "content.switched", "content.shown"];

/// The steps after which a reader sees the new files.
const NEW_FROM: usize = 3;

/// In the container: both files of one version, read over and over; what does not agree is written down. A version that is
/// removed meanwhile is read again.
const READER: &str = "while :; do for v in /config /secret; do
    d=$v/$(readlink $v/..data); a=$(cat $d/a 2>/dev/null) && b=$(cat $d/b 2>/dev/null) || continue
    [ \"$a\" = \"$b\" ] || echo \"$v: $a and $b\" >> /count/mixed
    done; read -t 0.01 <> <(:) || true; done";

/// The objects with each value `version`, and the pod. Every version has a key of its own beside the two.
fn manifest(config: &str, secret: &str) -> String {
    let mut main = shell("read", "main", READER);
    for volume in ["config", "secret"] {
        main["volumeMounts"].as_array_mut().unwrap().push(json!({"name": volume, "mountPath": format!("/{volume}")}));
    }
    let mut pod = pod("read", "Always", &[main]);
    pod["spec"]["volumes"].as_array_mut().unwrap().extend([
        json!({"name": "config", "configMap": {"name": "c"}}),
        json!({"name": "secret", "secret": {"secretName": "s"}}),
    ]);
    let files = |version: &str| json!({"a": version, "b": version, version: "own"});
    let meta = |name: &str| json!({"name": name});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("c"), "data": files(config)});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta("s"), "stringData": files(secret)});
    format!("{map}\n---\n{secret}\n---\n{pod}\n")
}

/// The files of a volume as the container's process sees them.
fn seen(node: &Node, volume: &str) -> BTreeMap<String, String> {
    let unit = node.unit("read", "main").unwrap();
    let script = format!(
        "cd /proc/$(systemctl show -p MainPID --value {unit})/root/{volume}/..data/; for f in *; do echo \"$f $(cat $f)\"; done"
    );
    let text = node.sandbox.sh(&script).unwrap();
    text.lines().filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

fn whole(version: &str) -> BTreeMap<String, String> {
    [("a", version), ("b", version), (version, "own")].map(|(a, b)| (a.to_owned(), b.to_owned())).into()
}

/// Names in the volume's directory, `..data` and its version as one word each.
fn names(node: &Node, volume: &str) -> String {
    node.sandbox
        .sh(&format!("cd /run/systemk/pods/read/volumes/{volume}; ls -A | sed 's/^[.][.]20.*/version/' | xargs"))
        .unwrap()
}

fn updated_over_a_kill(node: &Node, volume: &str, step: usize, old: &str, new: &str, manifest: &str) {
    let armed = format!("SYSTEMK_FAILPOINT={}\nSYSTEMK_FAILPOINT_DONE=/tmp/done\n", STEPS[step]);
    node.sandbox.write_file("/etc/systemk.env", armed).unwrap();
    node.sandbox.sh("rm -f /tmp/done; systemctl restart systemk").unwrap();
    node.apply("read.yaml", manifest).unwrap();
    wait_sh(node, "the agent to be killed", "[ -e /tmp/done ] && [ $(systemctl is-active systemk) = failed ]");
    let now = if step < NEW_FROM { old } else { new };
    assert_eq!(seen(node, volume), whole(now), "killed at {} of {volume}", STEPS[step]);

    node.sandbox.sh("rm /etc/systemk.env; systemctl reset-failed systemk").unwrap();
    node.start_agent().unwrap();
    wait_until("the new content", SOON, || (seen(node, volume) == whole(new)).then_some(())).unwrap();
    let clean = format!("..data {} a b version\n", new);
    let sorted = |text: &str| {
        let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        words.sort_unstable();
        words
    };
    wait_until("the old version to go", SOON, || (sorted(&names(node, volume)) == sorted(&clean)).then_some(()))
        .unwrap_or_else(|e| panic!("{e}: {}", names(node, volume)));
}

fn an_update_that_is_cut_short_is_old_or_new(systemd: Systemd) {
    let node = Node::without_agent(systemd, "content").unwrap();
    // One that is killed stays dead until it is told to start: what there is meanwhile is looked at.
    node.sandbox
        .sh("mkdir -p /etc/systemd/system/systemk.service.d; cd /etc/systemd/system/systemk.service.d; \
             printf '[Service]\\nRestart=no\\n' > no.conf; systemctl daemon-reload")
        .unwrap();
    node.start_agent().unwrap();
    node.apply("read.yaml", &manifest("c0", "s0")).unwrap();
    node.wait_ready("read").unwrap();
    let before = life(&node, "read", "main");
    let (mut config, mut secret) = ("c0".to_owned(), "s0".to_owned());
    for step in 0..STEPS.len() {
        let new = format!("c{}", step + 1);
        updated_over_a_kill(&node, "config", step, &config, &new, &manifest(&new, &secret));
        config = new;
        let new = format!("s{}", step + 1);
        updated_over_a_kill(&node, "secret", step, &secret, &new, &manifest(&config, &new));
        secret = new;
    }
    assert_eq!((before, 1), (life(&node, "read", "main"), starts(&node, "read", "main")));
    assert_eq!(node.sandbox.sh("cat /var/lib/count/mixed 2>/dev/null || true").unwrap(), "", "a reader saw a mix");
    let status: Value = node.wait_ready("read").unwrap()["pod"]["status"].clone();
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0);
    node.remove("read.yaml").unwrap();
    wait_nothing_left(&node, "bystander");
}

/// What is walked here is what the agent has.
#[test]
fn the_steps_are_those_of_the_list() {
    let all = super::kill_walk::all();
    let list: Vec<&str> = all.iter().map(String::as_str).filter(|name| name.starts_with("content.")).collect();
    assert_eq!(list, STEPS);
}

on_both!(an_update_that_is_cut_short_is_old_or_new);
