//! The Node object and its Lease, as kubectl shows them.

mod refused;

use std::sync::Arc;

use e2e::agent::{Node, SOON};
use e2e::control_plane::{ControlPlane, ControlPlaneSpec};
use e2e::eventually::wait_until;
use e2e::member::{KUBECONFIG, Member};
use e2e::sandbox::{SandboxSpec, Systemd};
use serde_json::{Value, json};

on_both! { shown_by_kubectl comes_back_when_it_is_deleted disk_pressure without_taint_and_with_a_role }

/// The Node as the API server has it.
fn node(member: &Member) -> Option<Value> {
    member.kubectl().find(&["node", &member.name]).unwrap()
}

/// Waits until the Node is as `is` wants it.
#[track_caller]
fn wait_node(member: &Member, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let found = member.kubectl().wait_for(what, SOON, &["node", &member.name], is);
    found.unwrap_or_else(|error| panic!("{error:#}\nthe agent's log:\n{}", log(member)))
}

fn log(node: &Node) -> String {
    node.sandbox.sh("journalctl -u systemk --no-pager -o cat").unwrap()
}

/// Waits for a line of the agent's log.
#[track_caller]
fn wait_log(node: &Node, text: &str) -> String {
    let line = || log(node).lines().find(|line| line.contains(text)).map(str::to_owned);
    wait_until(text, SOON, line).unwrap_or_else(|error| panic!("{error:#}\nthe agent's log:\n{}", log(node)))
}

fn condition<'n>(node: &'n Value, kind: &str) -> &'n Value {
    let all = node["status"]["conditions"].as_array();
    all.and_then(|all| all.iter().find(|c| c["type"] == kind)).unwrap_or(&Value::Null)
}

pub(super) fn is_ready(node: &Value) -> bool {
    condition(node, "Ready")["status"] == "True"
}

fn lease(member: &Member) -> Option<Value> {
    member.kubectl().find(&["lease", &member.name, "-n", "kube-node-lease"]).unwrap()
}

/// A file system of that size for the agent's state directory.
fn give_disk(member: &Member, size: &str) {
    let mount = format!("mkdir -p /var/lib/systemk && mount -t tmpfs -o size={size} none /var/lib/systemk");
    member.sandbox.sh(&mount).unwrap();
}

