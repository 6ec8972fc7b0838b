//! The control plane is the real one: it holds a node to a kubelet's rights, schedules, controls, and keeps its data.

mod rights;
mod shared;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use e2e::agent::SOON;
use e2e::control_plane::{ControlPlane, ControlPlaneSpec, Identity, Part, READY};
use e2e::eventually::wait_until;
use e2e::kubernetes::VERSION;
use e2e::sandbox::{Sandbox, SandboxSpec, Systemd};
use serde_json::{Value, json};

/// A node as its agent would register it.
fn node(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}).to_string()
}

/// Makes the node Ready with room for pods, as its agent would.
fn make_ready(control_plane: &ControlPlane, name: &str) {
    let room = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
    let conditions = json!([{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "by hand"}]);
    let patch = json!({"status": {"capacity": room, "allocatable": room, "conditions": conditions}}).to_string();
    control_plane.admin().run(&["patch", "node", name, "--subresource=status", "-p", &patch]).unwrap();
}

#[test]
fn server_and_client_are_the_release_that_is_pinned() {
    let start = Instant::now();
    let control_plane = ControlPlane::start(ControlPlaneSpec::for_test("version").api_only()).unwrap();
    println!("etcd and API server were ready after {:?}", start.elapsed());

    let version: Value = serde_json::from_str(&control_plane.admin().run(&["version", "-o", "json"]).unwrap()).unwrap();
    assert_eq!(version["serverVersion"]["gitVersion"], VERSION, "{version:#}");
    assert_eq!(version["clientVersion"]["gitVersion"], VERSION, "{version:#}");
    let server: Value =
        serde_json::from_str(&control_plane.admin().run(&["get", "--raw", "/version"]).unwrap()).unwrap();
    assert_eq!((&server["major"], &server["minor"]), (&json!("1"), &json!("37")), "{server:#}");
    // Nobody but root reads the administrator's key.
    let home = control_plane.admin_kubeconfig();
    let mode = std::os::unix::fs::MetadataExt::mode(&home.parent().unwrap().metadata().unwrap());
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

#[test]
fn a_deployment_gets_pods_that_are_bound_to_a_ready_node() {
    let start = Instant::now();
    let control_plane = ControlPlane::start(ControlPlaneSpec::for_test("schedules")).unwrap();
    println!("all four were ready after {:?}", start.elapsed());
    for part in [Part::Etcd, Part::ApiServer, Part::ControllerManager, Part::Scheduler] {
        let memory = memory(control_plane.record().processes[&part].pid);
        println!("{}: {} MB resident", part.program(), memory / 1000);
    }
    control_plane.apply(&node("by-hand")).unwrap();
    make_ready(&control_plane, "by-hand");
    control_plane.admin().run(&["create", "deployment", "web", "--image=nginx", "--replicas=2"]).unwrap();

    let pods = control_plane.wait_for("two pods bound to the node", &["pods", "-l", "app=web"], |list| {
        let bound = |pod: &&Value| pod["spec"]["nodeName"] == "by-hand";
        list["items"].as_array().is_some_and(|pods| pods.iter().filter(bound).count() == 2)
    });
    // The token that every pod gets says that service accounts work, too.
    let pods = pods.unwrap();
    assert_eq!(pods["items"][0]["spec"]["serviceAccountName"], "default");
    assert!(control_plane.kubectl(&["create", "token", "default"]).unwrap().stdout.starts_with("ey"));
}

/// Resident memory of a process in kB.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn an_api_server_that_was_killed_comes_back_with_its_data() {
    let mut control_plane = ControlPlane::start(ControlPlaneSpec::for_test("killed").api_only()).unwrap();
    control_plane.admin().run(&["create", "configmap", "kept", "--from-literal=a=b"]).unwrap();
    let (server, etcd) = (control_plane.server(), control_plane.record().processes[&Part::Etcd]);

    control_plane.kill_api_server().unwrap();
    let refused = control_plane.kubectl(&["get", "configmap", "kept"]).unwrap();
    assert!(refused.code != 0 && refused.stderr.contains("refused"), "{refused:?}");
    control_plane.start_api_server().unwrap();

    assert_eq!((control_plane.server(), control_plane.record().processes[&Part::Etcd]), (server, etcd));
    assert_eq!(control_plane.get(&["configmap", "kept"]).unwrap()["data"]["a"], "b");
}

