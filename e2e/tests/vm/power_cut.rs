//! The power goes while pods are begun, volumes written and a package configured: the next boot ends where it would have.

use e2e::sandbox::Systemd;
use e2e::virtual_machine::VmNode;
use serde_json::{Value, json};

use super::{apply, left, pod, said, shell};

on_both! { a_power_cut_leaves_nothing_half_done }

const PODS: [&str; 5] = ["disk-0", "disk-1", "disk-2", "disk-3", "blocks"];

fn a_power_cut_leaves_nothing_half_done(systemd: Systemd) {
    let mut node = VmNode::start(systemd).unwrap();
    node.apply("map.json", &map("first").to_string()).unwrap();
    for name in &PODS[..4] {
        apply(&node, &writer(name));
    }
    // The first is begun, the last is not: each of them is at another step.
    let some = "ls -d /run/systemk/pods/disk-*/containers /var/lib/systemk/pods/disk-*/containers";
    node.wait_sh("pods to be begun", some).unwrap();
    node.machine.power_cut();

    node.machine.power_on().unwrap();
    node.wait_ready(&PODS[..4]).unwrap();
    is_whole(&node, &PODS[..4], "first");

    // Later, with an installation and a volume's change under way.
    node.machine.sh("touch /var/lib/sk-blocks.hold-postinst; sync").unwrap();
    let blocks = json!({"name": "main", "image": "sk-blocks=1.0-1", "command": ["sk-blocks"]});
    apply(&node, &pod("blocks", json!({"containers": [blocks]})));
    node.wait_sh("the package to be configured", "[ -s /var/lib/sk-blocks.postinst ]").unwrap();
    // What is read before the sync is on the disk after it; the pod goes on writing.
    let synced = "cd /var/lib/systemk/pods/disk-0/volumes/disk; cat kept >/run/before; sync kept; cat /run/before";
    let kept = said(&node, synced);
    node.apply("map.json", &map("second").to_string()).unwrap();
    node.machine.power_cut();

    node.machine.power_on().unwrap();
    node.wait_ready(&PODS[..4]).unwrap();
    assert!(!kept.is_empty());
    assert!(
        said(&node, "cat /var/lib/systemk/pods/disk-0/volumes/disk/kept").starts_with(&kept),
        "what was synced is kept"
    );
    node.machine.sh("rm -f /var/lib/sk-blocks.hold-postinst").unwrap();
    node.wait_ready(&PODS).unwrap();
    assert_eq!(said(&node, "dpkg --audit; dpkg-query -W -f '${db:Status-Abbrev}' sk-blocks"), "ii");
    is_whole(&node, &PODS, "second");
    super::lived_on(&node);
    assert_eq!(said(&node, "cat /sys/fs/ext4/vda/errors_count"), "0");
    node.machine.shut_down().unwrap();
    node.machine.check_disk().unwrap();
}

fn map(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}, "data": {"a": value, "b": value}})
}

/// Writes without end to a volume on the disk, beside one with files of a ConfigMap. Starts no processes for it, of which
/// the emulated processor would have time for little else; the empty pipe is there to wait at.
fn writer(name: &str) -> Value {
    let script = "exec 3<> <(:); printf -v much '%65536s' x
        while :; do echo line >>/disk/kept; echo \"$much\" >/disk/more; read -t 1 -u 3; done";
    let mut main = shell("main", script);
    main["volumeMounts"] = json!([{"name": "disk", "mountPath": "/disk"}, {"name": "map", "mountPath": "/map"}]);
    let volumes = json!([{"name": "disk", "emptyDir": {}}, {"name": "map", "configMap": {"name": "map"}}]);
    pod(name, json!({"containers": [main], "volumes": volumes}))
}

/// Nothing is left but what the pods have, each container was started once since the boot, and volumes are of one version.
fn is_whole(node: &VmNode, running: &[&str], version: &str) {
    let nothing = || left(node, running).is_empty().then_some(());
    node.wait("nothing half-done to be left", nothing)
        .unwrap_or_else(|error| panic!("{error:#}\n{}", left(node, running)));
    for name in running {
        let report = node.report(name).unwrap();
        assert_eq!(report["pod"]["status"]["containerStatuses"][0]["restartCount"], 0, "{report:#}");
    }
    let units = "systemctl list-units --plain --no-legend 'systemk.default.*' | wc -l";
    assert_eq!(said(node, units), running.len().to_string());
    let skeletons = said(node, "ls /var/lib/systemk/pods/*/containers/main | grep -c '^[0-9]'");
    assert_eq!(skeletons, running.len().to_string(), "one attempt of each");
    for name in running.iter().filter(|name| name.starts_with("disk")) {
        let read = format!("cat /run/systemk/pods/{name}/volumes/map/..data/[ab]");
        assert_eq!(said(node, &read), version.repeat(2), "{name}");
    }
}
