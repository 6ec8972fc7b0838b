//! Others who write a pod's status: what they say of their own stays, what they say of ours is put right.

use std::time::Instant;

use e2e::control_plane::Fault;
use e2e::member::Member;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::{assert_untouched, behind, kill_program, run, wait_seen};

on_both! { what_others_write_into_a_status_is_kept_or_put_right }

fn write(member: &Member, name: &str, status: &Value) {
    let patch = json!({"status": status}).to_string();
    let patch = ["patch", "pod", name, "-n", &member.name, "--subresource=status", "--type=strategic", "-p", &patch];
    member.kubectl().run(&patch).unwrap();
}

fn has_condition(status: &Value, kind: &str, value: &str) -> bool {
    let all = status["conditions"].as_array();
    all.is_some_and(|all| all.iter().any(|c| c["type"] == kind && c["status"] == value))
}

fn what_others_write_into_a_status_is_kept_or_put_right(systemd: Systemd) {
    let (proxy, member) = behind(systemd, "writers");
    let before = run(&member, "serves");
    let ours = &before["status"]["containerStatuses"];

    // Ours is put right, without anything happening to the pod.
    let mut wrong = ours.clone();
    (wrong[0]["ready"], wrong[0]["restartCount"]) = (json!(false), json!(7));
    write(&member, "serves", &json!({"containerStatuses": wrong}));
    member.wait_pod("serves", "it to be put right", |status| status["containerStatuses"] == *ours).unwrap();
    // Theirs stays.
    let theirs = json!({"type": "example.com/checked", "status": "True", "reason": "Theirs", "message": "they say"});
    let not_ready = json!({"type": "Ready", "status": "False"});
    write(&member, "serves", &json!({"conditions": [theirs, not_ready], "containerStatuses": wrong}));
    let right = |status: &Value| {
        status["containerStatuses"] == *ours
            && has_condition(status, "Ready", "True")
            && has_condition(status, "example.com/checked", "True")
    };
    member.wait_pod("serves", "the status to be put right", right).unwrap();
    assert_untouched(&member, "serves", &before);

    // Two that are written at once: the API server refuses one of them, which is said again.
    let since = Instant::now();
    proxy.inject_times(2, "patch pods/status", Fault::Refuse(409, None));
    kill_program(&member, "serves");
    write(&member, "serves", &json!({"conditions": [{"type": "example.com/checked", "status": "False"}]}));
    let again = |status: &Value| {
        status["containerStatuses"][0]["restartCount"] == 1 && has_condition(status, "example.com/checked", "False")
    };
    member.wait_pod("serves", "its restart", again).unwrap();
    let codes: Vec<_> = wait_seen(&proxy, since, "patch pods/status", 3).iter().map(|seen| seen.code).collect();
    assert_eq!(codes[..2], [Some(409), Some(409)]);
    member.wait_running("serves").unwrap();
}
