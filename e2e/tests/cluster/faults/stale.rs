//! An API server that lags: what it gives is older than what it has given before.

use std::time::Instant;

use e2e::control_plane::Fault;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::{assert_converged, assert_untouched, behind, run, starts, wait_seen};

on_both! { what_is_gone_does_not_come_back }

fn what_is_gone_does_not_come_back(systemd: Systemd) {
    let (proxy, member) = behind(systemd, "stale");
    let stays = run(&member, "stays");
    run(&member, "goes");
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", member.name);
    let old = member.kubectl().run(&["get", "--raw", &path]).unwrap();
    member.kubectl().run(&["delete", "pod", "goes", "-n", &member.name]).unwrap();
    member.wait_gone("goes").unwrap();
    // In the old list this one is not yet.
    let new = run(&member, "new");

    let events = told(&serde_json::from_str(&old).unwrap());
    let since = Instant::now();
    proxy.inject("watch pods", Fault::Say(events.clone()));
    proxy.inject_times(1, "watch pods", Fault::Refuse(410, None));
    proxy.reset();
    wait_seen(&proxy, since, "watch pods", 4);
    proxy.clear();
    assert_converged(&member, "later");
    assert_untouched(&member, "stays", &stays);
    assert_untouched(&member, "new", &new);
    assert_eq!((starts(&member, "goes"), member.report("goes")), (1, None));

    // And a watch that goes on with what was before.
    let since = Instant::now();
    proxy.inject_times(2, "watch pods", Fault::Say(events));
    proxy.reset();
    wait_seen(&proxy, since, "watch pods", 3);
    assert_converged(&member, "last");
    assert_untouched(&member, "stays", &stays);
    assert_eq!((starts(&member, "goes"), member.report("goes")), (1, None));
}

/// A list as the beginning of a watch.
fn told(list: &Value) -> String {
    let events = list["items"].as_array().unwrap().iter().map(|pod| {
        let mut pod = pod.clone();
        (pod["apiVersion"], pod["kind"]) = (json!("v1"), json!("Pod"));
        json!({"type": "ADDED", "object": pod})
    });
    let version = &list["metadata"]["resourceVersion"];
    let metadata = json!({"resourceVersion": version, "annotations": {"k8s.io/initial-events-end": "true"}});
    let end = json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}});
    events.chain([end]).map(|event| format!("{event}\n")).collect()
}
