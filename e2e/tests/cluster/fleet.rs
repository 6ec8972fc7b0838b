//! Many nodes at once: none is forgotten when the API server was away, none asks for more than it must, and nothing is started
//! twice. `cargo xtask bench fleet` measures two hundred of them.

use std::collections::{BTreeMap, BTreeSet};

use e2e::agent::{self, SOON};
use e2e::control_plane::{AuditEvent, ControlPlane, ControlPlaneSpec};
use e2e::eventually::wait_until;
use e2e::fleet::Fleet;

const NODES: usize = 20;
const PODS: usize = 2;

/// The nodes' requests from line `from` of the audit log on.
fn requests(fleet: &Fleet, from: usize) -> Vec<AuditEvent> {
    let all = fleet.cluster.audit().unwrap().into_iter().skip(from);
    all.filter(|event| event.is_request() && event.user.username.starts_with("system:node:")).collect()
}

#[test]
fn twenty_nodes_lose_their_server_and_find_it_again() {
    let cluster = ControlPlane::start(ControlPlaneSpec::for_test("fleet").api_only().audited()).unwrap();
    let mut fleet = Fleet::new(cluster, &agent::binary().unwrap()).unwrap();
    fleet.grow(NODES).unwrap();
    fleet.wait_ready(2 * SOON).unwrap();
    fleet.run_pods("first", PODS).unwrap();
    fleet.wait_running(NODES * PODS, 2 * SOON).unwrap();
    let plain: Vec<String> =
        requests(&fleet, 0).into_iter().filter(AuditEvent::is_plain_list).map(|event| event.request_uri).collect();
    assert!(plain.is_empty(), "{plain:#?}");

    fleet.cluster.kill_api_server().unwrap();
    // Each has met it, and says so once.
    wait_until("all nodes to see that it is away", SOON, || {
        fleet.nodes.iter().all(|node| node.said().contains("pods that run go on")).then_some(())
    })
    .unwrap();
    let before = fleet.cluster.audit().unwrap().len();
    fleet.cluster.start_api_server().unwrap();
    // What a restarted server remembers of changes begins anew: who comes with a version from before is answered 410.
    fleet.run_pods("second", PODS).unwrap();
    fleet.wait_running(2 * NODES * PODS, 2 * SOON).unwrap();
    let renewed = |events: &[AuditEvent]| -> BTreeSet<String> {
        let leases = events.iter().filter(|event| event.what() == "patch leases" && event.response_status.code == 200);
        leases.map(|event| event.user.username.clone()).collect()
    };
    wait_until("a heartbeat of each node", SOON, || (renewed(&requests(&fleet, before)).len() == NODES).then_some(()))
        .unwrap();

    let mut asked: BTreeMap<(String, String), usize> = BTreeMap::new();
    // Some are refused while the server does not yet know who may what.
    let answered = requests(&fleet, before).into_iter().filter(|event| event.response_status.code < 300);
    for event in answered.filter(AuditEvent::asks_for_all) {
        *asked.entry((event.user.username, event.object_ref.resource)).or_default() += 1;
    }
    assert!(asked.values().all(|times| *times == 1), "{asked:#?}");
    let starts = fleet.starts();
    assert_eq!(starts.len(), 2 * NODES * PODS);
    assert!(starts.values().all(|times| *times == 1), "{starts:#?}");
}
