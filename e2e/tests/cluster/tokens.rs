//! Tokens of service accounts and the variables of services: what a pod is given is used by an unmodified client in it.

use std::time::{Duration, Instant};

use e2e::agent::SOON;
use e2e::control_plane::Fault;
use e2e::eventually::wait_until;
use e2e::member::{Member, cluster};
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::script;

on_both! {
    the_usual_volume_is_a_way_to_the_api_server
    tokens_have_their_audience_and_their_owner
    services_are_in_the_environment
    a_token_that_cannot_be_had_is_waited_for
    a_token_is_renewed_before_it_ends
}

/// The API server's word on a token; None: it does not know it.
fn review(member: &Member, token: &str, audiences: &[&str]) -> Option<Value> {
    let spec = json!({"token": token, "audiences": audiences});
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}).to_string();
    let kubectl = member.kubectl();
    let output = kubectl.output_with(Duration::from_secs(60), &["create", "-o", "json", "-f", "-"], &review).unwrap();
    let review: Value = serde_json::from_str(&output.ok().unwrap()).unwrap();
    (review["status"]["authenticated"] == true).then(|| review["status"].clone())
}

/// What a volume's file holds, as the host has it.
fn file(member: &Member, pod: &Value, volume: &str, path: &str) -> String {
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    member.sandbox.read_file(format!("/run/systemk/pods/{uid}/volumes/{volume}/..data/{path}")).unwrap_or_default()
}

fn create_account(member: &Member, name: &str) {
    member.kubectl().run(&["create", "serviceaccount", name, "-n", &member.name]).unwrap();
}

/// A pod with one token in a volume `t`, of which it prints mode, owners and whether its program may read it.
fn owner_of(projection: &Value, mode: u32, context: &Value) -> Value {
    let mut spec = script("stat -Lc 'is %a %u %g' /t/dir/token; test -s /t/dir/token && echo readable; sleep infinity");
    spec["volumes"] = json!([{
        "name": "t",
        "projected": {"defaultMode": mode, "sources": [{"serviceAccountToken": projection}]},
    }]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "t", "mountPath": "/t"}]);
    spec["securityContext"] = context.clone();
    spec
}

fn the_usual_volume_is_a_way_to_the_api_server(systemd: Systemd) {
    let member = Member::join(systemd, "account").unwrap();
    create_account(&member, "robot");
    let mut spec = script(
        "cd /var/run/secrets/kubernetes.io/serviceaccount; stat -Lc '%n is %a %u' token ca.crt namespace
        HOME=/tmp kubectl auth whoami -o json | tr -d ' \\n'; echo; echo in \"$(cat namespace)\"
        while true; do md5sum <token; sleep 0.2; done",
    );
    // What the API server adds by itself: the volume kube-api-access-….
    spec["automountServiceAccountToken"] = json!(true);
    spec["serviceAccountName"] = json!("robot");
    member.run("client", spec).unwrap();
    let pod = member.wait_running("client").unwrap();
    let log = member.wait_log("client", "main", &format!("in {}", member.name)).unwrap();
    for file in ["token is 644 0", "ca.crt is 644 0", "namespace is 644 0"] {
        assert!(log.contains(file), "{log}");
    }
    // Its own account, by a token that is this pod's.
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    assert!(log.contains(&format!("\"username\":\"system:serviceaccount:{}:robot\"", member.name)), "{log}");
    assert!(log.contains(&format!("\"authentication.kubernetes.io/pod-uid\":[\"{uid}\"]")), "{log}");
    assert!(log.contains("\"authentication.kubernetes.io/pod-name\":[\"client\"]"), "{log}");

    let volume = pod["spec"]["volumes"][0]["name"].as_str().unwrap();
    let token = file(&member, &pod, volume, "token");
    assert!(review(&member, &token, &[]).is_some());
    // A new agent asks for a new one and the file is exchanged below the running program.
    member.sandbox.run(&["systemctl", "restart", "systemk"]).unwrap();
    let renewed = wait_until("a new token", SOON, || {
        let now = file(&member, &pod, volume, "token");
        (!now.is_empty() && now != token).then_some(now)
    })
    .unwrap();
    member.sandbox.write_file("/tmp/renewed", &renewed).unwrap();
    let sum = member.sandbox.sh("md5sum </tmp/renewed").unwrap();
    member.wait_log("client", "main", sum.trim()).unwrap();
    let status = member.pod("client").unwrap().unwrap()["status"].clone();
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0);

    // It is in the volume and nowhere else.
    member.sandbox.write_file("/tmp/tokens", format!("{token}\n{renewed}\n")).unwrap();
    let places = "journalctl --no-pager -o export | grep -cF -f /tmp/tokens || true
        grep -lF -f /tmp/tokens /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null || true
        grep -rlF -f /tmp/tokens /run/systemd/system /run/systemk /var/lib/systemk 2>/dev/null | grep -v /volumes/ || true";
    assert_eq!(member.sandbox.sh(places).unwrap().trim(), "0");

    // With the pod its tokens end.
    member.kubectl().run(&["delete", "pod", "client", "-n", &member.name, "--wait=false"]).unwrap();
    member.wait_deleted("client").unwrap();
    wait_until("the token to end", SOON, || review(&member, &renewed, &[]).is_none().then_some(())).unwrap();
    assert_eq!(file(&member, &pod, volume, "token"), "");
}

