//! Answers that are none: errors, connections that break in the middle, texts that end too soon or do not end.

use std::time::{Duration, Instant};

use e2e::agent::SOON;
use e2e::control_plane::{Fault, Proxy};
use e2e::eventually::wait_until;
use e2e::sandbox::Systemd;
use serde_json::Value;

use super::{assert_converged, assert_untouched, behind, gaps, kill_program, renewals, run, wait_seen};

on_both! { errors_and_answers_that_break_off answers_that_do_not_end }

/// The next of these requests are met with these faults, one each.
fn meet(proxy: &Proxy, what: &str, faults: &[Fault]) {
    // The newest rule counts.
    faults.iter().rev().for_each(|fault| proxy.inject_times(1, what, fault.clone()));
}

fn errors_and_answers_that_break_off(systemd: Systemd) {
    let (proxy, member) = behind(systemd, "broken");
    let stays = run(&member, "stays");
    run(&member, "fails");
    let since = Instant::now();
    // 50 bytes are not even the beginning of the first object.
    let (internal, reset, cut, short) =
        (Fault::Refuse(500, None), Fault::Reset, Fault::ResetAfter(50), Fault::Truncate(50));
    // First as it goes on, then as it begins with what there is.
    let goes_on = [Fault::Refuse(503, None), reset.clone(), Fault::Refuse(410, None)];
    meet(&proxy, "watch pods", &[&goes_on[..], &[internal.clone(), cut.clone(), short.clone()]].concat());
    meet(&proxy, "patch pods/status", &[internal, reset, cut.clone(), short.clone()]);
    proxy.reset();
    kill_program(&member, "fails");
    let tries = wait_seen(&proxy, since, "watch pods", 7);
    let waits = gaps(&tries[..7]);
    // Longer each time, however it failed.
    assert!(waits[0] >= Duration::from_millis(80) && waits[4..].iter().any(|wait| *wait > 4 * waits[0]), "{waits:?}");
    let again = |status: &Value| status["containerStatuses"][0]["restartCount"] == 1;
    member.wait_pod("fails", "its restart", again).unwrap();
    assert_converged(&member, "later");

    // A watch that breaks off in the middle of what it tells.
    for (round, fault) in [cut, short].into_iter().enumerate() {
        let since = Instant::now();
        proxy.inject_times(1, "watch pods", fault);
        proxy.reset();
        wait_seen(&proxy, since, "watch pods", 1);
        assert_converged(&member, &format!("later-{round}"));
        wait_seen(&proxy, since, "watch pods", 2);
    }
    assert_untouched(&member, "stays", &stays);
    let log = member.sandbox.sh("journalctl -u systemk --no-pager -o cat | grep -c panicked || true").unwrap();
    assert_eq!(log.trim(), "0");
}

/// What is asked has an end: what there is after 60 s, the beginning of a watch after 30 s.
fn answers_that_do_not_end(systemd: Systemd) {
    let (proxy, member) = behind(systemd, "endless");
    let stays = run(&member, "stays");
    run(&member, "fails");
    let since = Instant::now();
    meet(&proxy, "watch pods", &[Fault::Refuse(410, None), Fault::Trickle(Duration::from_millis(100))]);
    proxy.inject_times(1, "watch services", Fault::Stall);
    proxy.inject_times(1, "patch pods/status", Fault::Stall);
    proxy.reset();
    kill_program(&member, "fails");
    wait_seen(&proxy, since, "watch pods", 2);
    // While the one hangs, nothing else does.
    wait_until("two renewals", SOON, || (renewals(&proxy, since).len() >= 2).then_some(())).unwrap();
    let (pods, services) = ("watch pods", "watch services");
    let both =
        || (proxy.seen_since(since, pods).len() >= 3 && proxy.seen_since(since, services).len() >= 2).then_some(());
    wait_until("both watches to be asked for again", 3 * SOON, both)
        .unwrap_or_else(|error| panic!("{error:#}: {:?}", proxy.counts(since)));
    let again = |status: &Value| status["containerStatuses"][0]["restartCount"] == 1;
    member.wait_pod("fails", "its restart", again).unwrap();
    assert_converged(&member, "later");
    assert_untouched(&member, "stays", &stays);
}
