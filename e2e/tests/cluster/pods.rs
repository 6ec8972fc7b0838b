//! A pod's life behind a real API server.

use e2e::agent::SOON;
use e2e::eventually::wait_until;
use e2e::member::Member;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::script;

on_both! { a_pod_runs_and_is_deleted config_maps_and_secrets }

fn condition<'s>(status: &'s Value, kind: &str) -> &'s Value {
    let found = status["conditions"].as_array().and_then(|all| all.iter().find(|c| c["type"] == kind));
    found.unwrap_or(&Value::Null)
}

fn a_pod_runs_and_is_deleted(systemd: Systemd) {
    let member = Member::join(systemd, "life").unwrap();
    member.run("web", script("trap 'sleep 0.5; exit 3' TERM; echo hello; sleep infinity & wait")).unwrap();
    let pod = member.wait_running("web").unwrap();
    let status = &pod["status"];
    let container = &status["containerStatuses"][0];
    assert!(container["containerID"].as_str().is_some_and(|id| id.starts_with("systemd://")), "{status:#}");
    assert_eq!((&container["restartCount"], &container["started"]), (&json!(0), &json!(true)));
    assert_eq!(status["hostIP"], member.address.to_string());
    assert_eq!(status["observedGeneration"], pod["metadata"]["generation"]);
    assert_eq!(condition(status, "Ready")["observedGeneration"], pod["metadata"]["generation"]);
    assert_eq!(status["qosClass"], "BestEffort");

    // What others say of it stays.
    let gate = json!({"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}}).to_string();
    let patch = ["patch", "pod", "web", "-n", &member.name, "--subresource=status", "-p", &gate];
    member.kubectl().run(&patch).unwrap();
    let main = member.sandbox.sh("pgrep -f 'sleep 0.5; exit 3'").unwrap();
    member.sandbox.run(&["kill", "-KILL", main.lines().next().unwrap()]).unwrap();
    let restarted = member.wait_pod("web", "a restart", |s| s["containerStatuses"][0]["restartCount"] == 1).unwrap();
    let last = &restarted["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["signal"]), (&json!(137), &json!(9)), "{last:#}");
    assert_eq!(condition(&restarted["status"], "example.com/gate")["status"], "True");

    // A debug container, which this version has not, leaves it alone; also when the agent sees both for the first time.
    let debug = ["debug", "web", "-n", &member.name, "--image=busybox", "--container=extra", "--", "true"];
    member.kubectl().run(&debug).unwrap();
    member.sandbox.run(&["systemctl", "restart", "systemk"]).unwrap();
    let told = || {
        let events = member.kubectl().run(&["get", "events", "-n", &member.name]).ok()?;
        events.contains("ephemeralContainers").then_some(())
    };
    wait_until("a word on the debug container", SOON, told).unwrap();
    let after = member.wait_running("web").unwrap();
    assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 1);

    // It is there until its processes are gone.
    member.kubectl().run(&["delete", "pod", "web", "-n", &member.name, "--wait=false"]).unwrap();
    wait_until("no such pod", SOON, || {
        let there = member.pod("web").unwrap().is_some();
        let runs = member.sandbox.sh("pgrep -f 'sleep 0.5; exit 3'").is_ok();
        assert!(there || !runs, "deleted while it runs");
        (!there).then_some(())
    })
    .unwrap();
    member.wait_gone("web").unwrap();
}

fn config_maps_and_secrets(systemd: Systemd) {
    let member = Member::join(systemd, "objects").unwrap();
    let namespace = ["-n", member.name.as_str()];
    let kubectl = |arguments: &[&str]| member.kubectl().run(&[arguments, &namespace[..]].concat()).unwrap();
    let mut spec = script("while true; do echo \"$WORD $(cat /m/key) $(cat /s/key)\"; sleep 0.2; done");
    spec["volumes"] = json!([
        {"name": "m", "configMap": {"name": "map"}},
        {"name": "s", "secret": {"secretName": "word"}},
    ]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "m", "mountPath": "/m"}, {"name": "s", "mountPath": "/s"}]);
    spec["containers"][0]["env"] =
        json!([{"name": "WORD", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "key"}}}]);
    member.run("reader", spec).unwrap();
    let waits = |status: &Value| {
        let waiting = &status["containerStatuses"][0]["state"]["waiting"];
        waiting["message"].as_str().is_some_and(|message| message.contains("map"))
    };
    member.wait_pod("reader", "the pod to wait for its ConfigMap", waits).unwrap();
    kubectl(&["create", "configmap", "map", "--from-literal=key=one"]);
    kubectl(&["create", "secret", "generic", "word", "--from-literal=key=two"]);
    member.wait_running("reader").unwrap();
    member.wait_log("reader", "main", "one one two").unwrap();
    // A change comes by the watch, without a restart.
    let patch = json!({"stringData": {"key": "three"}}).to_string();
    kubectl(&["patch", "secret", "word", "-p", &patch]);
    member.wait_log("reader", "main", "one one three").unwrap();
    kubectl(&["delete", "pod", "reader", "--wait=false"]);
    member.wait_deleted("reader").unwrap();
}
