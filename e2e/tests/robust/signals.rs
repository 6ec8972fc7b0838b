//! Units change and the agent does not hear of it: all is as it should soon after, and nothing is done twice.

use std::time::Duration;

use e2e::agent::Node;
use e2e::eventually::wait_until;
use e2e::sandbox::Systemd;
use serde_json::Value;

use super::lossy_bus::{ADDRESS, LossyBus};
use super::support::{
    agent_log, agent_pid, container, forget_starts, life, pod, shell, sleeper, starts, wait_nothing_left, wait_sh,
};

/// Two pods that end when `/count/go` is there, one of them to be restarted, and one that stays.
fn run(node: &Node) {
    let end = "until [ -e /count/go ]; do sleep 0.05; done\nexit 7";
    node.apply("never.yaml", &pod("never", "Never", &[shell("never", "main", end)]).to_string()).unwrap();
    let again = format!("[ $(wc -l < /count/again.main) = 1 ] || exec sleep infinity\n{end}");
    node.apply("again.yaml", &pod("again", "Always", &[shell("again", "main", &again)]).to_string()).unwrap();
    node.apply("stays.yaml", &sleeper("stays")).unwrap();
    for name in ["never", "again", "stays"] {
        node.wait_ready(name).unwrap();
    }
}

/// Lets the two end, and waits until systemd has seen that.
fn end(node: &Node) {
    let units = ["never", "again"].map(|name| node.unit(name, "main").unwrap()).join(" ");
    node.sandbox.sh("touch /var/lib/count/go").unwrap();
    wait_sh(node, "the containers to end", &format!("! systemctl is-active -q {units}"));
}

/// Waits until the reports say what happened, and checks that it happened once.
fn wait_known(node: &Node, within: Duration) {
    let known = || {
        let status = |name| Some(node.report(name)?["pod"]["status"].clone());
        let (never, again): (Value, Value) = (status("never")?, status("again")?);
        let ended = container(&never, "main")["state"]["terminated"]["exitCode"] == 7;
        let main = container(&again, "main");
        let last = main["lastState"]["terminated"]["exitCode"] == 7;
        let runs = main["state"]["running"].is_object() && main["ready"] == true;
        (ended && never["phase"] == "Failed" && last && runs && main["restartCount"] == 1).then_some(())
    };
    let found = wait_until("both ends to be known", within, known);
    found.unwrap_or_else(|e| panic!("{e}: {:#?}\n{}", node.reports(), agent_log(node)));
    assert_eq!((starts(node, "never", "main"), starts(node, "again", "main")), (1, 2));
}

fn finish(node: &Node) {
    for name in ["never", "again", "stays"] {
        node.remove(&format!("{name}.yaml")).unwrap();
        forget_starts(node, name);
    }
    node.sandbox.sh("rm /var/lib/count/go").unwrap();
    wait_nothing_left(node, "bystander");
}

/// What was said while it was deaf and cut off is not said again.
fn a_stopped_agent_that_is_cut_off_catches_up(systemd: Systemd) {
    let node = Node::start(systemd, "deaf").unwrap();
    run(&node);
    let (agent, stays) = (agent_pid(&node), life(&node, "stays", "main"));
    node.sandbox.sh("systemctl kill --signal=STOP --kill-whom=main systemk").unwrap();
    // First only deaf: the bus keeps what it has for the agent, and loses it when it ends.
    end(&node);
    node.sandbox.sh("systemctl kill --signal=KILL dbus.service; systemctl start dbus.socket dbus.service").unwrap();
    node.sandbox.sh(&format!("kill -CONT {agent}")).unwrap();
    wait_known(&node, Duration::from_secs(30));
    assert_eq!((agent, stays), (agent_pid(&node), life(&node, "stays", "main")));
    finish(&node);
}

/// Nothing tells the agent that it missed anything: within a minute it compares.
fn signals_that_are_lost_unnoticed_are_made_up_for(systemd: Systemd) {
    let node = Node::without_agent(systemd, "lossy").unwrap();
    let bus = LossyBus::start(&node.sandbox);
    node.sandbox.write_file("/etc/systemk.env", format!("DBUS_SYSTEM_BUS_ADDRESS={ADDRESS}\n")).unwrap();
    node.start_agent().unwrap();
    run(&node);
    let (agent, stays) = (agent_pid(&node), life(&node, "stays", "main"));
    bus.lose(true);
    end(&node);
    // A start of which nothing is heard but that it was accepted.
    node.apply("fresh.yaml", &sleeper("fresh")).unwrap();
    wait_sh(&node, "the new pod to run", "[ -s /var/lib/count/fresh.main ]");
    assert!(bus.lost() > 0);
    bus.lose(false);

    wait_known(&node, Duration::from_secs(100));
    let ready = || {
        let status = &node.report("fresh")?["pod"]["status"];
        (container(status, "main")["ready"] == true).then_some(())
    };
    wait_until("the new pod to be known", Duration::from_secs(100), ready).unwrap();
    node.sandbox.sh("journalctl -u systemk -o cat | grep -q 'a signal was missed'").unwrap();
    assert_eq!((agent, stays), (agent_pid(&node), life(&node, "stays", "main")));
    assert_eq!(starts(&node, "fresh", "main"), 1);
    node.remove("fresh.yaml").unwrap();
    finish(&node);
}

on_both!(a_stopped_agent_that_is_cut_off_catches_up, signals_that_are_lost_unnoticed_are_made_up_for);
