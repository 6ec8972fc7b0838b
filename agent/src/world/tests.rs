use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use plan::admission::PortHistory;

use super::*;

fn named(name: &str) -> Pod {
    Pod { metadata: ObjectMeta { name: Some(name.to_owned()), ..Default::default() }, ..Default::default() }
}

fn snapshot(pods: &[(&str, &str)]) -> Snapshot {
    let pods = pods.iter().map(|(uid, name)| ((*uid).to_owned(), (named(name), PathBuf::from("f.yaml"))));
    Snapshot { pods: pods.collect(), ..Snapshot::default() }
}

#[test]
fn an_edited_pod_takes_over_the_place_of_the_one_before_it() {
    let mut world = World::default();
    world.take_snapshot(snapshot(&[("1", "web")]), 100);
    assert_eq!(world.entries["1"].since_ms, 100);
    // As its history has it from before a restart of the agent.
    let ports = PortHistory { since_ms: 7, held: true, ..PortHistory::default() };
    let history = PodHistory { ports: Some(ports), ..PodHistory::default() };
    world.entries.get_mut("1").unwrap().history = Some(history);
    world.take_snapshot(snapshot(&[("2", "web"), ("3", "new")]), 200);
    assert_eq!((world.entries["2"].since_ms, world.entries["3"].since_ms), (7, 200));
    // Under the same uid as well, when it is put back while it stops.
    world.take_snapshot(snapshot(&[("1", "web")]), 300);
    world.forget("1");
    assert_eq!(world.entries["1"].since_ms, 7);
}

#[test]
fn those_who_wait_for_ports_hear_of_every_change_once() {
    let mut world = World::default();
    world.take_snapshot(snapshot(&[("1", "a"), ("2", "b"), ("3", "c")]), 100);
    assert_eq!(world.settle_ports("2", Ports::Waits), Vec::<String>::new());
    assert_eq!(world.settle_ports("1", Ports::Held), ["2"]);
    assert_eq!(world.settle_ports("1", Ports::Held), Vec::<String>::new());
    assert_eq!(world.settle_ports("1", Ports::Free), ["2"]);
    assert_eq!(world.settle_ports("2", Ports::Held), Vec::<String>::new());
}

#[test]
fn a_pod_holds_its_ports_by_this_agents_word_or_by_its_history() {
    let held = PortHistory { held: true, ..PortHistory::default() };
    let ports = |ports| Some(PodHistory { ports, ..PodHistory::default() });
    // A pod whose look stalls is let out of the line unless it holds them.
    for (known, history, expected) in [
        (Ports::Unknown, None, false),
        (Ports::Unknown, ports(None), false),
        (Ports::Waits, ports(Some(PortHistory::default())), false),
        (Ports::Held, ports(None), true),
        (Ports::Unknown, ports(Some(held)), true),
    ] {
        let mut world = World::default();
        world.take_snapshot(snapshot(&[("1", "a")]), 100);
        let entry = world.entries.get_mut("1").unwrap();
        (entry.ports, entry.history) = (known, history);
        assert_eq!(world.holds_ports("1"), expected, "{known:?}");
    }
}
