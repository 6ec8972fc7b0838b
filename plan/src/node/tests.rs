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
    let input = NodeInput {
        facts: &facts,
        machine: &machine,
        port: 10250,
        pressures,
        images: &[],
        not_ready: None,
        previous,
        now_ms,
    };
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
    let images =
        [(vec!["small".to_owned()], Some(1)), (vec!["unknown".to_owned()], None), (vec!["large".to_owned()], Some(9))];
    let input = NodeInput {
        facts: &facts,
        machine: &machine,
        port: 10250,
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
fn a_size_that_is_not_known_again_yet_is_what_was_said_before() {
    let (facts, machine) = (facts(), machine());
    let status_with = |images: &[(Vec<String>, Option<i64>)], previous: Option<&NodeStatus>| {
        let pressures = Pressures::default();
        let (port, not_ready, now_ms) = (10250, None, 0);
        status(&NodeInput {
            facts: &facts,
            machine: &machine,
            port,
            pressures: &pressures,
            images,
            not_ready,
            previous,
            now_ms,
        })
    };
    let image = |size| [(vec!["a".to_owned()], size)];
    let before = status_with(&image(Some(7)), None);
    assert_eq!(status_with(&image(None), Some(&before)).images, before.images);
    assert_eq!(status_with(&image(Some(8)), Some(&before)).images.unwrap()[0].size_bytes, Some(8));
    let other = [(vec!["a".to_owned(), "a=2".to_owned()], None)];
    assert_eq!(status_with(&other, Some(&before)).images.unwrap()[0].size_bytes, None, "another version");
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

fn object_of(machine: &Machine, now_ms: i64) -> Node {
    let (facts, pressures) = (facts(), Pressures::default());
    let input = NodeInput {
        facts: &facts,
        machine,
        port: 10250,
        pressures: &pressures,
        images: &[],
        not_ready: None,
        previous: None,
        now_ms,
    };
    let mut object = node(&input, false);
    (object.metadata.uid, object.metadata.resource_version) = (Some("u".to_owned()), Some("7".to_owned()));
    object
}

#[test]
fn a_patch_says_what_changed_and_leaves_what_others_said() {
    let before = object_of(&machine(), 1_000_000);
    let mut known = before.clone();
    known.metadata.labels.as_mut().unwrap().insert("theirs".to_owned(), "stays".to_owned());
    let status = known.status.as_mut().unwrap();
    status.capacity.as_mut().unwrap().insert("example.com/dongle".to_owned(), ApiQuantity("4".to_owned()));
    assert_eq!(patch(&known, &before, 1_010_000), None, "others' labels and resources are no change");

    let late = patch(&known, &object_of(&machine(), 1_300_000), 1_300_000).unwrap();
    assert_eq!(late["metadata"], serde_json::json!({"uid": "u", "resourceVersion": "7"}));
    assert_eq!(late["status"].as_object().unwrap().keys().collect::<Vec<_>>(), ["conditions"]);

    let mut moved = machine();
    moved.huge_pages = BTreeMap::from([("1Gi".to_owned(), 1 << 30)]);
    moved.kernel_version = "6.12.0".to_owned();
    let mut wanted = object_of(&moved, 1_010_000);
    wanted.status.as_mut().unwrap().addresses.as_mut().unwrap().pop();
    known.metadata.labels.as_mut().unwrap().insert("kubernetes.io/os".to_owned(), "plan9".to_owned());
    let changed = patch(&known, &wanted, 1_010_000).unwrap();
    assert_eq!(changed["metadata"]["labels"], serde_json::json!({"kubernetes.io/os": "linux"}));
    assert_eq!(changed["status"]["capacity"], serde_json::json!({"hugepages-1Gi": "1Gi", "hugepages-2Mi": null}));
    assert_eq!(changed["status"]["addresses"][0], serde_json::json!({"$patch": "replace"}));
    assert_eq!(changed["status"]["nodeInfo"]["kernelVersion"], "6.12.0");
    assert!(changed["status"].get("images").is_none() && changed["status"].get("daemonEndpoints").is_none());
}

#[test]
fn amounts_are_spelled_as_the_api_server_gives_them_back() {
    for (amount, spelled) in
        [(0, "0"), (8 << 30, "8Gi"), (1536 << 20, "1536Mi"), (8_131_932 << 10, "8131932Ki"), (1023, "1023")]
    {
        assert_eq!(bytes(amount).0, spelled);
    }
}
