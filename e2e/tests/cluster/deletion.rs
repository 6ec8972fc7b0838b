//! The end of a pod of a cluster: with its grace, by force, while nobody looked, and in favour of one of the same name.

use e2e::agent::SOON;
use e2e::eventually::wait_until;
use e2e::member::Member;
use e2e::sandbox::Systemd;
use serde_json::json;

use super::script;

on_both! { graces a_pod_is_deleted_while_the_agent_is_down a_name_is_used_again }

/// Ignores SIGTERM for longer than any test waits.
const STUBBORN: &str = "trap '' TERM; while true; do sleep 1; done";

fn runs(member: &Member, what: &str) -> bool {
    member.sandbox.sh(&format!("pgrep -f '{what}'")).is_ok()
}

fn delete(member: &Member, name: &str, more: &[&str]) {
    let arguments = [&["delete", "pod", name, "-n", &member.name, "--wait=false"][..], more].concat();
    member.kubectl().run(&arguments).unwrap();
}

fn graces(systemd: Systemd) {
    let member = Member::join(systemd, "graces").unwrap();
    let stubborn = |name: &str| {
        let mut spec = script(&format!(": {name}; {STUBBORN}"));
        spec["terminationGracePeriodSeconds"] = json!(600);
        member.run(name, spec).unwrap();
        member.wait_running(name).unwrap();
    };
    stubborn("shortened");
    stubborn("forced");

    delete(&member, "shortened", &[]);
    member.wait_log("shortened", "main", "").unwrap();
    wait_until("the stop to be asked for", SOON, || {
        let report = member.report("shortened")?;
        (report["stopping"] == true).then_some(())
    })
    .unwrap();
    assert!(runs(&member, ": shortened"), "killed before its time");
    delete(&member, "shortened", &["--grace-period=1"]);
    member.wait_deleted("shortened").unwrap();
    assert!(!runs(&member, ": shortened"));

    // The API server forgets it at once; the node has to find out for itself.
    delete(&member, "forced", &["--force", "--grace-period=0"]);
    member.wait_deleted("forced").unwrap();
    wait_until("the processes to be gone", SOON, || (!runs(&member, ": forced")).then_some(())).unwrap();
    member.wait_gone("forced").unwrap();
}

fn a_pod_is_deleted_while_the_agent_is_down(systemd: Systemd) {
    let member = Member::join(systemd, "away").unwrap();
    for name in ["marked", "forgotten", "stays"] {
        member.run(name, script(&format!(": {name}; sleep infinity & wait"))).unwrap();
        member.wait_running(name).unwrap();
    }
    let id = |name: &str| member.pod(name).unwrap().unwrap()["status"]["containerStatuses"][0]["containerID"].clone();
    let before = id("stays");
    member.sandbox.run(&["systemctl", "kill", "--kill-whom=main", "-s", "KILL", "systemk"]).unwrap();
    member.sandbox.run(&["systemctl", "stop", "systemk"]).unwrap();
    delete(&member, "marked", &[]);
    delete(&member, "forgotten", &["--force", "--grace-period=0"]);
    assert!(runs(&member, ": marked") && runs(&member, ": forgotten"));
    member.start_agent().unwrap();
    member.wait_deleted("marked").unwrap();
    for name in ["marked", "forgotten"] {
        member.wait_gone(name).unwrap();
        assert!(!runs(&member, &format!(": {name}")), "{name} runs on");
    }
    // What nobody touched was not touched either.
    let stays = member.wait_running("stays").unwrap();
    let container = &stays["status"]["containerStatuses"][0];
    assert_eq!((&container["containerID"], &container["restartCount"]), (&before, &json!(0)));
}

fn a_name_is_used_again(systemd: Systemd) {
    let member = Member::join(systemd, "again").unwrap();
    let spec = |word: &str| {
        script(&format!(
            "trap 'sleep 0.5; echo {word} ended >> /o/l; exit' TERM; echo {word} began >> /o/l; sleep infinity & wait"
        ))
    };
    let on_host = |mut spec: serde_json::Value| {
        spec["volumes"] = json!([{"name": "o", "hostPath": {"path": "/mnt/log", "type": "DirectoryOrCreate"}}]);
        spec["containers"][0]["volumeMounts"] = json!([{"name": "o", "mountPath": "/o"}]);
        spec
    };
    member.run("web", on_host(spec("first"))).unwrap();
    let first = member.wait_running("web").unwrap()["metadata"]["uid"].clone();
    wait_until("the first", SOON, || member.sandbox.sh("grep began /mnt/log/l").ok()).unwrap();
    // Forgotten by the API server while it still runs here.
    delete(&member, "web", &["--force", "--grace-period=0"]);
    member.run("web", on_host(spec("second"))).unwrap();
    let second = member.wait_running("web").unwrap();
    assert_ne!(second["metadata"]["uid"], first);
    let log = || member.sandbox.sh("cat /mnt/log/l").unwrap();
    wait_until("the second", SOON, || log().contains("second").then_some(())).unwrap();
    assert_eq!(log(), "first began\nfirst ended\nsecond began\n");
}