/// A server that grants less than was asked for: the next one is asked for by what was granted, and exchanged below the
/// running program.
fn a_token_is_renewed_before_it_ends(systemd: Systemd) {
    let member = Member::prepare(cluster().unwrap(), systemd, "renewed", "").unwrap();
    let proxy = member.behind_proxy().unwrap();
    let (status, spec) = (
        json!({"token": "soon-over", "expirationTimestamp": "2026-01-01T00:00:20Z"}),
        json!({"audiences": ["vault"], "expirationSeconds": 20}),
    );
    let short =
        json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec, "status": status});
    proxy.inject_times(1, "create serviceaccounts/token", Fault::Say(short.to_string()));
    member.start_agent().unwrap();
    let projection = json!({"audience": "vault", "expirationSeconds": 600, "path": "token"});
    let mut spec = script("while true; do echo \"has $(cut -c1-9 </t/token)\"; sleep 0.2; done");
    spec["volumes"] = json!([{"name": "t", "projected": {"sources": [{"serviceAccountToken": projection}]}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "t", "mountPath": "/t"}]);
    member.run("renews", spec).unwrap();
    member.wait_log("renews", "main", "has soon-over").unwrap();
    let began = Instant::now();
    // The beginning of every JWT.
    member.wait_log("renews", "main", "has eyJhbGciO").unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "before it ends: {:?}", began.elapsed());
    assert_eq!(proxy.seen_since(began - SOON, "create serviceaccounts/token").len(), 2);
    let status = member.pod("renews").unwrap().unwrap()["status"].clone();
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0);
}

fn tokens_have_their_audience_and_their_owner(systemd: Systemd) {
    let member = Member::join(systemd, "audience").unwrap();
    let projection = json!({"audience": "vault", "expirationSeconds": 600, "path": "dir/token"});
    let pods = [
        ("plain", json!({}), "is 440 0 0"),
        ("user", json!({"runAsUser": 1234}), "is 600 1234 0"),
        ("group", json!({"fsGroup": 4321}), "is 640 0 4321"),
        ("both", json!({"runAsUser": 1234, "runAsGroup": 1234, "fsGroup": 4321}), "is 640 1234 4321"),
    ];
    for (name, context, _) in &pods {
        member.run(name, owner_of(&projection, 0o440, context)).unwrap();
    }
    for (name, _, expected) in pods {
        let log = member.wait_log(name, "main", "readable").unwrap();
        assert!(log.contains(expected), "{name}: {log}");
    }
    let pod = member.pod("user").unwrap().unwrap();
    let token = file(&member, &pod, "t", "dir/token");
    let status = review(&member, &token, &["vault"]).unwrap();
    assert_eq!(status["audiences"], json!(["vault"]));
    assert_eq!(status["user"]["username"], format!("system:serviceaccount:{}:default", member.name));
    let extra = |key: &str| status["user"]["extra"][format!("authentication.kubernetes.io/{key}")][0].clone();
    assert_eq!((extra("pod-name"), extra("pod-uid")), (json!("user"), pod["metadata"]["uid"].clone()));
    assert_eq!(extra("node-name"), json!(member.name));
    assert!(review(&member, &token, &[]).is_none(), "it is not for the API server");
}

