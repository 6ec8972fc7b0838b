//! `systemk run` in the foreground: whatever ends the person's interest ends the pods, with their grace.

use std::time::{Duration, Instant};

use e2e::agent::{Node, SOON};
use e2e::eventually::wait_until;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::run::nothing_is_left;
use super::support::*;

on_both! { a_signal_stops_and_removes_the_pods, a_reader_that_goes_away_stops_them, asked_twice_kills }

/// A pod and a Secret that is for it alone.
fn with_secret(name: &str) -> Value {
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"a": "hunter2"}});
    json!({"apiVersion": "v1", "kind": "List", "items": [secret, polite(name)]})
}

fn a_signal_stops_and_removes_the_pods(systemd: Systemd) {
    let node = installed(systemd, "cli-run-signal");
    let bystander = write(&node, "bystander", &polite("bystander"));
    ok(&node, &format!("systemk run --detach {bystander}"));
    for (name, signal, code) in [("int", "INT", 130), ("term", "TERM", 143), ("hup", "HUP", 129)] {
        let file = write(&node, name, &with_secret(name));
        let job = start(&node, &format!("systemk run {file}"));
        job.wait_stdout("up\n");
        assert!(names(&node).contains(&name.to_owned()));
        fails(
            &node,
            &format!("systemk run {file}"),
            1,
            &[&format!("another 'systemk run' has the pod default/{name} running")],
        );
        job.signal(&node, signal);
        let (ended, stdout, stderr) = job.ended();
        assert_eq!((ended, stdout.as_str()), (code, "up\nbye\n"), "{stderr}");
        holds(
            &stderr,
            &[
                "stopping (once more kills at once)\n",
                &format!("{name}: Stopping container main, systemk.default.{name}.main_"),
            ],
        );
        // All of it was gone when the command ended.
        assert_eq!(names(&node), ["bystander"]);
        assert_eq!(ok(&node, "find /run/systemk/manifests -mindepth 1"), "");
    }
    ok(&node, "systemk rm bystander");
    nothing_is_left(&node);
}

fn gone(node: &Node, name: &str) {
    let gone = || names(node).is_empty().then_some(());
    wait_until("the pod to be gone", SOON, gone).unwrap_or_else(|e| panic!("{name}: {e}"));
    nothing_is_left(node);
}

fn a_reader_that_goes_away_stops_them(systemd: Systemd) {
    let node = installed(systemd, "cli-run-reader");
    let chatty =
        json!({"containers": [shell("main", "trap 'exit 0' TERM; while :; do echo line; sleep 0.1 & wait $!; done")]});
    let chatty = write(&node, "chatty", &pod("chatty", chatty));
    let said = ok(&node, &format!("systemk run {chatty} 2>/dev/null | head -2; echo ${{PIPESTATUS[*]}}"));
    assert_eq!(said, "line\nline\n141 0\n");
    nothing_is_left(&node);

    // Also where the pod has nothing more to say.
    let web = write(&node, "web", &with_secret("web"));
    assert_eq!(ok(&node, &format!("systemk run {web} 2>/dev/null | head -1; echo ${{PIPESTATUS[*]}}")), "up\n141 0\n");
    nothing_is_left(&node);

    let terminal = start(&node, &format!("script -qefc 'systemk run {web}' /root/terminal"));
    let shown = || node.sandbox.read_file("/root/terminal").ok().filter(|text| text.contains("up\r\n"));
    wait_until("the pod's line on the terminal", SOON, shown).unwrap();
    terminal.signal(&node, "KILL");
    gone(&node, "web");

    // Killed, it can remove nothing; whoever runs the same again takes the pod over, and `rm` removes it.
    let job = start(&node, &format!("systemk run {web}"));
    job.wait_stdout("up\n");
    job.signal(&node, "KILL");
    job.ended();
    let pid = main_pid(&node, "web");
    let job = start(&node, &format!("systemk run {web}"));
    job.wait_stderr("web: ");
    assert_eq!(main_pid(&node, "web"), pid);
    job.signal(&node, "KILL");
    job.ended();
    assert_eq!(ok(&node, "systemk rm web"), "pod web is gone\n");
    nothing_is_left(&node);
}

fn asked_twice_kills(systemd: Systemd) {
    let node = installed(systemd, "cli-run-twice");
    let deaf = shell("main", "trap 'echo no' TERM; echo up; while :; do sleep 60 & wait $!; done");
    let deaf = write(&node, "deaf", &pod("deaf", json!({"terminationGracePeriodSeconds": 600, "containers": [deaf]})));
    let job = start(&node, &format!("systemk run {deaf}"));
    job.wait_stdout("up\n");
    job.signal(&node, "INT");
    job.wait_stdout("no\n");
    let begun = Instant::now();
    job.signal(&node, "INT");
    let (code, _, stderr) = job.ended();
    assert_eq!(code, 130, "{stderr}");
    holds(&stderr, &["stopping (once more kills at once)\n", "killing what is left\n"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    gone(&node, "deaf");
}
