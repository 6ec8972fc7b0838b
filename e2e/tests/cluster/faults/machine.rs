//! The machine under the agent: a bus that says nothing, and a sleep.

use std::time::{Duration, Instant};

use e2e::agent::SOON;
use e2e::eventually::wait_until;
use e2e::member::Member;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::{assert_converged, assert_untouched, behind, renewals, run};
use crate::robust::load::{STARVED, hog};

on_both! {
    a_silent_bus_makes_the_node_unready_and_touches_nothing
    a_machine_that_slept_goes_on
    a_starved_agent_keeps_its_lease
}

fn ready(member: &Member) -> Value {
    let node = member.kubectl().find(&["node", &member.name]).unwrap().unwrap_or_default();
    let all = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|condition| condition["type"] == "Ready").unwrap_or_default()
}

#[track_caller]
fn wait_ready(member: &Member, status: &str, within: Duration) -> Value {
    let is = || Some(ready(member)).filter(|ready| ready["status"] == status);
    wait_until(&format!("Ready={status}"), within, is).unwrap_or_else(|error| {
        let log = member.sandbox.sh("journalctl -u systemk -n 30 --no-pager -o cat").unwrap_or_default();
        panic!("{error:#}: {:#}\n{log}", ready(member))
    })
}

fn a_silent_bus_makes_the_node_unready_and_touches_nothing(systemd: Systemd) {
    let (_proxy, member) = behind(systemd, "silent-bus");
    let serves = run(&member, "serves");
    wait_ready(&member, "True", SOON);
    member.sandbox.sh("pkill -STOP -x dbus-daemon").unwrap();
    let told = wait_ready(&member, "False", Duration::from_secs(60));
    assert_eq!(told["reason"], json!("KubeletNotReady"), "{told:#}");
    assert_eq!(told["message"], json!("systemd does not answer on D-Bus"), "{told:#}");
    member.sandbox.sh("pkill -CONT -x dbus-daemon").unwrap();
    wait_ready(&member, "True", SOON);
    assert_converged(&member, "later");
    assert_untouched(&member, "serves", &serves);
}

/// Longer than the lease lasts.
fn a_machine_that_slept_goes_on(systemd: Systemd) {
    let (proxy, member) = behind(systemd, "sleeps");
    let serves = run(&member, "serves");
    wait_ready(&member, "True", SOON);
    let slept = Instant::now();
    member.sandbox.freeze(true).unwrap();
    let over = Duration::from_secs(42);
    wait_until("the lease to run out", 2 * over, || (slept.elapsed() > over).then_some(())).unwrap();
    let woke = Instant::now();
    member.sandbox.freeze(false).unwrap();
    let renewed = || renewals(&proxy, woke).into_iter().next();
    let renewed = wait_until("the lease to be renewed", SOON, renewed).unwrap();
    // And what a busy machine adds.
    assert!(renewed.at - woke < Duration::from_secs(12), "{:?}", renewed.at - woke);
    assert!(!proxy.seen().iter().any(|seen| seen.at > slept && seen.at < woke - Duration::from_secs(20)), "it slept");
    wait_ready(&member, "True", SOON);
    assert_untouched(&member, "serves", &serves);
    assert_converged(&member, "later");
}

/// With a dozen loops on the machine, each of which outweighs the agent, and pods to start.
fn a_starved_agent_keeps_its_lease(systemd: Systemd) {
    /// Controllers give a node up that they have not heard of for so long (`--node-monitor-grace-period` is 50 s).
    const PATIENCE: Duration = Duration::from_secs(40);
    let (proxy, member) = behind(systemd, "starved");
    run(&member, "serves");
    member.sandbox.sh(STARVED).unwrap();
    member.sandbox.run(&["systemctl", "restart", "systemk"]).unwrap();
    let since = Instant::now();
    let mut hogs = hog(&member.node);
    for number in 0..5 {
        member.run(&format!("pod-{number}"), super::counted(&format!("pod-{number}"))).unwrap();
    }
    let last = || renewals(&proxy, since).last().map_or(since, |seen| seen.at);
    let watched = Duration::from_secs(45);
    wait_until("its time", 2 * watched, || {
        assert!(last().elapsed() < PATIENCE, "no renewal for {:?}", last().elapsed());
        (since.elapsed() > watched).then_some(())
    })
    .unwrap();
    hogs.kill().unwrap();
    (0..5).for_each(|number| drop(member.wait_running(&format!("pod-{number}")).unwrap()));
    assert_eq!(ready(&member)["status"], "True");
}
