//! A pod that is forgotten by the API server while it begins: nothing of it runs, and nothing is left.

use e2e::agent::SOON;
use e2e::eventually::wait_until;
use e2e::member::Member;
use e2e::sandbox::Systemd;
use serde_json::json;

use super::{assert_converged, behind, counted, shell, starts};
use crate::robust::support::wait_nothing_left;

on_both! { a_pod_that_is_forgotten_while_it_begins_leaves_nothing }

fn forget(member: &Member, name: &str) {
    let forget = ["delete", "pod", name, "-n", &member.name, "--force", "--grace-period=0", "--wait=false"];
    member.kubectl().run(&forget).unwrap();
}

fn waits_for(member: &Member, name: &str) {
    let waits = || member.report(name).filter(|report| report["pod"]["status"]["phase"] == "Pending").map(drop);
    wait_until("the pod to be looked at", SOON, waits).unwrap();
}

fn a_pod_that_is_forgotten_while_it_begins_leaves_nothing(systemd: Systemd) {
    let (_proxy, member) = behind(systemd, "forced");
    // While it waits for what it needs; that comes later.
    let mut spec = counted("waits");
    spec["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "late"}}]);
    member.run("waits", spec).unwrap();
    waits_for(&member, "waits");
    forget(&member, "waits");
    member.kubectl().run(&["create", "configmap", "late", "--from-literal=A=b", "-n", &member.name]).unwrap();

    // While an init container runs that does not want to end, with a long grace of its own.
    let mut spec = counted("begins");
    spec["terminationGracePeriodSeconds"] = json!(600);
    let stubborn = shell("first", "trap '' TERM; echo began; while true; do sleep 1; done # stubborn");
    spec["initContainers"] = json!([stubborn]);
    member.run("begins", spec).unwrap();
    wait_until("the init container", SOON, || member.sandbox.sh("pgrep -f '[s]tubborn'").ok()).unwrap();
    forget(&member, "begins");
    let ended = || member.sandbox.sh("! pgrep -f '[s]tubborn'").ok();
    wait_until("the init container to be killed", SOON, ended).unwrap();

    // At any moment of a quick start.
    for number in 0..8 {
        let name = format!("quick-{number}");
        member.run(&name, counted(&name)).unwrap();
        if number % 2 == 1 {
            wait_until("the pod to be heard of", SOON, || member.report(&name)).unwrap();
        }
        forget(&member, &name);
    }
    assert_converged(&member, "later");
    let later = member.pod("later").unwrap().unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    wait_nothing_left(&member, &format!("[.]later[.]|{later}|{}", later.replace('-', "_")));
    let run = member.sandbox.sh("pgrep -xc sleep || true").unwrap();
    assert_eq!(run.trim(), "1", "only the last one's");
    assert_eq!((starts(&member, "waits"), starts(&member, "begins")), (0, 0));
}
