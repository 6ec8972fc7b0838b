//! An API server that asks to be left alone: nobody comes before the time, and the lease is renewed all the while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use e2e::agent::SOON;
use e2e::control_plane::{Fault, Proxy, Seen};
use e2e::eventually::wait_until;
use e2e::member::{Member, cluster};
use e2e::sandbox::Systemd;

use super::{assert_converged, counted, gaps, kill_program, renewals, run, wait_seen};

on_both! { a_busy_server_is_left_alone_and_the_lease_comes_first }

/// How long it asks to be left alone, in seconds.
const WAIT: u32 = 3;

/// All that a node asks, but its heartbeats.
const ASKED: [&str; 5] =
    ["watch pods", "watch configmaps", "patch pods/status", "create events", "create serviceaccounts/token"];

/// The requests by what they are about: from which version on is not.
fn by_object(seen: Vec<Seen>) -> BTreeMap<String, Vec<Seen>> {
    let mut objects: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    for seen in seen {
        let (path, query) = seen.asked.uri.split_once('?').unwrap_or((&seen.asked.uri, ""));
        let selector = query.split('&').find(|word| word.starts_with("fieldSelector=")).unwrap_or_default();
        objects.entry(format!("{} {path} {selector}", seen.asked.what)).or_default().push(seen);
    }
    objects
}

/// Nobody came again before the time that each refusal named.
#[track_caller]
fn assert_left_alone(proxy: &Proxy, since: Instant) {
    for (object, seen) in by_object(proxy.seen_since(since, "*")) {
        for pair in seen.windows(2).filter(|pair| pair[0].code == Some(429)) {
            let gap = pair[1].at - pair[0].at;
            assert!(gap >= Duration::from_secs(WAIT.into()), "{object}: again after {gap:?}");
        }
    }
}

fn a_busy_server_is_left_alone_and_the_lease_comes_first(systemd: Systemd) {
    let member = Member::prepare(cluster().unwrap(), systemd, "busy", "").unwrap();
    let proxy = member.behind_proxy().unwrap();
    let start = Instant::now();
    // From the first request on.
    proxy.inject_times(1, "create nodes", Fault::Busy(WAIT));
    proxy.inject_times(1, "create nodes", Fault::Refuse(429, Some(WAIT)));
    member.start_agent().unwrap();
    wait_seen(&proxy, start, "create nodes", 3);
    assert_left_alone(&proxy, start);
    run(&member, "serves");

    let since = Instant::now();
    for (number, what) in ASKED.iter().enumerate() {
        // As a request is refused that the server has looked at, and as one that it has not.
        let fault = if number % 2 == 0 { Fault::Busy(WAIT) } else { Fault::Refuse(429, Some(WAIT)) };
        proxy.inject(what, fault);
    }
    // A token and a ConfigMap that are not known yet: the watch that goes on tells of the pod, the rest is refused.
    let mut spec = counted("waits");
    spec["automountServiceAccountToken"] = true.into();
    spec["containers"][0]["envFrom"][0]["configMapRef"]["name"] = "other".into();
    member.run("waits", spec).unwrap();
    // Something to tell, as a status and as an event.
    kill_program(&member, "serves");
    let refused = || {
        let told = ["patch pods/status", "create events", "create serviceaccounts/token", "watch configmaps"];
        told.iter().all(|what| proxy.seen_since(since, what).len() >= 3).then_some(())
    };
    wait_until("each to be refused", SOON, refused).unwrap_or_else(|e| panic!("{e:#}: {:?}", proxy.counts(since)));
    let watches = Instant::now();
    proxy.reset();
    wait_seen(&proxy, watches, "watch pods", 3);
    // Through two of its periods.
    wait_until("the lease to be renewed", SOON, || (renewals(&proxy, since).len() >= 3).then_some(())).unwrap();
    assert_left_alone(&proxy, since);
    let beats = gaps(&renewals(&proxy, since));
    assert!(beats.iter().all(|gap| *gap < Duration::from_secs(12)), "{beats:?}");

    proxy.clear();
    member.wait_running("waits").unwrap();
    let again = |status: &serde_json::Value| status["containerStatuses"][0]["restartCount"] == 1;
    member.wait_pod("serves", "its restart", again).unwrap();
    assert_converged(&member, "later");
}