#[test]
fn a_paused_api_server_answers_nothing_until_it_goes_on() {
    let control_plane = ControlPlane::start(ControlPlaneSpec::for_test("paused").api_only()).unwrap();
    let ask = ["get", "--raw", "/readyz"];

    control_plane.pause_api_server().unwrap();
    let late = control_plane.admin().output_with(Duration::from_secs(2), &ask, "").unwrap_err().to_string();
    assert!(late.contains("was killed"), "{late}");
    control_plane.resume_api_server().unwrap();

    assert_eq!(control_plane.admin().run(&ask).unwrap(), "ok");
}

#[test]
fn two_at_once_have_nothing_in_common() {
    let start = |what: &'static str| {
        move || {
            let control_plane = ControlPlane::start(ControlPlaneSpec::for_test(what).api_only()).unwrap();
            control_plane.admin().run(&["create", "configmap", what]).unwrap();
            control_plane
        }
    };
    let (one, other) = thread::scope(|scope| {
        let (one, other) = (scope.spawn(start("one")), scope.spawn(start("other")));
        (one.join().unwrap(), other.join().unwrap())
    });
    assert_ne!(one.server(), other.server());
    assert!(one.admin().find(&["configmap", "other"]).unwrap().is_none());
    assert!(other.admin().find(&["configmap", "one"]).unwrap().is_none());
    // The administrator of one is nobody to the other: its certificate is of another authority.
    let stranger = one.kubeconfig(&Identity::user("kubernetes-admin")).unwrap().replace(&one.server(), &other.server());
    let stranger = other.client_of(&stranger).unwrap().output(&["get", "configmaps"]).unwrap();
    assert!(stranger.code != 0 && stranger.stderr.contains("unknown authority"), "{stranger:?}");

    let (home, processes) = (one.admin_kubeconfig(), one.record().processes.clone());
    one.stop().unwrap();
    assert!(processes.values().all(|process| !process.alive()));
    assert!(!home.parent().unwrap().exists());
    assert_eq!(other.admin().run(&["get", "--raw", "/readyz"]).unwrap(), "ok");
}

#[test]
fn it_is_gone_after_a_panic_and_reaped_after_a_kill() {
    let gone = |home: &Path| wait_until("the directory to go", SOON, || (!home.exists()).then_some(())).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let panicked = thread::spawn(move || {
        let control_plane = ControlPlane::start(ControlPlaneSpec::for_test("panics").api_only()).unwrap();
        sender.send((control_plane.record().clone(), control_plane.admin_kubeconfig())).unwrap();
        panic!("as a test does that fails");
    });
    let (record, kubeconfig) = receiver.recv_timeout(READY).unwrap();
    assert!(panicked.join().is_err());
    assert!(record.processes.values().all(|process| !process.alive()));
    gone(kubeconfig.parent().unwrap());

    let control_plane = ControlPlane::start(ControlPlaneSpec::for_test("orphan").api_only()).unwrap();
    let (record, kubeconfig) = (control_plane.record().clone(), control_plane.admin_kubeconfig());
    // What a killed process does: nothing but letting go of its lock.
    control_plane.abandon();
    assert!(record.processes.values().all(|process| process.alive()));
    let next = ControlPlane::start(ControlPlaneSpec::for_test("next").api_only()).unwrap();
    assert!(record.processes.values().all(|process| !process.alive()));
    gone(kubeconfig.parent().unwrap());
    next.stop().unwrap();
}

#[test]
fn sandboxes_reach_it_with_the_same_kubeconfig() {
    let control_plane = ControlPlane::start(ControlPlaneSpec::for_test("reached").api_only()).unwrap();
    control_plane.apply(&node("inside")).unwrap();
    let kubeconfig = control_plane.node_kubeconfig("inside").unwrap();
    let start = |spec: SandboxSpec| {
        let sandbox = Sandbox::start(spec.bind_ro(control_plane.record().programs.clone(), "/opt/kubernetes")).unwrap();
        sandbox.write_file("/etc/node.kubeconfig", &kubeconfig).unwrap();
        sandbox
    };
    let ask = ["/opt/kubernetes/kubectl", "--kubeconfig=/etc/node.kubeconfig", "get", "node", "inside", "-o", "name"];

    let shares = start(SandboxSpec::for_test(Systemd::V252, "reaches"));
    assert_eq!(shares.run(&ask).unwrap(), "node/inside\n");

    let own = start(SandboxSpec::for_test(Systemd::V257, "relayed").netns());
    let refused = own.exec(&ask).unwrap();
    assert!(refused.code != 0 && refused.stderr.contains("refused"), "{refused:?}");
    let relay = control_plane.relay_into(&own).unwrap();
    assert_eq!(own.run(&ask).unwrap(), "node/inside\n");
    drop(relay);
    assert_ne!(own.exec(&ask).unwrap().code, 0);
}
