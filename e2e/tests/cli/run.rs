//! `systemk run`: pods that end by themselves, pods that are left to the agent, and manifests that cannot be run.

use e2e::agent::Node;
use e2e::apt_repo::{AptRepo, Archive};
use e2e::eventually::wait_until;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::support::*;

on_both! { pods_that_end, pods_that_are_left_to_the_agent, manifests_that_cannot_run, without_an_agent }

fn package(name: &str, image: &str, args: &[&str]) -> Value {
    pod(name, json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": image, "args": args}]}))
}

/// Nothing of `systemk run` is left for the agent.
pub(super) fn nothing_is_left(node: &Node) {
    assert_eq!(ok(node, "find /run/systemk/manifests /run/systemk/pods -mindepth 1 2>/dev/null || true"), "");
    assert_eq!(ok(node, "systemctl list-units --all --plain --no-legend 'systemk.*.*' '*-pod*.slice'"), "");
}

fn pods_that_end(systemd: Systemd) {
    let node = installed(systemd, "cli-run-ends");
    AptRepo::build().unwrap().install_into(&node.sandbox, Archive::OursOnly).unwrap();

    let file = write(
        &node,
        "hello",
        &package("hello", "sk-simple", &["--greeting", "hi", "--interval", "0.1", "--count", "3"]),
    );
    let said = exec(&node, &format!("systemk run {file}"));
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.stdout, "sk-simple: started\nsk-simple: hi 1\nsk-simple: hi 2\nsk-simple: hi 3\n");
    let progress = [
        "hello: Pulling image \"sk-simple\"\n",
        "installing sk-simple 1.0-1\n",
        "hello: Successfully pulled image \"sk-simple\" in ",
        "hello: Started container main as systemk.default.hello.main_",
        "hello: container main ended with exit code 0\n",
    ];
    holds(&said.stderr, &progress);
    nothing_is_left(&node);

    // The code of the one that failed first; a prefix where more than one speaks.
    let two = json!({"restartPolicy": "Never", "containers": [
        shell("first", "echo one; sleep 0.3; echo two >&2; exit 7"), shell("second", "sleep 0.8; echo three; exit 9")]});
    write(&node, "two", &pod("two", two));
    let said = exec(&node, "systemk run - < /root/two.json");
    assert_eq!((said.code, said.stdout.as_str()), (7, "[two/first] one\n[two/first] two\n[two/second] three\n"));
    holds(
        &said.stderr,
        &["two: container first ended with exit code 7\n", "two: container second ended with exit code 9\n"],
    );

    // Long reasons are told once.
    let file = write(&node, "broken", &package("broken", "sk-badpostinst", &[]));
    let job = start(&node, &format!("systemk run {file}"));
    job.wait_stderr("ImagePullBackOff");
    job.signal(&node, "INT");
    let (code, stdout, stderr) = job.ended();
    assert_eq!((code, stdout.as_str()), (130, ""), "{stderr}");
    assert_eq!(stderr.matches("sk-badpostinst: giving up").count(), 1, "{stderr}");
    nothing_is_left(&node);
}

fn pods_that_are_left_to_the_agent(systemd: Systemd) {
    let node = installed(systemd, "cli-run-detach");
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "hunter2"}});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [secret, polite("web"), polite("other")]});
    let file = write(&node, "web", &list);
    let said = exec(&node, &format!("systemk run --detach {file}"));
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let line = |pod: &str| {
        format!("pod {pod} is the agent's now; 'systemk logs -f {pod}' follows it, 'systemk rm {pod}' stops it\n")
    };
    assert_eq!(said.stdout, line("web") + &line("other"));
    node.wait_log("web", "main", "up").unwrap();
    node.wait_log("other", "main", "up").unwrap();
    let pid = main_pid(&node, "web");
    // Again is no other pod.
    holds(&ok(&node, &format!("systemk run --detach {file}")), &["pod web is what the manifest says now; "]);
    ok(&node, "systemctl restart systemk");
    node.wait_ready("web").unwrap();
    assert_eq!(main_pid(&node, "web"), pid);

    // The name is taken.
    let taken =
        ["a pod default/web runs already, from /var/lib/systemk/manifests/", ": remove that first, or give this one"];
    let namesake = write(&node, "namesake", &once("web", "exit 0"));
    fails(&node, &format!("systemk run {namesake}"), 1, &taken);
    fails(&node, &format!("systemk run --detach {namesake}"), 1, &taken);
    assert_eq!(main_pid(&node, "web"), pid);

    // Its objects stay for as long as a pod of its manifest does, and go with the last.
    assert_eq!(ok(&node, "systemk rm web"), "pod web is gone\n");
    assert_eq!(
        ok(&node, "stat -c %a /var/lib/systemk/manifests; grep -rlc kind.*Secret /var/lib/systemk/manifests | wc -l"),
        "700\n1\n"
    );
    assert_eq!(names(&node), ["other"]);
    assert_eq!(ok(&node, "systemk rm other"), "pod other is gone\n");
    assert_eq!(ok(&node, "find /var/lib/systemk/manifests /var/lib/systemk/pods -mindepth 1"), "");
    nothing_is_left(&node);
}