fn shown_by_kubectl(systemd: Systemd) {
    let external = "--node-external-ip 192.0.2.7";
    let member = Member::prepare(e2e::member::cluster().unwrap(), systemd, "shown", external).unwrap();
    // However full the disk of this machine is.
    give_disk(&member, "64m");
    member.start_agent().unwrap();
    let node = wait_node(&member, "the node to be ready", is_ready);
    let wide = member.kubectl().run(&["get", "node", &member.name, "-o", "wide", "--no-headers"]).unwrap();
    let row: Vec<&str> = wide.split_whitespace().collect();
    let text = |command: &str| member.sandbox.sh(command).unwrap().trim().to_owned();
    assert_eq!((row[0], row[1], row[2]), (member.name.as_str(), "Ready", "<none>"), "{wide}");
    assert!(row[4].starts_with("v1.37.0-systemk."), "{wide}");
    assert_eq!((row[5], row[6]), (member.address.to_string().as_str(), "192.0.2.7"), "{wide}");
    let version = text("systemctl --version | sed -n '1s/.*(\\([0-9.]*\\).*/\\1/p'");
    assert!(version.starts_with(&systemd.version().to_string()), "{version}");
    assert!(wide.trim_end().ends_with(&format!("systemd://{version}")), "{wide} {version}");
    assert!(wide.contains(&text(". /etc/os-release; echo $PRETTY_NAME")) && wide.contains(&text("uname -r")), "{wide}");

    let info = &node["status"]["nodeInfo"];
    assert_eq!(info["machineID"], text("cat /etc/machine-id"));
    assert_eq!(info["bootID"], text("cat /proc/sys/kernel/random/boot_id"));
    let architecture = text("dpkg --print-architecture");
    assert_eq!((&info["architecture"], &info["operatingSystem"]), (&json!(architecture), &json!("linux")));
    let addresses = json!([
        {"type": "InternalIP", "address": member.address.to_string()},
        {"type": "ExternalIP", "address": "192.0.2.7"},
        {"type": "Hostname", "address": member.name},
    ]);
    assert_eq!(node["status"]["addresses"], addresses);
    assert_eq!(node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"], 10250);
    let labels = &node["metadata"]["labels"];
    for (label, value) in [("hostname", member.name.as_str()), ("os", "linux"), ("arch", &architecture)] {
        assert_eq!(labels[format!("kubernetes.io/{label}")], value, "{labels}");
    }
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let ours = json!({"key": "virtual-kubelet.io/provider", "value": "systemk", "effect": "NoSchedule"});
    assert!(taints.contains(&ours), "{taints:?}");
    for (kind, status, reason) in [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID"),
        ("Ready", "True", "KubeletReady"),
    ] {
        let shown = condition(&node, kind);
        assert_eq!((&shown["status"], &shown["reason"]), (&json!(status), &json!(reason)), "{kind}");
    }
    let capacity = &node["status"]["capacity"];
    assert_eq!((&capacity["cpu"], &capacity["pods"]), (&json!(text("nproc")), &json!("110")), "{capacity}");

    // A restarted agent finds its node, and changes nothing of what others have said of it.
    let (uid, theirs) = (&node["metadata"]["uid"], "example.com/rack=7");
    member
        .kubectl()
        .run(&["label", "node", &member.name, theirs, "kubernetes.io/os-", "kubernetes.io/arch=pdp11", "--overwrite"])
        .unwrap();
    member.sandbox.run(&["systemctl", "restart", "systemk"]).unwrap();
    let again = wait_node(&member, "its labels", |node| node["metadata"]["labels"]["kubernetes.io/arch"] != "pdp11");
    assert_eq!(&again["metadata"]["uid"], uid);
    assert_eq!(again["metadata"]["labels"]["kubernetes.io/os"], "linux");
    assert_eq!(again["metadata"]["labels"]["example.com/rack"], "7");
}

fn comes_back_when_it_is_deleted(systemd: Systemd) {
    let member = Member::join(systemd, "back").unwrap();
    let before = wait_node(&member, "the node to be ready", is_ready)["metadata"]["uid"].clone();
    let owner = |lease: &Value| lease["metadata"]["ownerReferences"][0]["uid"].clone();
    let made = wait_until("its lease", SOON, || lease(&member)).unwrap();
    assert_eq!((&owner(&made), &made["spec"]["holderIdentity"]), (&before, &json!(member.name)));
    assert_eq!(made["spec"]["leaseDurationSeconds"], 40);
    member.run("stays", super::script("sleep infinity")).unwrap();
    member.wait_running("stays").unwrap();

    member.kubectl().run(&["delete", "node", &member.name]).unwrap();
    // The next heartbeat finds it out.
    let after = wait_until("the node to be back", SOON, || node(&member).filter(is_ready)).unwrap();
    let after = after["metadata"]["uid"].clone();
    assert_ne!(before, after);
    wait_until("its new lease", SOON, || lease(&member).filter(|lease| owner(lease) == after)).unwrap();
    wait_log(&member, "was deleted from the cluster by somebody: registered again");
}

fn disk_pressure(systemd: Systemd) {
    let cluster = e2e::member::cluster().unwrap();
    let member = Member::prepare(cluster, systemd, "full", "").unwrap();
    give_disk(&member, "4m");
    member.start_agent().unwrap();
    let node = wait_node(&member, "the node to be ready", is_ready);
    assert_eq!(node["status"]["capacity"]["ephemeral-storage"], "4Mi");
    assert_eq!(condition(&node, "DiskPressure")["status"], "False");
    member.sandbox.sh("head -c 3900000 /dev/zero >/var/lib/systemk/full").unwrap();
    let node = wait_node(&member, "pressure", |node| condition(node, "DiskPressure")["status"] == "True");
    assert_eq!(condition(&node, "DiskPressure")["reason"], "KubeletHasDiskPressure");
    wait_log(&member.node, "NodeHasDiskPressure: there are left");
    let described = || {
        let text = member.kubectl().run(&["describe", "node", &member.name]).ok()?;
        text.contains("status is now: NodeHasDiskPressure").then_some(())
    };
    wait_until("the event", SOON, described).unwrap();
    // The control plane acts on it.
    wait_node(&member, "the taint of it", |node| {
        let taints = node["spec"]["taints"].as_array();
        taints.is_some_and(|taints| taints.iter().any(|taint| taint["key"] == "node.kubernetes.io/disk-pressure"))
    });
}

fn without_taint_and_with_a_role(systemd: Systemd) {
    let cluster = e2e::member::cluster().unwrap();
    let member = Member::prepare(cluster, systemd, "role", "--disable-taint").unwrap();
    // With an administrator's credential the node may say its role itself.
    let admin = std::fs::read_to_string(member.cluster.admin_kubeconfig()).unwrap();
    member.sandbox.write_secret(KUBECONFIG, admin).unwrap();
    member.start_agent().unwrap();
    let node = wait_node(&member, "the role", |node| {
        node["metadata"]["labels"].get("node-role.kubernetes.io/agent").is_some()
    });
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    assert!(!taints.iter().any(|taint| taint["key"] == "virtual-kubelet.io/provider"), "{taints:?}");
    let row = member.kubectl().run(&["get", "node", &member.name, "--no-headers"]).unwrap();
    assert_eq!(row.split_whitespace().nth(2), Some("agent"), "{row}");
}

/// Nobody but this node asks this API server, and all of it is written down.
#[test]
fn a_heartbeat_is_one_request() {
    let spec = ControlPlaneSpec::for_test("beats").audited();
    let cluster = Arc::new(ControlPlane::start(spec).unwrap());
    let member = Member::join_to(cluster, Systemd::V257, "beats", "").unwrap();
    let asked = |verb: &str, resource: &str| {
        let events = member.cluster.audit().unwrap();
        let ours = events.iter().filter(|event| {
            let (user, about) = (&event.user.username, &event.object_ref);
            *user == format!("system:node:{}", member.name) && event.verb == verb && about.resource == resource
        });
        ours.filter(|event| event.stage == "ResponseComplete").count()
    };
    wait_until("the third renewal", SOON, || (asked("patch", "leases") >= 2).then_some(())).unwrap();
    for (verb, resource, most) in
        [("create", "nodes", 1), ("get", "nodes", 0), ("get", "leases", 1), ("create", "leases", 1)]
    {
        assert_eq!(asked(verb, resource), most, "{verb} {resource}");
    }
    // Nothing changed, so the object was not written again.
    assert_eq!(asked("patch", "nodes"), 0);
    let renewed = lease(&member).unwrap();
    assert_eq!(renewed["spec"]["leaseTransitions"], Value::Null, "{renewed:#}");
    println!("start to registered: {} ms", since_start_ms(&member));
}

/// From the start of the agent's process to its registration, by the journal's clock.
fn since_start_ms(member: &Member) -> u64 {
    let started: u64 = member.property("systemk", "ExecMainStartTimestampMonotonic").unwrap().parse().unwrap();
    let lines = member.sandbox.sh("journalctl -u systemk --no-pager -o json | grep 'registered as node'").unwrap();
    let line: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let registered: u64 = line["__MONOTONIC_TIMESTAMP"].as_str().unwrap().parse().unwrap();
    (registered - started) / 1000
}

#[test]
fn an_agent_starts_without_its_api_server_and_says_once_what_is_wrong() {
    let mut cluster = ControlPlane::start(ControlPlaneSpec::for_test("outage").api_only()).unwrap();
    let kubeconfig = |cluster: &ControlPlane, node: &str| cluster.node_kubeconfig(node).unwrap();
    let sandbox = SandboxSpec::for_test(Systemd::V257, "outage");
    let name = sandbox.name.clone();
    let flags = format!("--kubeconfig {KUBECONFIG} --nodename {name} --node-ip 127.0.0.9 --addr 127.0.0.9:10250");
    let node = Node::boot(sandbox, &flags).unwrap();
    node.sandbox.write_secret(KUBECONFIG, kubeconfig(&cluster, &name)).unwrap();
    cluster.kill_api_server().unwrap();
    // Ready to systemd all the same.
    node.start_agent().unwrap();
    let count = |text: &str| log(&node).lines().filter(|line| line.contains(text)).count();
    let said = |text: &str, times: usize| {
        let found = wait_until(text, SOON, || (count(text) >= times).then_some(()));
        found.unwrap_or_else(|error| panic!("{error:#}\n{}", log(&node)));
        assert_eq!(count(text), times, "{}", log(&node));
    };
    said("nothing listens there (connection refused); pods that run go on", 1);
    cluster.start_api_server().unwrap();
    said("it answers again", 1);
    said("registered as node", 1);
    let ready = || cluster.admin().find(&["node", &name]).ok()?.filter(is_ready);
    wait_until("the node to be ready", SOON, ready).unwrap();

    // In the middle of its life: once too, whoever of the agent meets it, and it goes on by itself.
    cluster.kill_api_server().unwrap();
    said("nothing listens there (connection refused); pods that run go on", 2);
    cluster.start_api_server().unwrap();
    said("it answers again", 2);
    said("registered as node", 1);
}
