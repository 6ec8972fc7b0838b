//! Who a container is, and what it may do.

use std::collections::BTreeMap;

use e2e::agent::Node;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::{apply, main_pid, output, shell, with};

on_both! { identities capabilities_and_devices }

fn sleeper(more: Value) -> Value {
    with(json!({"name": "main", "image": "/bin/sleep", "args": ["infinity"]}), more)
}

/// /proc/PID/status of a container's program.
fn proc_status(node: &Node, pod: &str) -> BTreeMap<String, String> {
    let text = node.sandbox.read_file(format!("/proc/{}/status", main_pid(node, pod, "main"))).unwrap();
    text.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k.to_owned(), v.trim().to_owned())).collect()
}

fn ids(node: &Node, pod: &str) -> (String, String, String) {
    let status = proc_status(node, pod);
    let first = |key: &str| status[key].split_whitespace().next().unwrap().to_owned();
    (first("Uid"), first("Gid"), status["Groups"].clone())
}

pub(super) fn identities(systemd: Systemd) {
    let node = Node::start(systemd, "identities").unwrap();
    let volumes = json!([{"name": "disk", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "secret", "secret": {"secretName": "s", "defaultMode": 256}}]);
    let mounts = json!([{"name": "disk", "mountPath": "/disk"}, {"name": "memory", "mountPath": "/memory"},
        {"name": "secret", "mountPath": "/secret"}]);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "v"}});
    node.apply("s.json", &secret.to_string()).unwrap();
    let unknown =
        json!({"runAsUser": 54321, "runAsGroup": 54322, "fsGroup": 54323, "supplementalGroups": [54324, 54325]});
    let pods = [
        ("nobody-knows", json!({"securityContext": unknown, "containers": [sleeper(json!({}))]})),
        ("known", json!({"securityContext": {"runAsUser": 1}, "containers": [sleeper(json!({}))]})),
        ("only-user", json!({"containers": [sleeper(json!({"securityContext": {"runAsUser": 4242}}))]})),
        (
            "over",
            json!({"securityContext": {"runAsUser": 5, "runAsGroup": 6},
            "containers": [sleeper(json!({"securityContext": {"runAsUser": 7}}))]}),
        ),
        (
            "named",
            json!({"containers": [sleeper(json!({"securityContext": {"windowsOptions": {"runAsUserName": "games"}}}))]}),
        ),
        ("silent", json!({"containers": [sleeper(json!({}))]})),
    ];
    for (name, spec) in &pods {
        apply(&node, name, spec.clone());
    }
    let expected = [
        ("nobody-knows", "54321", "54322", "54323 54324 54325"),
        ("known", "1", "1", ""),
        ("only-user", "4242", "0", ""),
        ("over", "7", "6", ""),
        ("named", "5", "60", ""),
        ("silent", "0", "0", ""),
    ];
    for (name, uid, gid, groups) in expected {
        node.wait_ready(name).unwrap();
        assert_eq!(ids(&node, name), (uid.to_owned(), gid.to_owned(), groups.to_owned()), "{name}");
    }
    let script = "id -u; stat -c '%g %a' /disk /memory; cat /secret/k; echo; stat -L -c '%g %a' /secret/k; \
        for d in /disk /memory /tmp /var/tmp /dev/shm; do echo x > $d/mine && stat -c %u:%g $d/mine; done; \
        echo $HOME; (echo x > /new) 2>/dev/null && echo 'writes to /'; ls -ld /made | cut -d' ' -f3; rm /dev/shm/mine";
    let container = with(shell("main", script), json!({"volumeMounts": mounts, "workingDir": "/made"}));
    let spec =
        json!({"restartPolicy": "Never", "securityContext": unknown, "volumes": volumes, "containers": [container]});
    let log = output(&node, "groups", spec);
    let expected = "54321\n54323 2777\n54323 2777\nv\n54323 440\n54321:54323\n54321:54323\n54321:54322\n54321:54322\n\
        54321:54322\n/\n54321\n";
    assert_eq!(log, expected);
    refused_identities(&node);
}

