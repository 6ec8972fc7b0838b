use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use kube::config::AuthInfo;
use plan::inputs::{NativeRoot, NodeFacts};
use plan::vendor::SpecifierFacts;
use serde_json::Value;
use tokio::time::timeout;

use super::*;
use crate::cluster::credential::Credential;
use crate::cluster::fake_server::{FakeServer, LEASE, NODE};
use crate::machine::Gauge;
use crate::reconcile::now_ms;

fn facts() -> NodeFacts {
    NodeFacts {
        node_name: "node-1".to_owned(),
        internal_ips: vec!["10.0.0.1".to_owned()],
        external_ips: Vec::new(),
        systemd_version: 252,
        run_root: String::new(),
        state_root: String::new(),
        unit_dir: String::new(),
        slice_root: String::new(),
        binary: String::new(),
        root_entries: Default::default(),
        views: Default::default(),
        native_root: NativeRoot::Default,
        etc_run_targets: Vec::new(),
        specifiers: SpecifierFacts::default(),
        controllers: Vec::new(),
        allowed_dirs: Vec::new(),
        cpu_milli: 0,
        memory_bytes: 0,
    }
}

fn health(ask: Ask) -> Health {
    Health::new(Gauge::new(Path::new("/")), "252.39-1~deb12u1".to_owned(), ask).unwrap()
}

fn description() -> Description {
    Description {
        facts: Arc::new(facts()),
        port: 10250,
        taint: true,
        images: Box::new(Vec::new),
        health: health(Box::new(|| Box::pin(async { true }))),
    }
}

fn registration(server: &FakeServer) -> Registration {
    Registration::new(server.client(), description())
}

fn events() -> Arc<Events> {
    Arc::new(Events::new("node-1"))
}

fn heartbeats() -> Arc<Heartbeats> {
    let credential = Credential::new(Path::new("/kubeconfig"), &AuthInfo::default()).unwrap();
    let outage = Arc::new(Outage::new("https://server".to_owned(), "node-1".to_owned(), credential));
    Arc::new(Heartbeats::new(outage))
}

/// The Node becomes another machine's, whose last heartbeat was so long ago.
fn steal(server: &FakeServer, age_ms: i64) {
    server.write(NODE, json!({"status": {"nodeInfo": {"machineID": "other", "systemUUID": "other"}}}));
    server.write(LEASE, json!(plan::node::lease("node-1", "uid", now_ms() - age_ms)));
}

fn machine_id(server: &FakeServer) -> Value {
    server.get(NODE).unwrap()["status"]["nodeInfo"]["machineID"].clone()
}

#[tokio::test]
async fn a_new_node_is_one_request_and_a_known_one_three() {
    let server = FakeServer::default();
    let node = registration(&server).settle(Known::Nothing).await.unwrap();
    assert_eq!(server.asked(), ["POST node"]);
    assert_eq!(node.spec.unwrap().taints.unwrap()[0].key, plan::node::TAINT);

    // An agent that was started again: nothing is to be said.
    registration(&server).settle(Known::Nothing).await.unwrap();
    assert_eq!(server.asked(), ["POST node", "GET node"]);
    // The taint is only taken when the node is made; others' labels stay, ours are put right.
    server.write(NODE, json!({"spec": {"taints": null}, "metadata": {"labels": {"a": "b", "kubernetes.io/os": "x"}}}));
    let node = registration(&server).settle(Known::Nothing).await.unwrap();
    assert_eq!(server.asked(), ["POST node", "GET node", "PATCH node"]);
    let labels = node.metadata.labels.unwrap();
    assert_eq!((labels["a"].as_str(), labels["kubernetes.io/os"].as_str()), ("b", "linux"));
    assert_eq!(node.spec.unwrap().taints, None);
}

