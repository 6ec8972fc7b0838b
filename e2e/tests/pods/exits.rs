//! How containers end, and what follows: codes, reasons, restarts, back-off, init containers.

use e2e::agent::Node;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::{apply, first, output, shell, with};

on_both! { exit_codes start_errors init_containers }

fn one(policy: &str, script: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [shell("main", script)]})
}

fn ended(node: &Node, name: &str, phase: &str) -> Value {
    let report = node.wait_status(name, phase, |s| s["phase"] == phase).unwrap();
    report["pod"]["status"].clone()
}

pub(super) fn exit_codes(systemd: Systemd) {
    let node = Node::start(systemd, "exits").unwrap();
    let cases = [
        ("zero", "exit 0", "Succeeded", 0, None, "Completed"),
        ("seven", "exit 7", "Failed", 7, None, "Error"),
        ("high", "exit 226", "Failed", 226, None, "Error"),
        ("killed", "kill -KILL $BASHPID", "Failed", 137, Some(9), "Error"),
        ("term", "kill -TERM $BASHPID", "Failed", 143, Some(15), "Error"),
        ("pipe", "kill -PIPE $BASHPID", "Failed", 141, Some(13), "Error"),
        ("child", "(sleep infinity &) ; exit 3", "Failed", 3, None, "Error"),
    ];
    for (name, script, ..) in cases {
        apply(&node, name, one("Never", script));
    }
    apply(&node, "well", one("OnFailure", "exit 0"));
    for (name, _, phase, code, signal, reason) in cases {
        let status = ended(&node, name, phase);
        let end = &first(&status)["state"]["terminated"];
        assert_eq!((&end["exitCode"], &end["reason"]), (&json!(code), &json!(reason)), "{name}: {status:#}");
        assert_eq!(end["signal"].as_i64(), signal, "{name}");
        assert_eq!(first(&status)["restartCount"], 0, "{name}");
        assert!(end["startedAt"].is_string() && end["finishedAt"].is_string(), "{name}: {end}");
        assert!(end["containerID"].as_str().is_some_and(|id| id.starts_with("systemd://")), "{name}: {end}");
    }
    assert_eq!(first(&ended(&node, "well", "Succeeded"))["restartCount"], 0);
    restarts(&node, "always", "Always", 0);
    restarts(&node, "on-failure", "OnFailure", 5);
    assert_eq!(node.sandbox.sh("pgrep -x sleep | wc -l").unwrap().trim(), "0", "a child outlived its container");
}

/// The first restart comes at once, the second is backed off. The pod is made here, not with the others: on a
/// busy machine the first back-off of 10 s is over before they have all been looked at.
fn restarts(node: &Node, name: &str, policy: &str, code: i64) {
    apply(node, name, one(policy, &format!("exit {code}")));
    let report = node.wait_waiting(name, "CrashLoopBackOff", &[]).unwrap();
    let (pod, uid) = (&report["pod"], report["pod"]["metadata"]["uid"].as_str().unwrap());
    let container = first(&pod["status"]);
    let message = format!("back-off 10s restarting failed container=main pod={name}_default({uid})");
    assert_eq!(container["state"]["waiting"]["message"], message);
    assert_eq!(container["restartCount"], 1, "{container:#}");
    assert_eq!(container["lastState"]["terminated"]["exitCode"], code, "{container:#}");
    assert_eq!(container["ready"], false);
    assert_eq!(pod["status"]["phase"], "Running", "{:#}", pod["status"]);
}

