//! The API server goes away: pods run on and are started again, and what happened meanwhile is told when it is back.

use std::sync::Arc;

use e2e::agent::SOON;
use e2e::control_plane::{ControlPlane, ControlPlaneSpec};
use e2e::eventually::wait_until;
use e2e::member::Member;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

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
    member.run("later", script("sleep infinity & wait")).unwrap();
    member.wait_running("later").unwrap();
    let before = member.pod("serves").unwrap().unwrap();

    // An agent that comes while the API server is away touches nothing.
    own(&mut member).kill_api_server().unwrap();
    member.sandbox.run(&["systemctl", "restart", "systemk"]).unwrap();
    let line = || member.sandbox.sh("journalctl -u systemk --no-pager -o cat | grep 'pods that run go on'").ok();
    wait_until("the outage to be told", SOON, line).unwrap();
    own(&mut member).start_api_server().unwrap();
    member.run("last", script("sleep infinity & wait")).unwrap();
    member.wait_running("last").unwrap();
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
    member.run("later", script("sleep infinity & wait")).unwrap();
    let later = member.wait_running("later").unwrap();
    assert_eq!(later["status"]["containerStatuses"][0]["restartCount"], json!(0));
}
