//! systemd reloads, executes itself anew, loses its bus or its journal: pods run on and are still watched.

use e2e::agent::Node;
use e2e::sandbox::Systemd;

use super::support::{kill_agent, life, sleeper, starts, wait_nothing_left, wait_restarted, wait_sh};

/// Runs three pods, does `fault`, and checks that none of them noticed and that all that happens is still seen.
fn nothing_restarts(systemd: Systemd, what: &str, fault: &str) {
    let node = Node::start(systemd, what).unwrap();
    let names = ["one", "two", "three"];
    for name in names {
        node.apply(&format!("{name}.yaml"), &sleeper(name)).unwrap();
    }
    let lives = |node: &Node| names.map(|name| life(node, name, "main"));
    names.iter().for_each(|name| drop(node.wait_ready(name).unwrap()));
    let before = lives(&node);

    node.sandbox.sh(fault).unwrap();
    assert_eq!(before, lives(&node));
    // A pod that comes, an end that is seen, a pod that goes: each needs signals or is late by a minute.
    node.apply("late.yaml", &sleeper("late")).unwrap();
    node.wait_ready("late").unwrap();
    let unit = node.unit("late", "main").unwrap();
    node.sandbox.run(&["systemctl", "kill", "--signal=KILL", &unit]).unwrap();
    let status = wait_restarted(&node, "late", "main", 1);
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 137, "{status}");
    node.remove("late.yaml").unwrap();
    wait_nothing_left(&node, "one|two|three");
    assert_eq!(before, lives(&node));
    kill_agent(&node);
    node.wait_ready("one").unwrap();
    assert_eq!(before, lives(&node));
    for name in names {
        assert_eq!(starts(&node, name, "main"), 1);
        node.remove(&format!("{name}.yaml")).unwrap();
    }
    wait_nothing_left(&node, "bystander");
    wait_sh(&node, "the agent to be up", "systemctl is-active systemk");
}

/// Ten a second for ten seconds: the rate is what is tried.
fn a_storm_of_reloads(systemd: Systemd) {
    nothing_restarts(systemd, "reload", "for i in {1..100}; do systemctl daemon-reload & sleep 0.1; done; wait");
}

fn systemd_executes_itself_anew(systemd: Systemd) {
    nothing_restarts(systemd, "reexec", "systemctl daemon-reexec");
}

fn the_bus_is_killed(systemd: Systemd) {
    nothing_restarts(
        systemd,
        "bus",
        "systemctl kill --signal=KILL dbus.service; systemctl start dbus.socket dbus.service",
    );
}

fn the_journal_is_killed_and_restarted(systemd: Systemd) {
    let fault = "systemctl kill --signal=KILL systemd-journald; systemctl restart systemd-journald";
    nothing_restarts(systemd, "journal", fault);
}

on_both!(a_storm_of_reloads, systemd_executes_itself_anew, the_bus_is_killed, the_journal_is_killed_and_restarted,);
