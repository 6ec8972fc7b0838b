use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_000_000;

fn container(name: &str, state: &Value) -> Value {
    let ready = state.get("running").is_some();
    json!({"name": name, "image": "i", "imageID": "", "ready": ready, "restartCount": 0, "state": state})
}

fn pod(phase: &str, init: &[Value], app: &[Value], rest: Value) -> Pod {
    let spec = |statuses: &[Value]| -> Vec<Value> { statuses.iter().map(|s| json!({"name": s["name"]})).collect() };
    let initialized = init.iter().all(|c| c["state"]["terminated"]["exitCode"] == 0);
    let mut pod = json!({
        "metadata": {"name": "p"},
        "spec": {"initContainers": spec(init), "containers": spec(app)},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Initialized", "status": if initialized { "True" } else { "False" }}],
            "initContainerStatuses": init,
            "containerStatuses": app,
        },
    });
    if let (Value::Object(pod), Value::Object(rest)) = (&mut pod, rest) {
        pod.extend(rest);
    }
    serde_json::from_value(pod).unwrap()
}

fn line(phase: &str, init: &[Value], app: &[Value]) -> String {
    let Summary { ready, status, restarts } = summary(&pod(phase, init, app, json!({})), NOW);
    format!("{ready} {status} {restarts}")
}

#[test]
fn status_is_kubectls() {
    let running = || json!({"running": {}});
    let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
    let ended = |code: i32, reason: &str| json!({"terminated": {"exitCode": code, "reason": reason}});
    let a = |state: Value| container("a", &state);
    let b = |state: Value| container("b", &state);
    assert_eq!(line("Running", &[], &[a(running())]), "1/1 Running 0");
    assert_eq!(line("Pending", &[], &[a(waiting("ContainerCreating"))]), "0/1 ContainerCreating 0");
    assert_eq!(line("Running", &[], &[a(waiting("CrashLoopBackOff"))]), "0/1 CrashLoopBackOff 0");
    assert_eq!(line("Pending", &[], &[a(waiting("ErrImagePull")), b(running())]), "1/2 ErrImagePull 0");
    assert_eq!(line("Succeeded", &[], &[a(ended(0, "Completed"))]), "0/1 Completed 0");
    assert_eq!(line("Failed", &[], &[a(ended(3, "Error"))]), "0/1 Error 0");
    assert_eq!(line("Failed", &[], &[a(ended(3, ""))]), "0/1 ExitCode:3 0");
    assert_eq!(line("Failed", &[], &[a(json!({"terminated": {"exitCode": 137, "signal": 9}}))]), "0/1 Signal:9 0");
    // The first container's reason stands, as kubectl goes through them from the last.
    assert_eq!(line("Running", &[], &[a(ended(1, "Error")), b(ended(0, "Completed"))]), "0/2 Error 0");
    assert_eq!(line("Running", &[], &[a(ended(0, "Completed")), b(running())]), "1/2 NotReady 0");
}

#[test]
fn init_containers_come_first() {
    let running = || json!({"running": {}});
    let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
    let ended = |code: i32, reason: &str| json!({"terminated": {"exitCode": code, "reason": reason}});
    let i = |name: &str, state: Value| container(name, &state);
    let app = [container("a", &waiting("PodInitializing"))];
    assert_eq!(line("Pending", &[i("x", running()), i("y", waiting("PodInitializing"))], &app), "0/1 Init:0/2 0");
    assert_eq!(line("Pending", &[i("x", ended(0, "Completed")), i("y", running())], &app), "0/1 Init:1/2 0");
    assert_eq!(line("Failed", &[i("x", ended(1, "Error"))], &app), "0/1 Init:Error 0");
    assert_eq!(line("Failed", &[i("x", ended(7, ""))], &app), "0/1 Init:ExitCode:7 0");
    assert_eq!(line("Pending", &[i("x", waiting("CrashLoopBackOff"))], &app), "0/1 Init:CrashLoopBackOff 0");
    assert_eq!(line("Pending", &[i("x", ended(0, "Completed"))], &app), "0/1 PodInitializing 0");
}

#[test]
fn a_stop_and_a_refusal_show() {
    let deletion = json!({"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let app = [container("a", &json!({"running": {}}))];
    assert_eq!(summary(&pod("Running", &[], &app, deletion.clone()), NOW).status, "Terminating");
    assert_eq!(summary(&pod("Succeeded", &[], &[], deletion), NOW).status, "Succeeded");
    let refused = json!({"status": {"phase": "Failed", "reason": "Unsupported"}});
    assert_eq!(summary(&pod("Failed", &[], &app, refused), NOW).status, "Unsupported");
    assert_eq!(summary(&Pod::default(), NOW).status, "Pending");
}

#[test]
fn restarts_are_told_with_the_last_end() {
    let mut status = container("a", &json!({"running": {}}));
    status["restartCount"] = json!(3);
    status["lastState"] = json!({"terminated": {"exitCode": 1, "finishedAt": "1970-01-12T13:44:40Z"}});
    assert_eq!(line("Running", &[], &[status]), "1/1 Running 3 (2m ago)");
}
