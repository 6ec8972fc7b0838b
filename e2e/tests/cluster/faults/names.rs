//! An API server behind a name: it moves, and there are two of it, of which one is cut off.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use e2e::agent::SOON;
use e2e::control_plane::Proxy;
use e2e::eventually::wait_until;
use e2e::member::{KUBECONFIG, Member, cluster, own_address};
use e2e::sandbox::Systemd;

use super::{assert_converged, assert_untouched, run};

on_both! { the_name_gets_another_address one_of_two_servers_is_cut_off }

/// Gives the name `api.test` these addresses.
fn resolve(member: &Member, addresses: &[IpAddr]) {
    let lines: String = addresses.iter().map(|address| format!("{address} api.test\n")).collect();
    member.sandbox.write_file("/etc/hosts", format!("127.0.0.1 localhost\n{lines}")).unwrap();
}

fn prepare(systemd: Systemd, what: &str) -> (Member, Proxy) {
    let member = Member::prepare(cluster().unwrap(), systemd, what, "").unwrap();
    let proxy = member.cluster.proxy(&member.name, own_address().into()).unwrap();
    member.sandbox.write_secret(KUBECONFIG, proxy.kubeconfig_by_name()).unwrap();
    (member, proxy)
}

/// At another address, and the same port.
fn twin(member: &Member, of: &Proxy) -> Proxy {
    member.cluster.proxy_at(&member.name, SocketAddr::from((own_address(), of.address().port()))).unwrap()
}

fn the_name_gets_another_address(systemd: Systemd) {
    let (member, first) = prepare(systemd, "moves");
    resolve(&member, &[first.address().ip()]);
    member.start_agent().unwrap();
    let serves = run(&member, "serves");
    let second = twin(&member, &first);
    drop(first);
    resolve(&member, &[second.address().ip()]);
    assert_converged(&member, "later");
    let beats = || second.seen().iter().any(|seen| seen.asked.is("patch leases")).then_some(());
    wait_until("a heartbeat at the new address", SOON, beats).unwrap();
    assert_untouched(&member, "serves", &serves);
}

fn one_of_two_servers_is_cut_off(systemd: Systemd) {
    let (member, first) = prepare(systemd, "two");
    let second = twin(&member, &first);
    resolve(&member, &[first.address().ip(), second.address().ip()]);
    member.start_agent().unwrap();
    let serves = run(&member, "serves");
    let watched = |proxy: &Proxy, since: Instant| !proxy.seen_since(since, "watch pods").is_empty();
    let start = first.seen().first().or(second.seen().first()).unwrap().at;
    let (mut used, mut other) = if watched(&first, start) { (&first, &second) } else { (&second, &first) };
    for round in 0..2 {
        let since = Instant::now();
        // Connections stay open, new ones are taken, and nothing is said.
        used.silence(true);
        wait_until("the other to be used", SOON, || watched(other, since).then_some(())).unwrap();
        let lost = since.elapsed();
        assert!(lost < Duration::from_secs(20), "15 s, and what a busy machine adds: {lost:?}");
        assert_converged(&member, &format!("later-{round}"));
        let beats = || (!other.seen_since(since, "patch leases").is_empty()).then_some(());
        wait_until("a heartbeat there", SOON, beats).unwrap();
        used.silence(false);
        (used, other) = (other, used);
    }
    assert_untouched(&member, "serves", &serves);
}