fn services_are_in_the_environment(systemd: Systemd) {
    let cluster = e2e::member::cluster().unwrap();
    let member = Member::prepare(cluster, systemd, "services", "").unwrap();
    let service = |name: &str, spec: Value| {
        let metadata = json!({"name": name, "namespace": member.name});
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
        member.kubectl().apply(&service.to_string()).unwrap();
    };
    let ports = json!([{"name": "http", "port": 80}, {"name": "dns-udp", "port": 53, "protocol": "UDP"}]);
    service("web-front", json!({"ports": ports}));
    service("headless", json!({"clusterIP": "None", "ports": [{"port": 1}]}));
    service("outside", json!({"type": "ExternalName", "externalName": "example.com"}));
    let known = member.kubectl().get(&["service", "web-front", "-n", &member.name]).unwrap();
    let ip = known["spec"]["clusterIP"].as_str().unwrap();
    member.start_agent().unwrap();

    let mut linked = script("env | sort; echo \"says $0\"; sleep infinity");
    linked["containers"][0]["command"].as_array_mut().unwrap().push(json!("$(WEB_FRONT_SERVICE_HOST) $(SAID)"));
    linked["containers"][0]["env"] = json!([
        {"name": "SAID", "value": "$(WEB_FRONT_SERVICE_PORT_HTTP)"},
        {"name": "WEB_FRONT_PORT_80_TCP_PROTO", "value": "mine"},
    ]);
    let mut unlinked = script("env | sort; echo says; sleep infinity");
    unlinked["enableServiceLinks"] = json!(false);
    member.run("linked", linked).unwrap();
    member.run("unlinked", unlinked).unwrap();
    let all = member.wait_log("linked", "main", &format!("says {ip} 80")).unwrap();
    for line in [
        format!("WEB_FRONT_SERVICE_HOST={ip}"),
        "WEB_FRONT_SERVICE_PORT=80".to_owned(),
        "WEB_FRONT_SERVICE_PORT_DNS_UDP=53".to_owned(),
        format!("WEB_FRONT_PORT=tcp://{ip}:80"),
        format!("WEB_FRONT_PORT_53_UDP=udp://{ip}:53"),
        "WEB_FRONT_PORT_80_TCP_PROTO=mine".to_owned(),
    ] {
        assert!(all.lines().any(|l| l == line), "{line}\n{all}");
    }
    assert!(!all.contains("HEADLESS_") && !all.contains("OUTSIDE_"), "{all}");
    let alone = member.wait_log("unlinked", "main", "says").unwrap();
    assert!(!alone.contains("WEB_FRONT_"), "{alone}");
    // Where the node itself finds the API server.
    let server = member.cluster.server();
    let (host, port) = server.trim_start_matches("https://").rsplit_once(':').unwrap();
    for log in [&all, &alone] {
        for line in [format!("KUBERNETES_SERVICE_HOST={host}"), format!("KUBERNETES_SERVICE_PORT={port}")] {
            assert!(log.lines().any(|l| l == line), "{line}\n{log}");
        }
    }
}

fn a_token_that_cannot_be_had_is_waited_for(systemd: Systemd) {
    let cluster = e2e::member::cluster().unwrap();
    let member = Member::prepare(cluster, systemd, "noaccount", "").unwrap();
    create_account(&member, "robot");
    let mut spec = owner_of(&json!({"path": "dir/token"}), 0o644, &json!({}));
    spec["serviceAccountName"] = json!("robot");
    member.run("waits", spec).unwrap();
    member.kubectl().run(&["delete", "serviceaccount", "robot", "-n", &member.name]).unwrap();
    member.start_agent().unwrap();
    let why = "MountVolume.SetUp failed for volume \"t\" : failed to fetch token: serviceaccounts \"robot\" not found";
    let waits = |status: &Value| status["containerStatuses"][0]["state"]["waiting"]["message"] == why;
    member.wait_pod("waits", "the pod to wait for its token", waits).unwrap();
    // It is not held up when it is not wanted any more, nor for good.
    create_account(&member, "robot");
    member.wait_log("waits", "main", "readable").unwrap();
}
