//! What `kubectl describe` tells: a kubelet's events, and of a pod that fails in a loop not one for each time.

use e2e::agent::SOON;
use e2e::eventually::wait_until;
use e2e::member::Member;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::script;

on_both! { of_a_life of_failures }

fn events(member: &Member, pod: &str) -> Vec<Value> {
    let selector = format!("involvedObject.name={pod},source=kubelet");
    let list = member.kubectl().get(&["events", "-n", &member.name, "--field-selector", &selector]).unwrap();
    list["items"].as_array().cloned().unwrap_or_default()
}

/// Waits for an event of that reason whose message has `text`.
fn wait_event(member: &Member, pod: &str, reason: &str, text: &str) -> Value {
    let found = wait_until(&format!("{reason}: {text}"), SOON, || {
        let is = |event: &Value| event["reason"] == reason && event["message"].as_str().unwrap().contains(text);
        events(member, pod).into_iter().find(is)
    });
    found.unwrap_or_else(|error| panic!("{error}: {:#?}", events(member, pod)))
}

fn of_a_life(systemd: Systemd) {
    let member = Member::join(systemd, "told").unwrap();
    member.run("web", script("sleep infinity")).unwrap();
    member.wait_running("web").unwrap();
    for (reason, text) in [("Created", "main"), ("Started", "main")] {
        let event = wait_event(&member, "web", reason, text);
        assert_eq!(event["type"], "Normal", "{event:#}");
        assert_eq!(event["source"], json!({"component": "kubelet", "host": member.name}));
        assert_eq!(event["involvedObject"]["fieldPath"], "spec.containers{main}");
        assert_eq!(event["involvedObject"]["uid"], member.pod("web").unwrap().unwrap()["metadata"]["uid"]);
        assert!(event["firstTimestamp"].is_string() && event["count"] == 1, "{event:#}");
    }
    member.kubectl().run(&["delete", "pod", "web", "-n", &member.name]).unwrap();
    let killing = wait_event(&member, "web", "Killing", "Stopping container main");
    assert_eq!(killing["involvedObject"]["fieldPath"], "spec.containers{main}");
}

fn of_failures(systemd: Systemd) {
    let member = Member::join(systemd, "fails").unwrap();
    member.run("loops", script("exit 7")).unwrap();
    let mut unmounted = script("true");
    unmounted["volumes"] = json!([{"name": "s", "secret": {"secretName": "nowhere"}}]);
    unmounted["containers"][0]["volumeMounts"] = json!([{"name": "s", "mountPath": "/s"}]);
    member.run("unmounted", unmounted).unwrap();
    let mut unpulled = script("true");
    unpulled["containers"][0]["image"] = json!("no-such-package-anywhere");
    member.run("unpulled", unpulled).unwrap();
    let mut oci = script("true");
    oci["containers"][0]["image"] = json!("docker.io/library/nginx:1.27");
    member.run("oci", oci).unwrap();
    let mut impossible = script("true");
    impossible["hostPID"] = json!(true);
    impossible["shareProcessNamespace"] = json!(false);
    member.run("impossible", impossible).unwrap();

    let backs_off = wait_event(&member, "loops", "BackOff", "exit code 7");
    assert_eq!(backs_off["type"], "Warning");
    wait_event(&member, "unmounted", "FailedMount", "nowhere");
    wait_event(&member, "unpulled", "Failed", "no-such-package-anywhere");
    wait_event(&member, "oci", "Failed", "is an OCI image");
    // What is tried again and again is counted, not told anew.
    for (pod, reason) in [("unpulled", "Failed"), ("loops", "Started")] {
        let again = wait_until(&format!("{reason} of {pod} to be counted"), 2 * SOON, || {
            let said: Vec<Value> = events(&member, pod).into_iter().filter(|e| e["reason"] == reason).collect();
            assert!(said.len() <= 1, "{said:#?}");
            said.into_iter().find(|e| e["count"].as_i64() > Some(1))
        });
        again.unwrap();
    }
    let described = member.kubectl().run(&["describe", "pod", "loops", "-n", &member.name]).unwrap();
    assert!(described.contains("BackOff") && described.contains("kubelet"), "{described}");
}
