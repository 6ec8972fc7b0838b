//! `systemk run` in the foreground: whatever ends it, what it brought goes.

use e2e::agent::{Node, SOON};
use e2e::sandbox::{Running, Systemd};

use super::support::{sleeper, starts, wait_nothing_left, wait_sh};

const RUN: [&str; 5] = ["env", "SYSTEMK_NODE_IP=10.0.0.1", "systemk", "run", "/root/fore.yaml"];

/// A run of one pod that has begun, with its journal being read.
fn run(node: &Node) -> Running {
    node.sandbox.write_file("/root/fore.yaml", sleeper("fore")).unwrap();
    let before = starts(node, "fore", "main");
    let running = node.sandbox.spawn(&RUN).unwrap();
    let begun = format!("[ \"$(wc -l < /var/lib/count/fore.main)\" = {} ]", before + 1);
    wait_sh(node, "the pod to run", &begun);
    wait_sh(node, "its output to be followed", "pgrep -x journalctl");
    running
}

fn ends_with(node: &Node, mut running: Running, code: i32, word: &str) {
    let status = running.wait(SOON).unwrap();
    let said = running.stderr().unwrap();
    assert_eq!(status.and_then(|status| status.code()), Some(code), "{said}");
    assert!(said.contains(word), "{said}");
    wait_nothing_left(node, "bystander");
    wait_sh(node, "nothing of the pod to run", "! pgrep -x sleep");
    assert_eq!(node.sandbox.sh("ls /run/systemk/manifests").unwrap(), "");
}

/// With an agent of its own, and with the machine's.
fn a_run_that_ends_leaves_nothing(systemd: Systemd) {
    let node = Node::without_agent(systemd, "run").unwrap();
    for own in [true, false] {
        if !own {
            node.start_agent().unwrap();
        }
        let running = run(&node);
        node.sandbox.sh("pkill -INT -x -f 'systemk run /root/fore.yaml'").unwrap();
        ends_with(&node, running, 130, "stopping");
        // The journal cannot be read any more.
        let running = run(&node);
        node.sandbox.sh("pkill -KILL -x journalctl").unwrap();
        ends_with(&node, running, 1, "journalctl: signal: 9 (SIGKILL)");
        // Nor can it from the start.
        node.sandbox.write_file("/usr/local/bin/journalctl", "#!/bin/sh\necho no journal >&2; exit 1\n").unwrap();
        node.sandbox.sh("chmod +x /usr/local/bin/journalctl").unwrap();
        let running = node.sandbox.spawn(&RUN).unwrap();
        ends_with(&node, running, 1, "no journal: stopping the pods");
        node.sandbox.sh("rm /usr/local/bin/journalctl").unwrap();
    }
}

on_both!(a_run_that_ends_leaves_nothing);
