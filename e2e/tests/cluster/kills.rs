//! The agent is killed once at each of its requests; each time the pods' outcome is the same as without.

use std::fs;

use e2e::agent::SOON;
use e2e::control_plane::{Fault, Proxy};
use e2e::eventually::wait_until;
use e2e::member::{KUBECONFIG, Member, cluster};
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::shell;
use crate::robust::kill_walk;

on_both! { every_request_is_survived }

/// Says each of its starts; has a token, as every pod.
fn counted(name: &str) -> Value {
    let mut main = shell("main", &format!("echo start >> /count/{name}; sleep infinity & wait"));
    main["volumeMounts"] = json!([{"name": "count", "mountPath": "/count"}]);
    let volume = json!({"name": "count", "hostPath": {"path": "/mnt/count", "type": "DirectoryOrCreate"}});
    json!({"terminationGracePeriodSeconds": 2, "volumes": [volume], "containers": [main]})
}

/// Its image cannot be had, which is tried and said again and again: an event that is counted.
fn unpulled() -> Value {
    let mut main = shell("main", "true");
    main["image"] = json!("no-such-package-anywhere");
    json!({"containers": [main]})
}

fn starts(member: &Member, name: &str) -> usize {
    member.sandbox.sh(&format!("cat /mnt/count/{name} 2>/dev/null || true")).unwrap().lines().count()
}

/// Restarts the agent with a failpoint set.
fn arm(member: &Member, name: &str, done: &str) {
    let env = format!("SYSTEMK_FAILPOINT={name}\nSYSTEMK_FAILPOINT_DONE={done}\n");
    member.sandbox.write_file("/etc/systemk.env", env).unwrap();
    // It may die as soon as it is ready, which fails this command.
    member.sandbox.exec(&["systemctl", "restart", "systemk"]).unwrap();
}

/// What it takes for a request to be made at all.
fn provoke(member: &Member, proxy: &Proxy, name: &str) {
    let kubeconfig = match name {
        // Only an administrator's credential may say a node's role.
        "api.before-label" => fs::read_to_string(member.cluster.admin_kubeconfig()).unwrap(),
        _ => proxy.kubeconfig(),
    };
    member.sandbox.write_secret(KUBECONFIG, kubeconfig).unwrap();
    if name == "api.before-list" {
        // As servers that cannot stream a list do: the agent that dies there, and the next one.
        proxy.inject_times(2, "watch pods", Fault::Refuse(422, None));
    }
}

fn survives_a_kill_at(member: &Member, proxy: &Proxy, name: &str, round: usize) {
    let pod = format!("pod-{round}");
    let manifest = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "local", "namespace": member.name},
        "spec": {"terminationGracePeriodSeconds": 2, "containers": [shell("main", &format!(": {round}; sleep infinity & wait"))]},
    });
    let mirror = format!("local-{}", member.name);
    // Registered anew, so that also the first of its requests is one.
    member.sandbox.sh("systemctl stop systemk; rm -f /tmp/first /tmp/second /mnt/count/*").unwrap();
    member.kubectl().run(&["delete", "node", &member.name]).unwrap();
    let lease = ["lease", &member.name, "-n", "kube-node-lease"];
    member.kubectl().run(&[&["delete", "--ignore-not-found"][..], &lease].concat()).unwrap();

    provoke(member, proxy, name);
    arm(member, name, "/tmp/first");
    member.run(&pod, counted(&pod)).unwrap();
    member.apply("local.json", &manifest.to_string()).unwrap();
    let running = member.wait_running(&pod).unwrap();
    member.wait_running(&mirror).unwrap();
    assert_eq!(running["status"]["containerStatuses"][0]["restartCount"], 0, "{name}");
    wait_until("the node's heartbeat", SOON, || {
        let lease = member.kubectl().find(&lease).ok()?;
        lease.map(drop)
    })
    .unwrap();
    // Asks the API server for leave to show it.
    let log = || member.kubectl().run(&["logs", &pod, "-n", &member.name]).ok();
    wait_until("the pod's log", SOON, log).unwrap();

    // Something to put right for a node that is there already.
    member.kubectl().run(&["label", "node", &member.name, "kubernetes.io/os-"]).unwrap();
    arm(member, name, "/tmp/second");
    member.kubectl().run(&["delete", "pod", &pod, "-n", &member.name, "--wait=false"]).unwrap();
    member.remove("local.json").unwrap();
    member.wait_deleted(&pod).unwrap();
    member.wait_deleted(&mirror).unwrap();
    member.wait_gone(&pod).unwrap();
    assert_eq!(starts(member, &pod), 1, "{name}");
    let node = ["node", member.name.as_str()];
    let labelled = |node: &Value| node["metadata"]["labels"]["kubernetes.io/os"] == "linux";
    member.kubectl().wait_for("the node's label", SOON, &node, labelled).unwrap();
    let crossed = || member.sandbox.sh("test -e /tmp/first || test -e /tmp/second").ok();
    wait_until(&format!("{name} to be crossed"), SOON, crossed).unwrap();
    proxy.clear();
    let renewed = |lease: &Value| lease["spec"]["renewTime"].as_str().map(str::to_owned);
    let before = renewed(&member.kubectl().get(&lease).unwrap());
    member.kubectl().wait_for("the agent to go on", SOON, &lease, |lease| renewed(lease) > before).unwrap();
}

fn every_request_is_survived(systemd: Systemd) {
    let member = Member::prepare(cluster().unwrap(), systemd, "kills", "").unwrap();
    let proxy = member.behind_proxy().unwrap();
    member.start_agent().unwrap();
    member.run("bystander", counted("bystander")).unwrap();
    member.run("unpulled", unpulled()).unwrap();
    let before = member.wait_running("bystander").unwrap();
    for (round, name) in kill_walk::all().iter().filter(|name| name.starts_with("api.")).enumerate() {
        println!("killed at {name}");
        survives_a_kill_at(&member, &proxy, name, round);
    }
    let after = member.wait_running("bystander").unwrap();
    let container = |pod: &Value| pod["status"]["containerStatuses"][0].clone();
    assert_eq!(container(&before)["containerID"], container(&after)["containerID"]);
    assert_eq!(container(&after)["restartCount"], 0);
}
