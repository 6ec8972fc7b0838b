//! The API server goes away: pods run on and are started again, and what happened meanwhile is told when it is back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::agent::SOON;
use e2e::control_plane::{ControlPlane, ControlPlaneSpec};
use e2e::eventually::wait_until;
use e2e::member::Member;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::node::is_ready;
use super::script;

on_both! { killed silent }

/// A node of a control plane of its own, with one pod that runs.
fn member(systemd: Systemd, what: &str) -> Member {
    let cluster = Arc::new(ControlPlane::start(ControlPlaneSpec::for_test(what)).unwrap());
    let member = Member::join_to(cluster, systemd, what, "").unwrap();
    member.run("serves", script("echo runs; sleep infinity & wait")).unwrap();
    member.wait_running("serves").unwrap();
    member
}

/// Its control plane, which it shares with nobody.
fn own(member: &mut Member) -> &mut ControlPlane {
    Arc::get_mut(&mut member.cluster).unwrap()
}

/// Of a manifest; it says that it has a port of the host, and leaves it alone.
fn claims(name: &str, grace_s: i64) -> String {
    let mut spec = script("sleep infinity & wait");
    spec["terminationGracePeriodSeconds"] = json!(grace_s);
    spec["containers"][0]["ports"] = json!([{"containerPort": 18_080}]);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}).to_string()
}

/// Makes a pod and waits for it. The watch that brings it may wait for a minute after an outage, longer than anything else.
fn run_after(member: &Member, name: &str) -> Value {
    member.run(name, script("sleep infinity & wait")).unwrap();
    wait_until(name, 3 * SOON, || member.wait_running(name).ok()).unwrap()
}

fn restarts(pod: &Value) -> i64 {
    pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or(-1)
}

fn kill_program(member: &Member) {
    let unit = member.unit("serves", "main").unwrap();
    member.sandbox.run(&["systemctl", "kill", "-s", "KILL", &unit]).unwrap();
}

fn wait_restarts(member: &Member, count: i64) {
    let again =
        |status: &Value| status["containerStatuses"][0]["restartCount"] == count && status["phase"] == "Running";
    let report = member.wait_status("serves", "a restart", again).unwrap();
    assert_eq!(restarts(&report["pod"]), count);
}

fn killed(systemd: Systemd) {
    let mut member = member(systemd, "outage");
    own(&mut member).kill_api_server().unwrap();
    kill_program(&member);
    wait_restarts(&member, 1);
    own(&mut member).start_api_server().unwrap();
    let told = member.wait_pod("serves", "the restart", |s| s["containerStatuses"][0]["restartCount"] == 1).unwrap();
    assert_eq!(told["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 137);
    // And the watch is there again.
    run_after(&member, "later");
    let before = member.pod("serves").unwrap().unwrap();

    // An agent that comes while the API server is away touches nothing of it, and goes on with the manifests: one that was edited
    // meanwhile stops, and its successor comes before who has waited for its port.
    member.apply("web.json", &claims("web", 5)).unwrap();
    member.wait_ready("web").unwrap();
    member.apply("next.json", &claims("next", 5)).unwrap();
    let waits = || member.report("next").filter(|r| r["pod"]["status"]["phase"] == "Pending");
    wait_until("the next in line", SOON, waits).unwrap();
    own(&mut member).kill_api_server().unwrap();
    member.sandbox.run(&["systemctl", "stop", "systemk"]).unwrap();
    member.apply("web.json", &claims("web", 6)).unwrap();
    member.start_agent().unwrap();
    let edited = || {
        let is = |r: &Value| {
            r["pod"]["spec"]["terminationGracePeriodSeconds"] == 6 && r["pod"]["status"]["phase"] == "Running"
        };
        member.reports().into_iter().find(is)
    };
    wait_until("the edited one", SOON, edited).unwrap();
    assert_eq!(member.report("next").unwrap()["pod"]["status"]["phase"], "Pending");
    let line = || member.sandbox.sh("journalctl -u systemk --no-pager -o cat | grep 'pods that run go on'").ok();
    wait_until("the outage to be told", SOON, line).unwrap();
    own(&mut member).start_api_server().unwrap();
    run_after(&member, "last");
    let after = member.pod("serves").unwrap().unwrap();
    let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    assert_eq!((id(&before), restarts(&after)), (id(&after), 1));
}

/// It keeps its connections open and says nothing: only the client's own pings find out.
fn silent(systemd: Systemd) {
    let member = member(systemd, "silent");
    member.cluster.pause_api_server().unwrap();
    kill_program(&member);
    wait_restarts(&member, 1);
    let renewed = || {
        let lease = member.kubectl().find(&["lease", &member.name, "-n", "kube-node-lease"]).ok()??;
        lease["spec"]["renewTime"].as_str().map(str::to_owned)
    };
    let told = || member.sandbox.sh("journalctl -u systemk --no-pager -o cat | grep 'does not answer'").ok();
    wait_until("the silence to be told", 2 * SOON, told).unwrap();
    member.cluster.resume_api_server().unwrap();
    let before = wait_until("the lease", SOON, renewed).unwrap();
    wait_until("a heartbeat", SOON, || renewed().filter(|now| *now != before)).unwrap();
    member.wait_pod("serves", "the restart", |s| s["containerStatuses"][0]["restartCount"] == 1).unwrap();
    let later = run_after(&member, "later");
    assert_eq!(later["status"]["containerStatuses"][0]["restartCount"], json!(0));
}

/// As long as leases, tokens' retries and the controllers' patience (40 s, and 5 minutes until pods are evicted) last.
#[test]
#[ignore = "takes 12 minutes: cargo test -p e2e --test e2e -- --ignored minutes"]
fn minutes() {
    const AWAY: Duration = Duration::from_secs(600);
    let mut member = member(Systemd::V257, "minutes");
    own(&mut member).kill_api_server().unwrap();
    kill_program(&member);
    wait_restarts(&member, 1);
    let away = Instant::now();
    wait_until("the outage to last", AWAY + SOON, || {
        assert!(member.sandbox.sh("pgrep -f 'echo runs; sleep'").is_ok(), "it runs on");
        (away.elapsed() >= AWAY).then_some(())
    })
    .unwrap();
    kill_program(&member);
    wait_restarts(&member, 2);
    let back = Instant::now();
    own(&mut member).start_api_server().unwrap();
    let told = member.wait_pod("serves", "the restarts", |s| s["containerStatuses"][0]["restartCount"] == 2).unwrap();
    assert!(told["metadata"]["deletionTimestamp"].is_null(), "{told:#}");
    let ready = ["node", &member.name];
    member.kubectl().wait_for("the node to be ready", 3 * SOON, &ready, is_ready).unwrap();
    println!("back after {AWAY:?}: all is told {:?} after the API server was started", back.elapsed());
    run_after(&member, "later");
}