pub(super) fn start_errors(systemd: Systemd) {
    let node = Node::start(systemd, "start-errors").unwrap();
    node.sandbox.write_file("/opt/plain", "no program").unwrap();
    node.sandbox.write_program("/opt/script", "#!/no/such/interpreter\n").unwrap();
    node.sandbox.write_program("/opt/garbage", "\u{1}\u{2}garbage").unwrap();
    // A program for s390x: 64-bit, most significant byte first.
    let mut foreign = [0; 64];
    foreign[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 2, 1]);
    foreign[16..20].copy_from_slice(&[0, 2, 0, 22]);
    node.sandbox.write_program("/opt/foreign", foreign).unwrap();
    let cases = [
        ("missing", json!({"command": ["/usr/bin/nothing"]}), 127, "no such file"),
        ("bare", json!({"command": ["nothing-at-all"]}), 127, "not found in $PATH"),
        ("plain", json!({"command": ["/opt/plain"]}), 126, "permission denied"),
        ("directory", json!({"command": ["/usr"]}), 126, "directory"),
        ("script", json!({"command": ["/opt/script"]}), 127, "/no/such/interpreter"),
        ("garbage", json!({"command": ["/opt/garbage"]}), 126, "exec format error"),
        ("foreign", json!({"command": ["/opt/foreign"]}), 126, "exec format error"),
        ("cwd", json!({"workingDir": "/etc/passwd"}), 128, "working directory"),
        ("read-only", json!({"workingDir": "/usr/not/there"}), 128, "working directory"),
        ("image", json!({"image": "/no/such/file", "command": null}), 127, "/no/such/file"),
        ("long", json!({"command": ["/bin/echo", "x".repeat(140 * 1024)]}), 128, "too long"),
    ];
    for (name, what, ..) in &cases {
        let container = with(json!({"name": "main", "image": "/bin/true"}), what.clone());
        apply(&node, name, json!({"restartPolicy": "Never", "containers": [container]}));
    }
    for (name, _, code, text) in &cases {
        let status = ended(&node, name, "Failed");
        let end = &first(&status)["state"]["terminated"];
        assert_eq!((&end["reason"], &end["exitCode"]), (&json!("StartError"), &json!(code)), "{name}: {status:#}");
        assert!(end["message"].as_str().is_some_and(|m| m.contains(text)), "{name}: {end}");
    }
    apply(&node, "again", json!({"containers": [{"name": "main", "image": "/bin/true", "command": ["/no"]}]}));
    let report = node.wait_waiting("again", "CrashLoopBackOff", &[]).unwrap();
    let container = first(&report["pod"]["status"]);
    assert_eq!(container["lastState"]["terminated"]["reason"], "StartError", "{container:#}");
}

pub(super) fn init_containers(systemd: Systemd) {
    let node = Node::start(systemd, "init").unwrap();
    let mount = json!([{"name": "v", "mountPath": "/v"}]);
    let container = |name: &str, script: &str| with(shell(name, script), json!({"volumeMounts": mount}));
    let spec = |policy: &str, second: &str| {
        json!({"restartPolicy": policy, "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [container("one", "sleep 0.2; echo one >> /v/order"), container("two", second)],
            "containers": [container("main", "cat /v/order")]})
    };
    let log = output(&node, "order", spec("Never", "echo two >> /v/order"));
    assert_eq!(log, "one\ntwo\n");
    let report = node.report("order").unwrap();
    let inits = &report["pod"]["status"]["initContainerStatuses"];
    assert_eq!((&inits[0]["ready"], &inits[1]["ready"]), (&json!(true), &json!(true)), "{inits:#}");
    assert_eq!(inits[0]["state"]["terminated"]["reason"], "Completed", "{inits:#}");

    apply(&node, "never", spec("Never", "exit 3"));
    let status = ended(&node, "never", "Failed");
    assert_eq!(status["initContainerStatuses"][1]["state"]["terminated"]["exitCode"], 3, "{status:#}");
    assert_eq!(first(&status)["state"]["waiting"]["reason"], "PodInitializing", "{status:#}");
    assert_eq!(first(&status)["restartCount"], 0);

    let second_time = "[ -e /v/failed ] && exit 0; touch /v/failed; exit 4";
    apply(&node, "again", spec("OnFailure", second_time));
    let status = ended(&node, "again", "Succeeded");
    let inits = &status["initContainerStatuses"];
    assert_eq!((&inits[0]["restartCount"], &inits[1]["restartCount"]), (&json!(0), &json!(1)), "{inits:#}");

    apply(&node, "loop", spec("Always", "exit 1"));
    let looping = |s: &Value| s["initContainerStatuses"][1]["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    let report = node.wait_status("loop", "the init container to be backed off", looping).unwrap();
    let status = &report["pod"]["status"];
    assert_eq!((&status["phase"], &first(status)["started"]), (&json!("Pending"), &json!(false)), "{status:#}");
    assert!(
        status["conditions"].as_array().unwrap().iter().any(|c| c["type"] == "Initialized" && c["status"] == "False")
    );
}
