//! `systemk ps`: a table for people, documents for programs.

use e2e::agent::Node;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::support::*;

on_both! { pods_are_listed }

/// The row of a pod, its cells as a person tells them apart.
fn row(table: &str, name: &str) -> Vec<String> {
    let rows: Vec<Vec<String>> = table.lines().map(|l| l.split("   ").map(|c| c.trim().to_owned()).collect()).collect();
    let rows = rows.into_iter().map(|row| row.into_iter().filter(|cell| !cell.is_empty()).collect::<Vec<_>>());
    let mut found = rows.filter(|row| row.get(1).is_some_and(|cell| cell == name));
    found.next().unwrap_or_else(|| panic!("no row of {name} in:\n{table}"))
}

/// `3s`, `2m5s`.
fn is_age(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && text.ends_with(['s', 'm'])
}

fn apply_all(node: &Node) {
    let mut web = polite("web");
    web["metadata"]["namespace"] = json!("shop");
    web["spec"]["containers"].as_array_mut().unwrap().push(shell("side", "sleep infinity"));
    node.apply("web.json", &web.to_string()).unwrap();
    node.apply("crash.json", &pod("crash", json!({"containers": [shell("main", "exit 3")]})).to_string()).unwrap();
    node.apply("ended.json", &once("ended", "exit 0").to_string()).unwrap();
    node.apply("failed.json", &once("failed", "exit 4").to_string()).unwrap();
    let mut refused = polite("refused");
    refused["spec"]["hostAliases"] = json!([{"ip": "10.0.0.9", "hostnames": ["x"]}]);
    node.apply("refused.json", &refused.to_string()).unwrap();
    node.apply(
        "image.json",
        &pod("image", json!({"containers": [{"name": "main", "image": "docker.io/library/x:1"}]})).to_string(),
    )
    .unwrap();
    let init = json!({"initContainers": [shell("wait", "sleep infinity")], "containers": [shell("main", "exit 0")]});
    node.apply("init.json", &pod("init", init).to_string()).unwrap();
    node.wait_ready("web").unwrap();
    node.wait_status("crash", "CrashLoopBackOff", |s| {
        s["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    })
    .unwrap();
    node.wait_status("ended", "an end", |s| s["phase"] == "Succeeded").unwrap();
    node.wait_status("failed", "an end", |s| s["phase"] == "Failed").unwrap();
    node.wait_status("refused", "a refusal", |s| s["phase"] == "Failed").unwrap();
    node.wait_status("image", "a refusal", |s| !s["containerStatuses"][0]["state"]["waiting"]["reason"].is_null())
        .unwrap();
    node.wait_status("init", "its first container", |s| s["initContainerStatuses"][0]["state"]["running"].is_object())
        .unwrap();
}

fn pods_are_listed(systemd: Systemd) {
    let node = installed(systemd, "cli-ps");
    let none = exec(&node, "systemk ps");
    assert_eq!((none.code, none.stdout.as_str()), (0, ""));
    holds(&none.stderr, &["no pods: run one with 'systemk run FILE'"]);
    let list: Value = serde_json::from_str(&ok(&node, "systemk ps -o json")).unwrap();
    assert_eq!(list, json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": []}));

    apply_all(&node);
    let table = ok(&node, "systemk ps");
    assert_eq!(
        table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    );
    assert_eq!(table.lines().count(), 8, "{table}");
    assert!(table.lines().all(|line| line.trim_end() == line), "{table}");
    let expected = [
        ["shop", "web", "2/2", "Running", "0"],
        ["default", "ended", "0/1", "Completed", "0"],
        ["default", "failed", "0/1", "Error", "0"],
        ["default", "refused", "0/1", "Unsupported", "0"],
        ["default", "image", "0/1", "ErrImagePull", "0"],
        ["default", "init", "0/1", "Init:0/1", "0"],
    ];
    for cells in expected {
        let row = row(&table, cells[1]);
        assert_eq!(row[..5], cells, "{table}");
        assert!(is_age(&row[5]), "{table}");
    }
    let crash = row(&table, "crash");
    assert_eq!(crash[..4], ["default", "crash", "0/1", "CrashLoopBackOff"]);
    assert!(crash[4].ends_with(" ago)"), "{table}");

    let wide = ok(&node, "systemk ps -n shop -o wide");
    assert_eq!(wide.lines().count(), 2, "{wide}");
    let row = row(&wide, "web");
    let units = format!("{},{}", node.unit("web", "main").unwrap(), node.unit("web", "side").unwrap());
    assert_eq!(row[6..], ["192.0.2.7", "/bin/bash,/bin/bash", &units, "/etc/systemk/manifests/web.json"], "{wide}");
    let other = exec(&node, "systemk ps -n other");
    assert_eq!((other.code, other.stdout.as_str(), other.stderr.as_str()), (0, "", "no pods in the namespace other\n"));
    fails(&node, "systemk ps -o xml", 2, &["invalid value 'xml' for '--output <FORMAT>'", "json, yaml, wide"]);
    documents(&node);

    ok(&node, "systemctl stop systemk");
    let stale = exec(&node, "systemk ps");
    assert_eq!((stale.code, stale.stdout.lines().count()), (0, 8));
    holds(&stale.stderr, &["no agent runs here: this is what the last one said, and nobody restarts these pods"]);
    fails(
        &node,
        "setpriv --reuid 65534 systemk ps",
        1,
        &["/run/systemk/pods can be read by root only: run this command as root"],
    );
}

/// What a program gets is what the pods are.
fn documents(node: &Node) {
    let list: Value = serde_json::from_str(&ok(node, "systemk ps -o json -n shop")).unwrap();
    let yaml: Value = serde_saphyr::from_str(&ok(node, "systemk ps -o yaml -n shop")).unwrap();
    assert_eq!(list, yaml);
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("PodList"), &json!("v1")));
    let web = &list["items"][0];
    assert_eq!(web["metadata"]["namespace"], "shop");
    assert_eq!(web["metadata"]["creationTimestamp"], web["status"]["startTime"]);
    assert_eq!(web["spec"]["containers"][1]["command"][2], "sleep infinity");
    assert_eq!((&web["status"]["phase"], &web["status"]["podIP"]), (&json!("Running"), &json!("192.0.2.7")));
    assert_eq!(web["status"]["containerStatuses"][0]["state"]["running"]["startedAt"].as_str().map(str::len), Some(20));

    let all = pods(node);
    let of = |name: &str| all.iter().find(|pod| pod["metadata"]["name"] == name).unwrap()["status"].clone();
    assert_eq!(of("crash")["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(of("failed")["containerStatuses"][0]["state"]["terminated"]["exitCode"], 4);
    assert_eq!(of("refused")["reason"], "Unsupported");
    holds(of("refused")["message"].as_str().unwrap(), &["spec.hostAliases"]);
}
