//! Pods that write down each of their starts, and what is left of them in systemd, the kernel and the file system.

use std::time::Duration;

use e2e::agent::{Node, SOON};
use e2e::eventually::wait_until;
use serde_json::{Value, json};

/// Where containers write down their starts, on the host; `/count` inside.
pub(super) const COUNT: &str = "/var/lib/count";

/// A container that appends its PID to `/count/<pod>.<name>` and then runs `script`.
pub(super) fn shell(pod: &str, name: &str, script: &str) -> Value {
    json!({
        "name": name, "image": "/bin/bash",
        "command": ["/bin/bash", "-c", format!("echo $BASHPID >> /count/{pod}.{name}\n{script}")],
        "volumeMounts": [{"name": "count", "mountPath": "/count"}],
    })
}

/// A manifest of one pod of such containers.
pub(super) fn pod(name: &str, policy: &str, containers: &[Value]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "uid": name},
        "spec": {
            "restartPolicy": policy, "terminationGracePeriodSeconds": 1, "containers": containers,
            "volumes": [{"name": "count", "hostPath": {"path": COUNT, "type": "DirectoryOrCreate"}}],
        },
    })
}

/// A pod with one container `main` that runs until it is told to stop.
pub(super) fn sleeper(name: &str) -> String {
    pod(name, "Always", &[shell(name, "main", "exec sleep infinity")]).to_string()
}

/// The one process that a container's unit runs: another one in any respect is another life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// `MainPID=`, `InvocationID=`, `NRestarts=` and when the process started.
    text: String,
}

/// The life of a container now.
pub(super) fn life(node: &Node, pod: &str, container: &str) -> Life {
    let unit = node.unit(pod, container).unwrap();
    let show = format!(
        "systemctl show -p MainPID -p InvocationID -p NRestarts -p ActiveState {unit}; \
         awk '{{print $22}}' /proc/$(systemctl show -p MainPID --value {unit})/stat"
    );
    let text = node.sandbox.sh(&show).unwrap();
    assert!(text.contains("ActiveState=active") && !text.contains("MainPID=0"), "{pod}/{container}: {text}");
    Life { text }
}

/// How often a container was started, by its own word.
pub(super) fn starts(node: &Node, pod: &str, container: &str) -> usize {
    let text = node.sandbox.sh(&format!("cat {COUNT}/{pod}.{container} 2>/dev/null || true")).unwrap();
    text.lines().count()
}

/// Forgets what containers wrote down.
pub(super) fn forget_starts(node: &Node, pod: &str) {
    node.sandbox.sh(&format!("rm -f {COUNT}/{pod}.*")).unwrap();
}

/// Everything of ours on the machine that is not of a pod whose name holds `stays`: units, unit files, directories, mounts
/// and cgroups, a line each.
pub(crate) fn left(node: &Node, stays: &str) -> String {
    let script = format!(
        "{{ systemctl list-units --all --plain --no-legend 'systemk.*' 'kubepods*pod*'
           ls -A /run/systemd/system /run/systemd/transient | grep -E '^([.]?systemk|kubepods.*pod)'
           ls -A /run/systemd/system.control | grep -E '^(systemk|kubepods)'
           ls -A /run/systemk/pods /var/lib/systemk/pods | grep -v :
           grep -E 'systemk/pods|systemk[.]' /proc/1/mountinfo
           find /sys/fs/cgroup -name 'systemk.*' -o -name 'kubepods*pod*'
           find /run/systemk /var/lib/systemk -name '.systemk-tmp*'
        }} 2>/dev/null | grep -vE '(^|/)systemk[.]service' | grep -vE '{stays}' | grep -v '^$' || true"
    );
    node.sandbox.sh(&script).unwrap()
}

/// Waits until nothing of ours is left but the pods whose names hold `stays`.
pub(crate) fn wait_nothing_left(node: &Node, stays: &str) {
    let gone = wait_until("nothing to be left", SOON, || left(node, stays).is_empty().then_some(()));
    gone.unwrap_or_else(|e| panic!("{e:#}\n{}\n{}", left(node, stays), agent_log(node)));
}

/// The end of the agent's log, for a person who reads a failure.
pub(crate) fn agent_log(node: &Node) -> String {
    node.sandbox.sh("journalctl -u systemk -n 60 --no-pager -o cat").unwrap_or_default()
}

/// The agent's process.
pub(super) fn agent_pid(node: &Node) -> u32 {
    let pid = || node.property("systemk.service", "MainPID").ok()?.parse().ok().filter(|pid| *pid != 0);
    wait_until("the agent to have a process", SOON, pid).unwrap()
}

/// SIGKILLs the agent and waits until its successor is ready.
pub(crate) fn kill_agent(node: &Node) {
    let old = agent_pid(node);
    node.sandbox.sh(&format!("kill -9 {old}")).unwrap();
    wait_until("the agent's successor", SOON, || {
        let active = node.property("systemk.service", "ActiveState").ok()? == "active";
        (active && agent_pid(node) != old).then_some(())
    })
    .unwrap();
}

/// A status's container: its state now, its last state and its restart count.
pub(super) fn container<'a>(status: &'a Value, name: &str) -> &'a Value {
    let all = status["containerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|c| c["name"] == name).unwrap_or(&Value::Null)
}

/// Waits until a container has ended for good, and gives its `terminated` state.
pub(super) fn wait_terminated(node: &Node, pod: &str, name: &str) -> Value {
    let ended = |status: &Value| container(status, name)["state"]["terminated"].is_object();
    let report = node.wait_status(pod, "the container to have ended", ended).unwrap();
    container(&report["pod"]["status"], name)["state"]["terminated"].clone()
}

/// Waits until a container runs again after so many restarts, and gives its status.
pub(super) fn wait_restarted(node: &Node, pod: &str, name: &str, count: u64) -> Value {
    let again = |status: &Value| {
        let container = container(status, name);
        container["restartCount"] == count && container["state"]["running"].is_object()
    };
    let report = node.wait_status(pod, "the container to run again", again).unwrap();
    container(&report["pod"]["status"], name).clone()
}

/// Waits for `what` as the sandbox's shell sees it.
pub(super) fn wait_sh(node: &Node, what: &str, test: &str) {
    let script = ["bash", "-c", test];
    let holds = || node.sandbox.exec(&script).is_ok_and(|o| o.code == 0).then_some(());
    let held = wait_until(what, SOON + Duration::from_secs(5), holds);
    held.unwrap_or_else(|e| panic!("{e:#}\n{}", agent_log(node)));
}
