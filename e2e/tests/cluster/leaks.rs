//! Hundreds of pods come and go through the API and leave nothing: on the node, in the agent, and of its watches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::agent::SOON;
use e2e::control_plane::{ControlPlane, ControlPlaneSpec};
use e2e::eventually::wait_until;
use e2e::member::Member;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::shell;
use crate::robust::leaks::{footprint, mounts, paths};
use crate::robust::support::{agent_log, wait_nothing_left};

/// A node takes 110.
const BATCH: usize = 100;
/// A batch of many takes as long as the test may wait for anything else, on a busy machine.
const PATIENCE: Duration = SOON.saturating_mul(3);

/// Everything of the API that a pod can hold on to: a token, the CA, an object of its own and one that all have.
fn batch(member: &Member) -> String {
    let volumes = |own: &str| {
        json!([
            {"name": "own", "configMap": {"name": own}},
            {"name": "all", "secret": {"secretName": "all"}},
            {"name": "disk", "emptyDir": {}},
        ])
    };
    let mounts = json!([
        {"name": "own", "mountPath": "/own"}, {"name": "all", "mountPath": "/opt/all"}, {"name": "disk", "mountPath": "/d"},
    ]);
    let objects = (0..BATCH).flat_map(|number| {
        let name = format!("leak{number}");
        let metadata = json!({"name": name, "namespace": member.name, "labels": {"app": "leak"}});
        let mut main = shell("main", "trap exit TERM; sleep infinity & wait");
        main["volumeMounts"] = mounts.clone();
        let spec = json!({
            "nodeName": member.name, "terminationGracePeriodSeconds": 5, "containers": [main], "volumes": volumes(&name),
        });
        [
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"key": name}}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}),
        ]
    });
    let items: Vec<Value> = objects.collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// One batch, from nothing to nothing.
fn cycle(member: &Member) {
    let kubectl = member.kubectl();
    let create = ["create", "-f", "-"];
    let began = Instant::now();
    kubectl.output_with(PATIENCE, &create, &batch(member)).unwrap().ok().unwrap();
    let created = began.elapsed();
    let pods = || {
        let list = kubectl.find(&["pods", "-n", &member.name, "-l", "app=leak"]).ok().flatten();
        list.and_then(|list| list["items"].as_array().cloned()).unwrap_or_default()
    };
    let running = |pod: &&Value| pod["status"]["phase"] == "Running";
    wait_until("the batch to run", PATIENCE, || (pods().iter().filter(running).count() == BATCH).then_some(()))
        .unwrap_or_else(|error| panic!("{error:#}: {:#?}\n{}", pods().iter().find(|p| !running(p)), agent_log(member)));
    let ran = began.elapsed();
    let delete = ["delete", "pods,configmaps", "-n", &member.name, "-l", "app=leak", "--wait=false"];
    kubectl.output_with(PATIENCE, &delete, "").unwrap().ok().unwrap();
    wait_until("the batch to be gone", PATIENCE, || pods().is_empty().then_some(())).unwrap();
    let gone = began.elapsed();
    wait_nothing_left(member, "bystander");
    println!("created {created:?}, ran {ran:?}, gone {gone:?}, nothing left {:?}", began.elapsed());
}

/// How many watches of ConfigMaps and Secrets are open at this node's API server that are none of its own controllers'.
fn object_watches(member: &Member) -> u32 {
    let metrics = member.kubectl().run(&["get", "--raw", "/metrics"]).unwrap();
    let watches = metrics.lines().filter(|line| {
        line.starts_with("apiserver_longrunning_requests{")
            && line.contains("verb=\"WATCH\"")
            && (line.contains("resource=\"configmaps\"") || line.contains("resource=\"secrets\""))
    });
    watches.filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).sum()
}

fn pods_of_the_api_leave_nothing(systemd: Systemd) {
    let cluster = Arc::new(ControlPlane::start(ControlPlaneSpec::for_test("leaks")).unwrap());
    let member = Member::join_to(cluster, systemd, "leaks", "").unwrap();
    let secret = ["create", "secret", "generic", "all", "-n", &member.name, "--from-literal=key=value"];
    member.kubectl().run(&secret).unwrap();
    let watches = object_watches(&member);
    let before = (paths(&member), mounts(&member));
    // The first batch fills caches and the allocator's pools.
    cycle(&member);
    let (descriptors, resident) = footprint(&member);

    // Five hundred with the first ones.
    let batches = if systemd == Systemd::V257 { 4 } else { 1 };
    let began = Instant::now();
    for _ in 0..batches {
        cycle(&member);
    }
    println!("{} pods in {:?}", batches * BATCH, began.elapsed());
    let now = paths(&member);
    let new: Vec<&str> = now.lines().filter(|path| !before.0.lines().any(|old| old == *path)).collect();
    assert!(new.is_empty() && now.len() == before.0.len(), "paths that came: {new:?}");
    assert_eq!(mounts(&member), before.1);
    wait_until("the agent's descriptors to be closed", SOON, || {
        (footprint(&member).0 <= descriptors + 2).then_some(())
    })
    .unwrap_or_else(|e| panic!("{e:#}: {descriptors}, now {:?}\n{}", footprint(&member), agent_log(&member)));
    wait_until("its watches to be closed", SOON, || (object_watches(&member) <= watches).then_some(()))
        .unwrap_or_else(|e| panic!("{e:#}: {watches}, now {}", object_watches(&member)));
    let now = footprint(&member).1;
    println!("the agent's memory: {resident} KiB, then {now} KiB");
    assert!(now < resident + 8 * 1024, "the agent grew from {resident} KiB to {now} KiB");
}

on_both!(pods_of_the_api_leave_nothing);
