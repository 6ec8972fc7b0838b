//! What the API server is asked for, by its own audit log: nothing that a kubelet may not, nothing in vain, and little.

use std::collections::BTreeMap;
use std::sync::Arc;

use e2e::agent::SOON;
use e2e::control_plane::{AuditEvent, ControlPlane, ControlPlaneSpec};
use e2e::eventually::wait_until;
use e2e::member::Member;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::shell;

/// The requests of the node so far, each once.
fn requests(member: &Member) -> Vec<AuditEvent> {
    let user = format!("system:node:{}", member.name);
    let all = member.cluster.audit().unwrap();
    all.into_iter().filter(|event| event.user.username == user && event.is_request()).collect()
}

fn counted(events: &[AuditEvent]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    events.iter().for_each(|event| *counts.entry(event.what()).or_default() += 1);
    counts
}

/// What was asked for in vain. Gone already and there already are answers like any other; what is refused for a moment, as by
/// the authorizer that has not heard yet of a pod that was bound just now, is granted when it is asked for again.
fn refused(all: &[AuditEvent]) -> Vec<String> {
    let is_answer = |event: &AuditEvent| matches!(event.response_status.code, 0 | 200 | 201 | 404 | 409);
    let path = |event: &AuditEvent| event.request_uri.split('?').next().map(str::to_owned);
    let granted = |(at, event): (usize, &AuditEvent)| {
        all[at..].iter().any(|later| {
            later.verb == event.verb && path(later) == path(event) && matches!(later.response_status.code, 200 | 201)
        })
    };
    all.iter()
        .enumerate()
        .filter(|(at, event)| !is_answer(event) && !granted((*at, event)))
        .map(|(_, event)| format!("{} {} {}", event.response_status.code, event.what(), event.request_uri))
        .collect()
}

/// With a token and its CA as every pod has them, of one namespace.
fn pod() -> Value {
    json!({"terminationGracePeriodSeconds": 2, "containers": [shell("main", "trap exit TERM; sleep infinity & wait")]})
}

const PODS: usize = 10;

/// All that a node does in the life of its pods, with the whole cluster around it.
#[test]
fn a_life_of_ten_pods() {
    let cluster = Arc::new(ControlPlane::start(ControlPlaneSpec::for_test("audited").audited()).unwrap());
    let member = Member::join_to(cluster, Systemd::V257, "audited", "").unwrap();
    // The first pod of a namespace brings its CA along.
    member.run("first", pod()).unwrap();
    member.wait_running("first").unwrap();
    let settled = |what: &str, is: &dyn Fn(&BTreeMap<String, usize>) -> bool| {
        wait_until(what, SOON, || is(&counted(&requests(&member))).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {:#?}", counted(&requests(&member))));
    };
    settled("the first pod's events", &|counts| counts.get("create events").is_some_and(|n| *n >= 2));
    let before = requests(&member).len();
    let heartbeats = |events: &[AuditEvent]| events.iter().filter(|e| e.object_ref.resource == "leases").count();
    let beats_before = heartbeats(&requests(&member));

    (0..PODS).for_each(|number| member.run(&format!("pod-{number}"), pod()).unwrap());
    (0..PODS).for_each(|number| drop(member.wait_running(&format!("pod-{number}")).unwrap()));
    settled("all events", &|counts| counts.get("create events").is_some_and(|n| *n >= 2 * (PODS + 1)));
    let after = requests(&member);
    let spent = after.len() - before - (heartbeats(&after) - beats_before);
    // A start: status, token, events. Measured 4 per pod; a kubelet with containerd makes 12.5 to 15.
    assert!(spent <= 6 * PODS, "{spent} requests for {PODS} pods: {:#?}", counted(&after[before..]));

    (0..PODS).for_each(|number| {
        let name = format!("pod-{number}");
        member.kubectl().run(&["delete", "pod", &name, "-n", &member.name, "--wait=false"]).unwrap();
    });
    (0..PODS).for_each(|number| member.wait_deleted(&format!("pod-{number}")).unwrap());
    let all = requests(&member);
    let refused = refused(&all);
    assert!(refused.is_empty(), "{refused:#?}");
    const MAY: [&str; 13] = [
        "create events",
        "create leases",
        "create nodes",
        "create pods",
        "create serviceaccounts/token",
        "delete pods",
        "get leases",
        "get nodes",
        "patch events",
        "patch leases",
        "patch nodes/status",
        "patch pods/status",
        "update leases",
    ];
    let watches = ["watch configmaps", "watch nodes", "watch pods", "watch secrets", "watch services"];
    let strange: Vec<String> = counted(&all)
        .into_keys()
        .filter(|what| !MAY.contains(&what.as_str()) && !watches.contains(&what.as_str()))
        .collect();
    assert!(strange.is_empty(), "{strange:?} in {:#?}", counted(&all));
    assert!(all.iter().all(|event| event.user_agent.starts_with("systemk/")), "{:?}", all[0].user_agent);
}
