use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::fields::fixtures::pod;
use crate::fields::ports::claims;
use crate::history::{ContainerHistory, Exit};

/// `80` is a containerPort, `host80` one that the scheduler sees, `lo80` that on 127.0.0.1.
fn claim(text: &str) -> PortClaim {
    let scheduled = !text.starts_with(|c: char| c.is_ascii_digit());
    let host_ip = if text.starts_with("lo") { "127.0.0.1" } else { "0.0.0.0" };
    let port = text.trim_start_matches("host").trim_start_matches("lo").parse().unwrap();
    PortClaim { protocol: "TCP".to_owned(), port, host_ip: host_ip.to_owned(), scheduled }
}

fn claimant(name: &str, since_ms: i64, standing: Standing, ports: &[&str]) -> Claimant {
    let claims = ports.iter().map(|p| claim(p)).collect();
    Claimant { pod: format!("ns/{name}"), uid: format!("uid-{name}"), since_ms, standing, claims }
}

fn verdict(own: Claimant, others: Vec<Claimant>) -> String {
    match admit(&Claimants { own: Some(own), others }) {
        Admission::Admitted => "admitted".to_owned(),
        Admission::Waits(blocked) => format!("waits: {}", blocked.message),
        Admission::Rejected(rejection) => format!("{}: {}", rejection.reason, rejection.message),
    }
}

#[test]
fn a_taken_container_port_is_waited_for_and_a_taken_host_port_is_final() {
    use Standing::{Holds, Leaves, Wants};
    let waits = "waits: port 80/TCP is taken by pod ns/old";
    let rejected = "NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports: 80/TCP is taken by pod ns/old";
    for (mine, theirs, standing, expected) in [
        ("80", "80", Holds, waits),
        ("80", "81", Holds, "admitted"),
        ("host80", "host80", Holds, rejected),
        // The scheduler does not see such a clash: it would send the next pod here again.
        ("80", "host80", Holds, waits),
        ("host80", "80", Holds, waits),
        // It is on its way out.
        ("host80", "host80", Leaves, waits),
        ("80", "80", Leaves, waits),
        // It came first, but may still be refused.
        ("host80", "host80", Wants, waits),
        ("host80", "lo80", Holds, rejected),
    ] {
        let old = claimant("old", 1, standing, &[theirs]);
        assert_eq!(verdict(claimant("new", 2, Wants, &[mine]), vec![old]), expected, "{mine}, {theirs}, {standing:?}");
    }
}

#[test]
fn the_rejection_names_the_port_that_is_final() {
    let old = claimant("old", 1, Standing::Holds, &["80", "host81"]);
    let text = verdict(claimant("new", 2, Standing::Wants, &["80", "host81"]), vec![old]);
    assert!(text.starts_with("NodePorts: ") && text.ends_with("81/TCP is taken by pod ns/old"), "{text}");
}

#[test]
fn the_line_is_by_age_and_nobody_waits_for_one_that_waits() {
    use Standing::{Holds, Wants};
    // Same age: the name decides, whoever is looked at first.
    assert_eq!(verdict(claimant("a", 1, Wants, &["80"]), vec![claimant("b", 1, Wants, &["80"])]), "admitted");
    let text = verdict(claimant("b", 1, Wants, &["80"]), vec![claimant("a", 1, Wants, &["80"])]);
    assert_eq!(text, "waits: port 80/TCP is taken by pod ns/a");
    // `both` is older, but waits for 81: 80 is free.
    let others = || vec![claimant("both", 1, Wants, &["80", "81"]), claimant("other", 0, Holds, &["81"])];
    assert_eq!(verdict(claimant("new", 2, Wants, &["80"]), others()), "admitted");
    // One that was admitted keeps its ports, however young it is.
    let young = claimant("young", 9, Holds, &["80"]);
    assert_eq!(verdict(claimant("old", 1, Wants, &["80"]), vec![young]), "waits: port 80/TCP is taken by pod ns/young");
    let own = claimant("own", 9, Holds, &["80"]);
    assert_eq!(verdict(own, vec![claimant("old", 1, Holds, &["80"])]), "admitted");
}

