//! Ends that nobody watched, and what is remembered of them.

use e2e::agent::Node;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::support::{
    COUNT, container, kill_agent, life, pod, shell, starts, wait_nothing_left, wait_restarted, wait_sh, wait_terminated,
};

/// When the file `/count/go` is there, ends as told.
fn at_go(end: &str) -> String {
    format!("until [ -e /count/go ]; do sleep 0.05; done\n{end}")
}

fn ends_while_the_agent_is_down_are_known(systemd: Systemd) {
    let node = Node::start(systemd, "down").unwrap();
    let ends =
        [("zero", "exit 0"), ("seven", "exit 7"), ("killed", "kill -9 $BASHPID"), ("term", "kill -TERM $BASHPID")];
    let containers: Vec<Value> = ends.map(|(name, end)| shell("never", name, &at_go(end))).to_vec();
    node.apply("never.yaml", &pod("never", "Never", &containers).to_string()).unwrap();
    let again = shell(
        "again",
        "main",
        "if [ -e /count/gone ]; then exec sleep infinity; fi\nuntil [ -e /count/go ]; do sleep 0.05; done; touch /count/gone; exit 7",
    );
    node.apply("again.yaml", &pod("again", "Always", &[again]).to_string()).unwrap();
    node.wait_ready("never").unwrap();
    node.wait_ready("again").unwrap();
    let units: Vec<String> = ends.iter().map(|(name, _)| node.unit("never", name).unwrap()).collect();

    node.sandbox.sh("systemctl stop systemk").unwrap();
    assert_eq!(starts(&node, "never", "zero"), 1);
    node.sandbox.sh(&format!("touch {COUNT}/go")).unwrap();
    wait_sh(
        &node,
        "the containers to end",
        &format!("! systemctl is-active -q {} && [ -e {COUNT}/gone ]", units.join(" ")),
    );
    node.start_agent().unwrap();

    for (name, code, reason) in
        [("zero", 0, "Completed"), ("seven", 7, "Error"), ("killed", 137, "Error"), ("term", 143, "Error")]
    {
        let ended = wait_terminated(&node, "never", name);
        assert_eq!((ended["exitCode"].as_i64(), ended["reason"].as_str()), (Some(code), Some(reason)), "{name}");
        assert_eq!(starts(&node, "never", name), 1, "{name}");
    }
    let status = wait_restarted(&node, "again", "main", 1);
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 7, "{status}");
    assert_eq!(starts(&node, "again", "main"), 2);

    let before = life(&node, "again", "main");
    kill_agent(&node);
    let after = wait_restarted(&node, "again", "main", 1);
    assert_eq!(after["lastState"], status["lastState"], "the last end is remembered over a restart of the agent");
    assert_eq!(before, life(&node, "again", "main"));
    let ended = wait_terminated(&node, "never", "seven");
    assert_eq!(ended["exitCode"], 7, "{ended}");
    node.remove("never.yaml").unwrap();
    node.remove("again.yaml").unwrap();
    wait_nothing_left(&node, "bystander");
}

fn mounts_that_cannot_be_made_are_told(systemd: Systemd) {
    let node = Node::start(systemd, "mounts").unwrap();
    let mut main = shell("mounts", "main", "exec sleep infinity");
    // A directory onto a file: the kernel refuses that mount.
    main["volumeMounts"].as_array_mut().unwrap().push(json!({"name": "empty", "mountPath": "/etc/hostname"}));
    let mut pod = pod("mounts", "Always", &[main]);
    pod["spec"]["volumes"].as_array_mut().unwrap().push(json!({"name": "empty", "emptyDir": {}}));
    node.apply("mounts.yaml", &pod.to_string()).unwrap();
    let told = |status: &Value| {
        let waiting = &container(status, "main")["state"]["waiting"];
        waiting["reason"] == "CreateContainerError" && waiting["message"].as_str().is_some_and(|m| !m.is_empty())
    };
    node.wait_status("mounts", "the failed set-up to be told", told).unwrap();
    assert_eq!(starts(&node, "mounts", "main"), 0);
    kill_agent(&node);
    node.wait_status("mounts", "the failed set-up to be told", told).unwrap();
    node.remove("mounts.yaml").unwrap();
    wait_nothing_left(&node, "bystander");
}

on_both!(ends_while_the_agent_is_down_are_known, mounts_that_cannot_be_made_are_told);
