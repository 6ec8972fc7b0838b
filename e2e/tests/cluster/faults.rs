//! Faults between a node and its API server, made by a proxy: what users see stays true, what runs is not touched, and what was
//! missed is made up for.

mod busy;
mod conflicts;
mod credentials;
mod expired;
mod forced;
mod machine;
mod names;
mod stale;
mod unreadable;

use std::time::{Duration, Instant};

use e2e::agent::SOON;
use e2e::control_plane::{Proxy, Seen};
use e2e::eventually::wait_until;
use e2e::member::{Member, cluster};
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::shell;

/// A node behind a proxy, with an agent.
fn behind(systemd: Systemd, what: &str) -> (Proxy, Member) {
    let member = Member::prepare(cluster().unwrap(), systemd, what, "").unwrap();
    let proxy = member.behind_proxy().unwrap();
    member.start_agent().unwrap();
    (proxy, member)
}

/// A pod that writes down each of its starts, and has an object to watch: a ConfigMap `settings`, if there is one.
fn counted(name: &str) -> Value {
    let mut main = shell("main", &format!("echo start >> /count/{name}; sleep infinity & wait"));
    main["volumeMounts"] = json!([{"name": "count", "mountPath": "/count"}]);
    main["envFrom"] = json!([{"configMapRef": {"name": "settings", "optional": true}}]);
    let volume = json!({"name": "count", "hostPath": {"path": "/mnt/count", "type": "DirectoryOrCreate"}});
    json!({
        "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 2,
        "volumes": [volume], "containers": [main],
    })
}

fn starts(member: &Member, name: &str) -> usize {
    member.sandbox.sh(&format!("cat /mnt/count/{name} 2>/dev/null || true")).unwrap().lines().count()
}

/// Makes such a pod and waits until it runs.
fn run(member: &Member, name: &str) -> Value {
    member.run(name, counted(name)).unwrap();
    member.wait_running(name).unwrap()
}

/// Which program runs, and after how many restarts, by the API server's word.
fn life(pod: &Value) -> (Value, Value) {
    let container = &pod["status"]["containerStatuses"][0];
    (container["containerID"].clone(), container["restartCount"].clone())
}

/// Nobody has touched it.
#[track_caller]
fn assert_untouched(member: &Member, name: &str, before: &Value) {
    let now = member.wait_running(name).unwrap();
    assert_eq!((life(&now), starts(member, name)), (life(before), 1), "{name}");
}

/// Waits until the proxy has seen so many such requests since a moment; gives them.
#[track_caller]
fn wait_seen(proxy: &Proxy, since: Instant, what: &str, count: usize) -> Vec<Seen> {
    let seen = || Some(proxy.seen_since(since, what)).filter(|seen| seen.len() >= count);
    wait_until(&format!("{count} times {what}"), SOON, seen)
        .unwrap_or_else(|error| panic!("{error:#}: {:?}", proxy.counts(since)))
}

/// Renewals of the Lease that the API server has taken since a moment.
fn renewals(proxy: &Proxy, since: Instant) -> Vec<Seen> {
    proxy.seen_since(since, "patch leases").into_iter().filter(|seen| seen.code == Some(200)).collect()
}

/// The time between each of them and the next.
fn gaps(seen: &[Seen]) -> Vec<Duration> {
    seen.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

/// The agent is told of a change by the API server and tells it of one: all ways are open.
#[track_caller]
fn assert_converged(member: &Member, name: &str) {
    run(member, name);
    assert_eq!(starts(member, name), 1, "{name}");
}

fn kill_program(member: &Member, name: &str) {
    let unit = member.unit(name, "main").unwrap();
    member.sandbox.run(&["systemctl", "kill", "-s", "KILL", &unit]).unwrap();
}
