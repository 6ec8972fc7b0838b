//! A machine on which systemk is installed as a user installs it, commands on it, and manifests.

use std::sync::atomic::{AtomicU32, Ordering};

use e2e::agent::{Node, SOON, binary};
use e2e::eventually::wait_until;
use e2e::sandbox::{Output, Running, Sandbox, SandboxSpec, Systemd};
use serde_json::{Value, json};

/// The sandbox has no network: its addresses are told.
pub(super) const CONFIG: &str = "nodeIp: [10.0.0.1]\nnodeExternalIp: [192.0.2.7]\n";

/// A machine that has the binary and a config file.
pub(super) fn bare(systemd: Systemd, what: &str) -> Node {
    let spec = SandboxSpec::for_test(systemd, what).netns().bind_ro(binary().unwrap(), "/usr/local/bin/systemk");
    let sandbox = Sandbox::start(spec).unwrap();
    sandbox.write_file("/etc/systemk/config.yaml", CONFIG).unwrap();
    Node { sandbox, patience: SOON }
}

/// The same after `systemk install`.
pub(super) fn installed(systemd: Systemd, what: &str) -> Node {
    let node = bare(systemd, what);
    ok(&node, "systemk install");
    node
}

/// Runs a command line of a shell to its end.
pub(super) fn exec(node: &Node, command: &str) -> Output {
    node.sandbox.exec(&["bash", "-c", command]).unwrap()
}

/// Runs a command that must succeed; gives its standard output.
#[track_caller]
pub(super) fn ok(node: &Node, command: &str) -> String {
    let output = exec(node, command);
    assert_eq!(output.code, 0, "{command}: {output:?}");
    output.stdout
}

/// Runs a command that must end with that code, say nothing on standard output and each of `parts` on standard error.
#[track_caller]
pub(super) fn fails(node: &Node, command: &str, code: i32, parts: &[&str]) -> String {
    let output = exec(node, command);
    assert_eq!((output.code, output.stdout.as_str()), (code, ""), "{command}: {}", output.stderr);
    holds(&output.stderr, parts);
    output.stderr
}

/// Each of `parts` is in the text, one after the other.
#[track_caller]
pub(super) fn holds(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { panic!("{part:?} is not in its place in:\n{text}") };
        rest = after;
    }
}

/// A command that was left running, with its process inside.
pub(super) struct Job {
    running: Running,
    pid: String,
}

/// Starts a command line of a shell that is one program.
pub(super) fn start(node: &Node, command: &str) -> Job {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let file = format!("/root/pid.{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let running = node.sandbox.spawn(&["bash", "-c", &format!("echo $$ >{file}; exec {command}")]).unwrap();
    let written = || node.sandbox.read_file(&file).ok().filter(|pid| pid.ends_with('\n'));
    let pid = wait_until("the command to start", SOON, written).map(|pid| pid.trim().to_owned());
    Job { running, pid: pid.unwrap() }
}

impl Job {
    /// Waits for a text on standard output.
    #[track_caller]
    pub(super) fn wait_stdout(&self, text: &str) {
        let said = || self.running.stdout().unwrap().contains(text).then_some(());
        wait_until(text, SOON, said).unwrap_or_else(|e| panic!("{e}: {:?}", self.said()));
    }

    /// Waits for a text on standard error.
    #[track_caller]
    pub(super) fn wait_stderr(&self, text: &str) {
        let said = || self.running.stderr().unwrap().contains(text).then_some(());
        wait_until(text, SOON, said).unwrap_or_else(|e| panic!("{e}: {:?}", self.said()));
    }

    /// What it wrote to standard output and to standard error so far.
    pub(super) fn said(&self) -> (String, String) {
        (self.running.stdout().unwrap(), self.running.stderr().unwrap())
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, node: &Node, name: &str) {
        node.sandbox.run(&["kill", "-s", name, &self.pid]).unwrap();
    }

    /// Waits for its end; gives its exit code and what it said.
    #[track_caller]
    pub(super) fn ended(mut self) -> (i32, String, String) {
        let Some(status) = self.running.wait(SOON).unwrap() else { panic!("it still runs: {:?}", self.said()) };
        let (stdout, stderr) = self.said();
        (status.code().unwrap_or(-1), stdout, stderr)
    }
}

/// Writes a manifest to `/root/<name>.json`; gives that path.
pub(super) fn write(node: &Node, name: &str, manifest: &Value) -> String {
    let path = format!("/root/{name}.json");
    node.sandbox.write_file(&path, manifest.to_string()).unwrap();
    path
}

/// A pod.
pub(super) fn pod(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
}

/// A pod of one container `main` that runs a script of bash once.
pub(super) fn once(name: &str, script: &str) -> Value {
    pod(name, json!({"restartPolicy": "Never", "containers": [shell("main", script)]}))
}

/// A container that runs a script of bash.
pub(super) fn shell(name: &str, script: &str) -> Value {
    json!({"name": name, "image": "/bin/bash", "command": ["/bin/bash", "-c", script]})
}

/// A script that says `up` and, a second after SIGTERM, `bye`.
pub(super) const POLITE: &str = "trap 'sleep 1; echo bye; exit 0' TERM; echo up; sleep infinity & wait";

/// A pod of such a container with five seconds of grace.
pub(super) fn polite(name: &str) -> Value {
    pod(name, json!({"terminationGracePeriodSeconds": 5, "containers": [shell("main", POLITE)]}))
}

/// The pods that `systemk ps` lists.
pub(super) fn pods(node: &Node) -> Vec<Value> {
    let list: Value = serde_json::from_str(&ok(node, "systemk ps -o json")).unwrap();
    list["items"].as_array().unwrap().clone()
}

/// The names of the pods that `systemk ps` lists.
pub(super) fn names(node: &Node) -> Vec<String> {
    pods(node).iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// The main process of a container.
pub(super) fn main_pid(node: &Node, pod: &str) -> String {
    node.property(&node.unit(pod, "main").unwrap(), "MainPID").unwrap()
}