fn refused_identities(node: &Node) {
    let non_root = json!({"runAsNonRoot": true});
    let cases = [
        ("no-such", json!({"windowsOptions": {"runAsUserName": "no-such-user"}}), "\"no-such-user\" does not exist"),
        ("non-root", non_root, "runAsNonRoot and image will run as root"),
        ("is-root", json!({"runAsNonRoot": true, "runAsUser": 0}), "runAsNonRoot"),
    ];
    for (name, context, text) in cases {
        apply(node, name, json!({"containers": [sleeper(json!({"securityContext": context}))]}));
        node.wait_waiting(name, "CreateContainerConfigError", &[text]).unwrap();
    }
    let allowed = json!({"runAsNonRoot": true, "runAsUser": 1000});
    apply(node, "not-root", json!({"containers": [sleeper(json!({"securityContext": allowed}))]}));
    node.wait_ready("not-root").unwrap();
}

/// The runtimes' default set (chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service,
/// net_raw, sys_chroot, mknod, audit_write, setfcap).
const DEFAULT: u64 = 0xa804_25fb;
const NET_ADMIN: u64 = 1 << 12;
const CHOWN: u64 = 1;

fn capabilities(node: &Node, pod: &str) -> (u64, u64, u64) {
    let status = proc_status(node, pod);
    let set = |key: &str| u64::from_str_radix(&status[key], 16).unwrap();
    assert_eq!((set("CapInh"), set("CapAmb")), (0, 0), "{pod}");
    (set("CapEff"), set("CapPrm"), set("CapBnd"))
}

const OPEN_DISK: &str = "mknod /tmp/disk b $1 $2 || echo no mknod; (: < /tmp/disk) 2>&1 | grep -o 'not permitted'; \
    head -c1 /dev/urandom | wc -c; : > /dev/null; (: < /dev/fuse) 2>&1 | grep -o 'not permitted'; echo end";

pub(super) fn capabilities_and_devices(systemd: Systemd) {
    let node = Node::start(systemd, "capabilities").unwrap();
    let host = node.sandbox.read_file("/proc/1/status").unwrap();
    let all = host.lines().find_map(|l| l.strip_prefix("CapBnd:")).unwrap().trim().to_owned();
    let all = u64::from_str_radix(&all, 16).unwrap();
    let cases = [
        ("default", json!({}), DEFAULT, DEFAULT),
        ("none", json!({"capabilities": {"drop": ["ALL"]}}), 0, 0),
        ("add", json!({"capabilities": {"add": ["NET_ADMIN"], "drop": ["CAP_CHOWN"]}}), DEFAULT - CHOWN + NET_ADMIN, 0),
        ("only", json!({"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}), NET_ADMIN, 0),
        ("user", json!({"runAsUser": 4242}), 0, DEFAULT),
        ("privileged", json!({"privileged": true}), all, all),
        ("locked", json!({"allowPrivilegeEscalation": false, "runAsUser": 4242}), 0, DEFAULT),
    ];
    for (name, context, ..) in &cases {
        apply(&node, name, json!({"containers": [sleeper(json!({"securityContext": context}))]}));
    }
    for (name, _, effective, bounding) in &cases {
        node.wait_ready(name).unwrap();
        let bounding = if *bounding == 0 { *effective } else { *bounding };
        let wanted = (effective & all, effective & all, bounding & all);
        assert_eq!(capabilities(&node, name), wanted, "{name}: {:x?}", capabilities(&node, name));
        let no_new = if *name == "locked" { "1" } else { "0" };
        assert_eq!(proc_status(&node, name)["NoNewPrivs"], no_new, "{name}");
    }
    let device = std::fs::read_to_string("/proc/partitions").unwrap();
    let mut disk = device.lines().nth(2).unwrap().split_whitespace();
    let (major, minor) = (disk.next().unwrap().to_owned(), disk.next().unwrap().to_owned());
    let container = |context: Value| {
        let container = json!({"name": "main", "image": "/bin/bash", "securityContext": context,
            "command": ["/bin/bash", "-c", OPEN_DISK, "sh", major, minor]});
        json!({"restartPolicy": "Never", "containers": [container]})
    };
    let log = output(&node, "devices", container(json!({})));
    // The device policy refuses the making of the node already; what is there of the host's own is not opened either. That
    // a privileged container may open the disk is not asked: the machine that the sandbox is on may say no itself.
    assert!(log.contains("no mknod") && log.contains("\n1\nnot permitted\nend\n"), "{log}");
    let log = output(&node, "all-devices", container(json!({"privileged": true})));
    assert!(!log.contains("no mknod") && log.ends_with("1\nend\n"), "{log}");
}
