//! A certificate that is replaced on disk, as a kubelet's is: the agent goes on with the new one.

use std::time::{Duration, Instant, SystemTime};

use e2e::agent::SOON;
use e2e::control_plane::{Identity, Proxy, fingerprint};
use e2e::eventually::wait_until;
use e2e::member::{KUBECONFIG, Member, cluster};
use e2e::sandbox::Systemd;

use super::{assert_converged, assert_untouched, run};

on_both! { a_rotated_certificate_is_followed }

const CURRENT: &str = "/etc/systemk/pki/current.pem";

/// The proxy's kubeconfig with a certificate from a file, as kubelet.conf names it.
fn with_file(proxy: &Proxy) -> String {
    let embedded = proxy.kubeconfig();
    let line = |line: &str| match line.trim_start().split_once(':') {
        Some(("client-certificate-data", _)) => "    client-certificate: pki/current.pem".to_owned(),
        Some(("client-key-data", _)) => "    client-key: pki/current.pem".to_owned(),
        _ => line.to_owned(),
    };
    embedded.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Replaces a file as those do who rotate certificates.
fn replace(member: &Member, file: &str, text: &str) {
    member.sandbox.write_file(format!("{file}.new"), text).unwrap();
    member.sandbox.run(&["mv", &format!("{file}.new"), file]).unwrap();
}

/// Waits until the heartbeat, and what is told of a pod, comes with that certificate.
#[track_caller]
fn wait_used(proxy: &Proxy, since: Instant, certificate: &str) {
    let used = || {
        let beats = proxy.seen_since(since, "patch leases");
        beats.iter().any(|seen| seen.certificate == certificate).then_some(())
    };
    wait_until("the new certificate to be used", SOON, used).unwrap();
}

fn a_rotated_certificate_is_followed(systemd: Systemd) {
    let member = Member::prepare(cluster().unwrap(), systemd, "rotated", "").unwrap();
    let proxy = member.behind_proxy().unwrap();
    let node = Identity::node(&member.name);
    // Long enough to get away from it.
    let lasts = Duration::from_secs(45);
    let (first, until) = (member.cluster.certificate(&node.clone().lasting(lasts)).unwrap(), SystemTime::now() + lasts);
    member.sandbox.write_file(CURRENT, &first).unwrap();
    member.sandbox.write_secret(KUBECONFIG, with_file(&proxy)).unwrap();
    let start = Instant::now();
    member.start_agent().unwrap();
    let serves = run(&member, "serves");
    let first = fingerprint(&first).unwrap();
    assert!(proxy.seen().iter().all(|seen| seen.certificate == first));

    let second = member.cluster.certificate(&node).unwrap();
    replace(&member, CURRENT, &second);
    let second = fingerprint(&second).unwrap();
    wait_used(&proxy, start, &second);
    let since = Instant::now();
    run(&member, "later");
    let told = proxy.seen_since(since, "patch pods/status");
    assert!(!told.is_empty() && told.iter().all(|seen| seen.certificate == second), "{told:#?}");

    // A kubeconfig that has it in it is written anew as a whole.
    replace(&member, KUBECONFIG, &proxy.kubeconfig());
    let changed = || {
        let last = proxy.seen_since(since, "patch leases").into_iter().last()?;
        (last.certificate != second).then_some(last.certificate)
    };
    let third = wait_until("the third certificate", SOON, changed).unwrap();
    assert_ne!(third, first);

    wait_until("the first to expire", 2 * lasts, || (SystemTime::now() > until).then_some(())).unwrap();
    proxy.reset();
    assert_converged(&member, "last");
    assert_untouched(&member, "serves", &serves);
    assert!(proxy.seen().iter().all(|seen| seen.code != Some(401)));
}
