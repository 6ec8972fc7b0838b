use super::*;
use crate::fields::fixtures::facts;

fn machine() -> Machine {
    Machine {
        machine_id: "m".to_owned(),
        system_uuid: "u".to_owned(),
        boot_id: "b".to_owned(),
        kernel_version: "6.1.0".to_owned(),
        os_image: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        systemd: "252.39-1~deb12u1".to_owned(),
        architecture: "amd64".to_owned(),
        cpu_milli: 2000,
        memory_bytes: 8 << 30,
        storage_bytes: 100 << 30,
        swap_bytes: 0,
        huge_pages: BTreeMap::from([("2Mi".to_owned(), 64 << 20)]),
        pods: 110,
    }
}

const PLENTY: Available =
    Available { memory_bytes: 4 << 30, storage_bytes: 50 << 30, inodes: (900, 1000), pids: (30_000, 32_768) };

fn status_of(pressures: &Pressures, previous: Option<&NodeStatus>, now_ms: i64) -> NodeStatus {
    let (facts, machine) = (facts(), machine());
    let input =
        NodeInput { facts: &facts, machine: &machine, pressures, images: &[], not_ready: None, previous, now_ms };
    status(&input)
}

fn condition(status: &NodeStatus, kind: &str) -> (String, String, i64) {
    let found = status.conditions.iter().flatten().find(|c| c.type_ == kind).unwrap();
    let at = found.last_transition_time.as_ref().unwrap().0.as_second();
    (found.status.clone(), found.reason.clone().unwrap(), at)
}

#[test]
fn the_object_of_a_machine() {
    let (facts, machine) = (facts(), machine());
    let images = [(vec!["small".to_owned()], 1), (vec!["large".to_owned()], 9)];
    let input = NodeInput {
        facts: &facts,
        machine: &machine,
        pressures: &Pressures::default(),
        images: &images,
        not_ready: None,
        previous: None,
        now_ms: 1_700_000_000_123,
    };
    insta::assert_snapshot!(serde_json::to_string_pretty(&node(&input, true)).unwrap());
    assert_eq!(node(&input, false).spec.unwrap().taints, None);
}

#[test]
fn a_pressure_is_told_until_it_is_gone_for_five_minutes() {
    let machine = machine();
    let calm = status_of(&Pressures::default(), None, 1_000_000);
    assert_eq!(condition(&calm, "MemoryPressure"), ("False".into(), "KubeletHasSufficientMemory".into(), 1000));

    let low = Available { memory_bytes: 99 << 20, ..PLENTY };
    let short = Pressures::default().seen(&machine, &low, 2_000_000);
    let pressed = status_of(&short, Some(&calm), 2_000_000);
    assert_eq!(condition(&pressed, "MemoryPressure"), ("True".into(), "KubeletHasInsufficientMemory".into(), 2000));
    assert_eq!(condition(&pressed, "DiskPressure"), ("False".into(), "KubeletHasNoDiskPressure".into(), 1000));

    let over = short.seen(&machine, &PLENTY, 2_010_000);
    let held = status_of(&over, Some(&pressed), 2_299_000);
    assert_eq!(condition(&held, "MemoryPressure"), ("True".into(), "KubeletHasInsufficientMemory".into(), 2000));
    let free = status_of(&over, Some(&held), 2_300_000);
    assert_eq!(condition(&free, "MemoryPressure"), ("False".into(), "KubeletHasSufficientMemory".into(), 2300));
}

#[test]
fn inodes_and_process_ids_run_out_too() {
    let machine = machine();
    let seen = |available| status_of(&Pressures::default().seen(&machine, &available, 5_000), None, 5_000);
    assert_eq!(condition(&seen(Available { inodes: (49, 1000), ..PLENTY }), "DiskPressure").0, "True");
    assert_eq!(condition(&seen(Available { inodes: (0, 0), ..PLENTY }), "DiskPressure").0, "False");
    assert_eq!(condition(&seen(Available { storage_bytes: 9 << 30, ..PLENTY }), "DiskPressure").0, "True");
    assert_eq!(condition(&seen(Available { pids: (1000, 32_768), ..PLENTY }), "PIDPressure").0, "True");
}

#[test]
fn only_a_change_or_five_minutes_are_worth_a_write() {
    let old = status_of(&Pressures::default(), None, 1_000_000);
    let same = status_of(&Pressures::default(), Some(&old), 1_290_000);
    assert!(!must_report(&old, 1_000_000, &same, 1_290_000));
    assert!(must_report(&old, 1_000_000, &same, 1_300_000));
    assert!(must_report(&old, 1_000_000, &same, 900_000));

    // What somebody else added is not ours to take back.
    let mut theirs = old.clone();
    let foreign = k8s_openapi::api::core::v1::NodeCondition {
        type_: "NetworkUnavailable".to_owned(),
        status: "False".to_owned(),
        ..Default::default()
    };
    theirs.conditions.as_mut().unwrap().push(foreign);
    assert!(!must_report(&theirs, 1_000_000, &same, 1_010_000));

    let low = Available { memory_bytes: 0, ..PLENTY };
    let short = Pressures::default().seen(&machine(), &low, 1_010_000);
    assert!(must_report(&old, 1_000_000, &status_of(&short, Some(&old), 1_010_000), 1_010_000));
    let mut moved = same.clone();
    moved.addresses.as_mut().unwrap().pop();
    assert!(must_report(&old, 1_000_000, &moved, 1_010_000));
}