#[test]
fn who_claims_what_it_says() {
    let two = "spec: {restartPolicy: POLICY, initContainers: [{name: i}], containers: [{name: a}, {name: b}]}";
    let ended = |code| ContainerHistory {
        attempt: Some(0),
        exit: Some(Exit { exit_code: code, ..Exit::default() }),
        ..ContainerHistory::default()
    };
    let runs = || ContainerHistory { attempt: Some(0), ..ContainerHistory::default() };
    type Case<'a> = (&'a str, &'a [(&'a str, ContainerHistory)], Option<Standing>);
    let cases: [Case<'_>; 8] = [
        ("Always", &[], Some(Standing::Wants)),
        ("Always", &[("i", runs())], Some(Standing::Holds)),
        ("Never", &[("a", ended(0)), ("b", runs())], Some(Standing::Holds)),
        ("Never", &[("a", ended(0)), ("b", ended(1))], None),
        ("OnFailure", &[("a", ended(0)), ("b", ended(1))], Some(Standing::Holds)),
        ("Always", &[("a", ended(0)), ("b", ended(0))], Some(Standing::Holds)),
        ("Never", &[("i", ended(1))], None),
        ("OnFailure", &[("i", ended(1))], Some(Standing::Holds)),
    ];
    for (policy, containers, expected) in cases {
        let containers: BTreeMap<_, _> = containers.iter().map(|(n, h)| ((*n).to_owned(), h.clone())).collect();
        let history = PodHistory { containers, ..PodHistory::default() };
        let pod = pod(&two.replace("POLICY", policy));
        assert_eq!(standing(&pod, &history, false), expected, "{policy} {history:?}");
        // One that stops holds what it holds to its end, and stands in no line.
        let stops = expected.filter(|s| *s != Standing::Wants).map(|_| Standing::Leaves);
        assert_eq!(standing(&pod, &history, true), stops, "{policy} {history:?}");
    }
}

/// What happens to the pods of a node, one thing after another.
#[derive(Clone, Copy, Debug)]
enum Event {
    Comes(usize),
    IsLookedAt(usize),
    IsStopped(usize),
    IsGone(usize),
}

fn event() -> impl Strategy<Value = Event> {
    (0..4u8, 0..6usize).prop_map(|(kind, at)| match kind {
        0 => Event::Comes(at),
        1 => Event::IsLookedAt(at),
        2 => Event::IsStopped(at),
        _ => Event::IsGone(at),
    })
}

/// The pods that are there, by number; None is one that was rejected.
type Node = BTreeMap<usize, Option<Claimant>>;

fn look(node: &mut Node, at: usize) {
    let Some(own) = node.get(&at).cloned().flatten() else { return };
    let others: Vec<Claimant> = node.iter().filter(|(n, _)| **n != at).filter_map(|(_, c)| c.clone()).collect();
    match admit(&Claimants { own: Some(own.clone()), others: others.clone() }) {
        Admission::Admitted if own.standing == Standing::Wants => {
            for other in others.iter().filter(|o| o.standing != Standing::Wants) {
                assert!(own.clashes(other).next().is_none(), "{own:?} beside {other:?}");
            }
            node.insert(at, Some(Claimant { standing: Standing::Holds, ..own }));
        }
        Admission::Admitted => {}
        Admission::Waits(_) => {
            let taken = others.iter().any(|other| own.clashes(other).next().is_some());
            assert!(taken, "{own:?} waits for nobody");
        }
        Admission::Rejected(_) => {
            node.insert(at, None);
        }
    }
}

proptest! {
    #[test]
    fn no_port_is_held_twice_and_none_is_waited_for_that_is_free(
        ports in prop::collection::vec(prop::collection::vec(prop::sample::select(vec!["80", "81", "host80", "lo80"]), 1..3), 6),
        events in prop::collection::vec(event(), 0..60),
    ) {
        let mut node = Node::new();
        for (now, event) in events.into_iter().enumerate() {
            let since = i64::try_from(now / 4).unwrap();
            match event {
                Event::Comes(at) => {
                    let new = || Some(claimant(&at.to_string(), since, Standing::Wants, &ports[at]));
                    node.entry(at).or_insert_with(new);
                }
                Event::IsLookedAt(at) => look(&mut node, at),
                Event::IsStopped(at) => {
                    if let Some(Some(pod)) = node.get_mut(&at).filter(|p| p.as_ref().is_some_and(|p| p.standing == Standing::Holds)) {
                        pod.standing = Standing::Leaves;
                    }
                }
                Event::IsGone(at) => {
                    node.remove(&at);
                }
            }
        }
        // Left alone, one look at each, twice, as a wake is sent to those that wait whenever somebody was admitted.
        for at in (0..6).rev().chain((0..6).rev()).chain((0..6).rev()) {
            look(&mut node, at);
        }
        let there: Vec<&Claimant> = node.values().flatten().collect();
        for waiting in there.iter().filter(|c| c.standing == Standing::Wants) {
            let held = there.iter().filter(|c| c.standing != Standing::Wants).any(|c| waiting.clashes(c).next().is_some());
            prop_assert!(held, "{waiting:?} waits for what nobody holds: {there:?}");
        }
    }
}

#[test]
fn a_pod_never_waits_for_itself() {
    let twice =
        pod("spec: {containers: [{name: a, ports: [{containerPort: 80}]}, {name: b, ports: [{containerPort: 80}]}]}");
    let own = Claimant { claims: claims(twice.spec.as_ref().unwrap()), ..claimant("p", 1, Standing::Wants, &[]) };
    assert_eq!(verdict(own, Vec::new()), "admitted");
}