#[tokio::test]
async fn one_that_was_deleted_is_made_again_and_one_that_others_wrote_is_read_first() {
    let server = FakeServer::default();
    let mut registration = registration(&server);
    let node = registration.settle(Known::Nothing).await.unwrap();
    server.asked();
    registration.settle(Known::Read(Box::new(node.clone()))).await.unwrap();
    assert_eq!(server.asked(), [""; 0], "nothing changed");

    server.write(NODE, json!({"metadata": {"annotations": {"node.alpha.kubernetes.io/ttl": "0"}}}));
    registration.description.port = 10251;
    let node = registration.settle(Known::Read(Box::new(node))).await.unwrap();
    assert_eq!(server.asked(), ["PATCH node", "GET node", "PATCH node"]);
    assert_eq!(
        node.status.as_ref().unwrap().daemon_endpoints.as_ref().unwrap().kubelet_endpoint.as_ref().unwrap().port,
        10251
    );

    server.delete(NODE);
    registration.description.port = 10252;
    let again = registration.settle(Known::Read(Box::new(node.clone()))).await.unwrap();
    assert_eq!(server.asked(), ["PATCH node", "GET node", "POST node"]);
    assert_ne!(again.metadata.uid, node.metadata.uid);
}

#[tokio::test(start_paused = true)]
async fn another_machines_node_is_left_alone_until_that_one_is_silent() {
    let server = FakeServer::default();
    let mut registration = registration(&server);
    steal(&server, 3_000);
    for _ in 0..4 {
        let error = registration.settle(Known::Nothing).await.unwrap_err();
        let RegisterError::Taken { machine_id, heartbeat_ms } = error else { panic!("{error:?}") };
        assert!(
            machine_id == "other" && heartbeat_ms.is_some_and(|age| (3_000..20_000).contains(&age)),
            "{heartbeat_ms:?}"
        );
        assert_eq!(server.asked(), ["POST node", "GET node", "GET lease"]);
        tokio::time::advance(Duration::from_secs(11)).await;
        // It lives.
        steal(&server, 3_000);
    }
    // From here on it does not, whatever its clock says.
    steal(&server, -3_600_000);
    assert!(registration.settle(Known::Nothing).await.is_err());
    tokio::time::advance(Duration::from_secs(39)).await;
    assert!(registration.settle(Known::Unsure).await.is_err());
    assert_eq!(machine_id(&server), "other");
    tokio::time::advance(Duration::from_secs(2)).await;
    registration.settle(Known::Unsure).await.unwrap();
    assert_ne!(machine_id(&server), "other");
}

