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

/// What the signals say of the unit, in the order in which they may come around systemd's answer.
#[test]
fn a_stop_is_known_from_its_answer_until_its_signals() {
    let known = |state: &str| KnownUnit {
        state: Some(UnitState { active_state: state.to_owned(), ..UnitState::default() }),
        ..KnownUnit::default()
    };
    let is_known = |unit: &KnownUnit| unit.state.as_ref().map(|state| state.job.as_ref().map(|job| job.kind.clone()));
    let mut unit = known("active");
    unit.stop_accepted(7);
    assert_eq!(is_known(&unit), Some(Some("stop".to_owned())));
    // It is over, and the signal that it is inactive is still on its way.
    unit.stop_ended(7, true);
    assert_eq!(is_known(&unit), Some(Some("stop".to_owned())), "not asked for again");

    // That signal came before the answer.
    let mut unit = known("inactive");
    unit.stop_accepted(8);
    unit.stop_ended(7, true);
    assert_eq!(is_known(&unit), Some(Some("stop".to_owned())), "another's job");
    unit.stop_ended(8, true);
    assert_eq!(is_known(&unit), Some(None));

    // As they come mostly: the job is gone, for everybody and for who asked, and then the unit is inactive.
    let inactive = UnitChange { active_state: Some("inactive".to_owned()), ..UnitChange::default() };
    for asker_first in [true, false] {
        let mut unit = known("active");
        unit.stop_accepted(7);
        for asker in [asker_first, !asker_first] {
            if asker {
                unit.stop_ended(7, true);
            } else {
                unit.job_removed(7, true);
            }
            assert_eq!(is_known(&unit), Some(Some("stop".to_owned())), "not asked for again");
        }
        unit.changed(&inactive);
        assert_eq!(is_known(&unit), Some(None));
        assert!(!unit.stop_untold(7));
    }

    // That signal was lost.
    let mut unit = known("active");
    unit.stop_accepted(7);
    unit.job_removed(7, true);
    unit.stop_ended(7, true);
    assert!(unit.stop_untold(7));
    assert_eq!(is_known(&unit), None);

    // Somebody has cancelled it.
    let mut unit = known("active");
    unit.stop_accepted(9);
    unit.job_removed(9, false);
    assert_eq!(is_known(&unit), Some(None));
    unit.stop_ended(9, false);
    assert_eq!(is_known(&unit), None);

    // A start has no such signals to wait for.
    let mut unit = known("inactive");
    unit.state.as_mut().unwrap().job = Some(UnitJob { id: 3, kind: "start".to_owned() });
    unit.changed(&inactive);
    assert_eq!(is_known(&unit), Some(Some("start".to_owned())));
    unit.job_removed(3, true);
    assert_eq!(is_known(&unit), Some(None));
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
fn a_pod_that_another_agent_began_leaves_its_place_to_its_successor() {
    let mut world = World::default();
    world.take_snapshot(snapshot(&[("2", "web"), ("3", "later")]), 100);
    let of_cluster = Entry::new(named("web"), Origin::Cluster, 100);
    world.entries.insert("4".to_owned(), of_cluster);
    let orphan = |name: &str| Entry { stop: Some(Stop::asked(100, 5)), ..Entry::new(named(name), Origin::Orphan, 100) };
    world.adopt("1".to_owned(), orphan("web"), Some(7));
    world.adopt("0".to_owned(), orphan("later"), None);
    assert_eq!((world.entries["2"].since_ms, world.entries["3"].since_ms), (7, 100));
    assert_eq!(world.entries["4"].since_ms, 100, "as it would be had the agent lived on");
    assert_eq!(world.predecessor("2"), Some("1".to_owned()));
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
