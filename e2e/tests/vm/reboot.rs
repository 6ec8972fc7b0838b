//! The machine is shut down and boots: what runs then is what the manifests say, and no package's service by itself.

use e2e::sandbox::Systemd;
use e2e::virtual_machine::VmNode;
use serde_json::{Value, json};

use super::{apply, left, pod, said, shell};

on_both! { only_the_pods_come_back }

/// Two lines of the pod `keeper`: how often it was started, on a volume that is on the disk and on one that is not.
const LINES: &str = "cat /var/lib/systemk/pods/keeper/volumes/disk/starts | wc -l; cat /run/systemk/pods/keeper/volumes/ram/starts | wc -l";

fn only_the_pods_come_back(systemd: Systemd) {
    let mut node = VmNode::start(systemd).unwrap();
    apply(&node, &keeper());
    apply(&node, &pod("vendor", json!({"containers": [{"name": "main", "image": "sk-autostart"}]})));
    apply(&node, &pod("gone", json!({"containers": [shell("main", "exec sleep infinity")]})));
    node.wait_ready(&["keeper", "vendor", "gone"]).unwrap();
    nothing_runs_by_itself(&node);
    assert_eq!(said(&node, LINES), "1\n1");
    // Without an agent: at the next boot there is one.
    node.machine.sh("systemctl stop systemk; rm /etc/systemk/manifests/gone.json").unwrap();
    let boot = said(&node, "cat /proc/sys/kernel/random/boot_id");

    node.machine.reboot().unwrap();
    assert_ne!(said(&node, "cat /proc/sys/kernel/random/boot_id"), boot);
    node.wait_ready(&["keeper", "vendor"]).unwrap();
    nothing_runs_by_itself(&node);
    assert_eq!(said(&node, LINES), "2\n1", "an emptyDir lives as long as its pod, one in memory as the machine's boot");
    for name in ["keeper", "vendor"] {
        let report = node.report(name).unwrap();
        let container = &report["pod"]["status"]["containerStatuses"][0];
        assert_eq!(container["restartCount"], 0, "{report:#}");
        assert!(container["lastState"].get("terminated").is_none_or(Value::is_null), "{report:#}");
    }
    node.wait("what was removed to be gone", || left(&node, &["keeper", "vendor"]).is_empty().then_some(()))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", left(&node, &["keeper", "vendor"])));
    super::lived_on(&node);
    node.machine.shut_down().unwrap();
    node.machine.check_disk().unwrap();
}

fn keeper() -> Value {
    let mut main = shell("main", "echo started >>/disk/starts; echo started >>/ram/starts; exec sleep infinity");
    main["volumeMounts"] = json!([{"name": "disk", "mountPath": "/disk"}, {"name": "ram", "mountPath": "/ram"}]);
    let volumes = json!([{"name": "disk", "emptyDir": {}}, {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]);
    pod("keeper", json!({"containers": [main], "volumes": volumes}))
}

/// Its unit and its init script were never started, and are not enabled: the one `sk-autostart` there is runs in the pod.
fn nothing_runs_by_itself(node: &VmNode) {
    let state = "systemctl show -p ActiveState --value sk-autostart.service sk-autostart-sysv.service | xargs; \
                 systemctl is-enabled sk-autostart.service; ls /etc/rc?.d | grep -c 'S.*sk-autostart'; \
                 find /etc/systemd -name '*sk-autostart*'";
    assert_eq!(said(node, &format!("{{ {state}; }} || true")), "inactive inactive\ndisabled\n0");
    let slices =
        "for pid in $(pgrep -f ^/bin/sh./usr/sbin/sk-autostart; pgrep -x sleep); do cat /proc/$pid/cgroup; done";
    let groups = said(node, slices);
    assert!(!groups.is_empty() && groups.lines().all(|line| line.starts_with("0::/kubepods.slice/")), "{groups}");
}