#[tokio::test(start_paused = true)]
async fn the_two_tasks_bring_a_deleted_node_back_and_end_when_it_is_anothers() {
    let server = FakeServer::default();
    let heartbeats = heartbeats();
    let mut uid = heartbeats.uid.subscribe();
    let kept = tokio::spawn(keep(server.client(), description(), Arc::clone(&heartbeats), events(), true));
    tokio::spawn(super::super::lease::renew(server.client(), "node-1".to_owned(), Arc::clone(&heartbeats)));
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let new_uid = |uid: &mut NodeUid, old: Option<String>| {
        let mut uid = uid.clone();
        async move { timeout(minutes(1), uid.wait_for(|now| now.is_some() && *now != old)).await.unwrap().unwrap().clone() }
    };
    let first = new_uid(&mut uid, None).await;
    assert_eq!(Some(server.get(NODE).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()), first);

    // A minute of its life: a renewal every 10 s, and nothing else but the role.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut asked = server.asked();
    asked.sort();
    asked.dedup_by(|a, b| a == b && a == "PATCH lease");
    assert_eq!(asked, ["GET lease", "PATCH lease", "PATCH node", "POST lease", "POST node"]);
    assert_eq!(server.get(NODE).unwrap()["metadata"]["labels"][ROLE], "");

    // The garbage collector takes the Lease along.
    server.delete(NODE);
    server.delete(LEASE);
    let second = new_uid(&mut uid, first.clone()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let owner = server.get(LEASE).unwrap()["metadata"]["ownerReferences"][0]["uid"].clone();
    assert_eq!(owner.as_str(), second.as_deref());

    steal(&server, 0);
    let lost = timeout(minutes(1), kept).await.unwrap().unwrap();
    assert!(lost.to_string().contains("(machine id other) has become the node \"node-1\""), "{lost}");
    assert_eq!(machine_id(&server), "other");
}

/// Whose the Node is does not hang on what it may say.
#[tokio::test(start_paused = true)]
async fn a_status_that_is_refused_keeps_neither_the_pods_nor_the_lease_waiting() {
    let server = FakeServer::default();
    registration(&server).settle(Known::Nothing).await.unwrap();
    server.refuse_node_status(true);
    let heartbeats = heartbeats();
    let mut uid = heartbeats.uid.subscribe();
    let mut moved = description();
    moved.port = 10251;
    tokio::spawn(keep(server.client(), moved, Arc::clone(&heartbeats), events(), false));
    tokio::spawn(super::super::lease::renew(server.client(), "node-1".to_owned(), Arc::clone(&heartbeats)));
    timeout(Duration::from_secs(5), uid.wait_for(Option::is_some)).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    // Somebody touches the Lease.
    server.write(LEASE, json!({"metadata": {"labels": {"a": "b"}}, "spec": {"renewTime": null}}));
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert!(server.get(LEASE).unwrap()["spec"]["renewTime"].is_string());
    let port =
        |server: &FakeServer| server.get(NODE).unwrap()["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].clone();
    assert_eq!(port(&server), 10250);
    server.refuse_node_status(false);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(port(&server), 10251);

    // What says another machine's name is not ours before it says this one's.
    server.refuse_node_status(true);
    steal(&server, 3_600_000);
    let mut registration = registration(&server);
    registration.settle(Known::Unsure).await.unwrap_err();
    tokio::time::advance(Duration::from_secs(60)).await;
    let error = registration.settle(Known::Unsure).await.unwrap_err();
    assert!(matches!(error, RegisterError::Request(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_systemd_that_is_not_heard_makes_the_node_unready() {
    // That it answers badly, and that it does not answer, is the same.
    for answers in [true, false] {
        let hears = Arc::new(AtomicBool::new(true));
        let heard = Arc::clone(&hears);
        let mut health = health(Box::new(move || {
            let hears = heard.load(Ordering::Relaxed);
            Box::pin(async move { if hears || answers { hears } else { std::future::pending().await } })
        }));
        health.look().await;
        assert_eq!(health.not_ready(), None);
        hears.store(false, Ordering::Relaxed);
        health.look().await;
        tokio::time::advance(Duration::from_secs(27)).await;
        health.look().await;
        assert_eq!(health.not_ready(), None, "it may be about to come back");
        tokio::time::advance(Duration::from_secs(3)).await;
        health.look().await;
        assert_eq!(health.not_ready().as_deref(), Some("systemd does not answer on D-Bus"));
        if answers {
            hears.store(true, Ordering::Relaxed);
            health.look().await;
            assert_eq!(health.not_ready(), None);
        }
    }
}

/// The watch has shown the Node as the other machine has written it: it is not written to without asking whose it is.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_seen_to_be_anothers_is_left_to_it() {
    let server = FakeServer::default();
    let heartbeats = heartbeats();
    let kept = tokio::spawn(keep(server.client(), description(), Arc::clone(&heartbeats), events(), false));
    let mut uid = heartbeats.uid.subscribe();
    uid.wait_for(Option::is_some).await.unwrap();
    steal(&server, 0);
    heartbeats.saw(serde_json::from_value(server.get(NODE).unwrap()).unwrap());
    timeout(Duration::from_secs(60), kept).await.unwrap().unwrap();
    assert_eq!(machine_id(&server), "other");
}

#[test]
fn a_report_starts_from_what_others_have_changed_last() {
    let heartbeats = heartbeats();
    let node = |uid: &str, version: &str| -> Node {
        serde_json::from_value(json!({"metadata": {"uid": uid, "resourceVersion": version}})).unwrap()
    };
    let newer = |seen: Node| {
        heartbeats.saw(seen);
        heartbeats.newer_than(&node("u", "9")).and_then(|node| node.metadata.resource_version)
    };
    assert_eq!(newer(node("u", "10")), Some("10".to_owned()));
    assert_eq!(newer(node("u", "9")), None);
    assert_eq!(newer(node("another", "11")), None);
    assert_eq!(heartbeats.newer_than(&node("u", "1")), None, "once");
}