fn manifests_that_cannot_run(systemd: Systemd) {
    let node = installed(systemd, "cli-run-bad");
    let before = ok(&node, "find /run/systemk /var/lib/systemk | sort");
    let bad = json!({"restartPolicy": "Sometimes", "containers": [
        {"name": "main", "image": "/bin/true", "ports": [{"containerPort": 70000}]}]});
    let bad = write(&node, "bad", &pod("bad", bad));
    let reasons = [
        "error: /root/bad.json: Pod default/bad spec.restartPolicy: must be Always or OnFailure or Never\n",
        "error: /root/bad.json: Pod default/bad spec.containers[0].ports[0].containerPort: must be between 1 and 65535\n",
        "nothing was started\n",
    ];
    for option in ["", "--detach"] {
        fails(&node, &format!("systemk run {option} {bad}"), 2, &reasons);
    }
    fails(&node, "echo 'kind: [' | systemk run -", 2, &["error: standard input: ", "nothing was started\n"]);
    fails(
        &node,
        "systemk run - </dev/null",
        2,
        &["error: standard input: there is no Pod in it\n", "nothing was started\n"],
    );
    fails(
        &node,
        "systemk run /root/none.json",
        1,
        &["systemk: cannot open /root/none.json: No such file or directory"],
    );
    fails(&node, "systemk run /root", 1, &["systemk: cannot read /root: it is a directory, not a file"]);
    fails(&node, "systemk run", 2, &["<FILE|->", "Usage: systemk run"]);
    fails(&node, "setpriv --reuid 65534 systemk run - < /root/bad.json", 2, &["spec.restartPolicy"]);
    write(&node, "fine", &once("fine", "exit 0"));
    fails(
        &node,
        "setpriv --reuid 65534 systemk run - < /root/fine.json",
        1,
        &["'systemk run' changes the machine: run it as root"],
    );
    assert_eq!(ok(&node, "find /run/systemk /var/lib/systemk | sort"), before);

    // All right, but not here: told by the agent, and the pod does not stay.
    let mut refused = polite("refused");
    refused["spec"]["containers"][0]["tty"] = json!(true);
    let refused = write(&node, "refused", &refused);
    for command in ["run --detach", "run --detach", "run", "run --detach"] {
        fails(&node, &format!("systemk {command} {refused}"), 1, &["spec.containers[0].tty: is not supported yet"]);
        assert_eq!(names(&node), [""; 0], "{command}");
    }
    // Nor does an edit into such a pod.
    let web = write(&node, "web", &polite("web"));
    ok(&node, &format!("systemk run --detach {web}"));
    let mut edited = polite("web");
    edited["spec"]["containers"][0]["tty"] = json!(true);
    let edited = write(&node, "edited", &edited);
    let told = ["the manifest is again what it was before: pod web cannot run here: spec.containers[0].tty: "];
    fails(&node, &format!("systemk run --detach {edited}"), 1, &told);
    node.wait_ready("web").unwrap();
    ok(&node, "systemk rm web");
    // A field that nobody knows is no reason not to run.
    let mut typo = once("typo", "echo ran");
    typo["spec"]["containers"][0]["imagepullpolicy"] = json!("Always");
    let typo = write(&node, "typo", &typo);
    let said = exec(&node, &format!("systemk run {typo}"));
    assert_eq!((said.code, said.stdout.as_str()), (0, "ran\n"));
    holds(
        &said.stderr,
        &["warning: Pod default/typo spec.containers[0].imagepullpolicy: is not a field that Kubernetes has"],
    );
    nothing_is_left(&node);
}

/// In the foreground it is an agent itself; what it cannot be is a replacement for one that has pods.
fn without_an_agent(systemd: Systemd) {
    let node = bare(systemd, "cli-run-alone");
    let file = write(&node, "alone", &once("alone", "echo alone; exit 3"));
    let told = "--detach leaves pods to the agent and no agent runs here (nobody holds /run/systemk/agent.lock): start one with 'systemk install'";
    fails(&node, &format!("systemk run --detach {file}"), 1, &[told]);
    let said = exec(&node, &format!("systemk run {file}"));
    assert_eq!((said.code, said.stdout.as_str()), (3, "alone\n"), "{said:?}");
    nothing_is_left(&node);

    ok(&node, "systemk install");
    let web = write(&node, "web", &polite("web"));
    ok(&node, &format!("systemk run --detach {web}"));
    node.wait_log("web", "main", "up").unwrap();
    ok(&node, "systemctl stop systemk");
    let pid = main_pid(&node, "web");
    fails(
        &node,
        &format!("systemk run {file}"),
        1,
        &["one has left its pods to go on without it (web", "'systemctl start systemk'"],
    );
    assert_eq!(main_pid(&node, "web"), pid);
    holds(&exec(&node, "systemk ps").stderr, &["no agent runs here", "nobody restarts these pods"]);
    let said = exec(&node, "systemk rm web");
    assert_eq!((said.code, said.stdout.as_str()), (0, ""));
    holds(&said.stderr, &["no agent runs here: the pods are stopped as soon as one does"]);
    ok(&node, "systemctl start systemk");
    wait_until("the pod to be gone", e2e::agent::SOON, || names(&node).is_empty().then_some(())).unwrap();
    nothing_is_left(&node);
}
