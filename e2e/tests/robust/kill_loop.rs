//! The agent is killed over and over while pods come and go.

use std::time::Duration;

use e2e::agent::Node;
use e2e::eventually::wait_until;
use e2e::sandbox::Systemd;

use super::support::{Life, agent_log, kill_agent, left, life, sleeper, starts, wait_nothing_left};

/// SIGKILLs whatever process the agent has, 0 to 300 ms after it got it: time itself is what is tried here.
const KILLER: &str = "end=$((SECONDS + 30)); while [ $SECONDS -lt $end ]; do \
     pid=$(systemctl show -p MainPID --value systemk); [ \"$pid\" = 0 ] || kill -9 $pid || true; \
     printf -v pause '0.%03d' $((RANDOM % 300)); sleep $pause; done";

/// Meanwhile eight pods are removed and put back in turn.
const CHURN: &str = "cd /etc/systemk/manifests; end=$((SECONDS + 28)); while [ $SECONDS -lt $end ]; do \
     n=$((RANDOM % 8)); if [ -e churn$n.yaml ]; then mv churn$n.yaml /root/; else mv /root/churn$n.yaml .; fi; \
     sleep 0.2; done; mv /root/churn*.yaml . || true";

fn a_kill_every_moment_stops_and_doubles_nothing(systemd: Systemd) {
    let node = Node::start(systemd, "loop").unwrap();
    let stable: Vec<String> = (0..12).map(|n| format!("stable{n}")).collect();
    let churned: Vec<String> = (0..8).map(|n| format!("churn{n}")).collect();
    for name in stable.iter().chain(&churned) {
        node.apply(&format!("{name}.yaml"), &sleeper(name)).unwrap();
    }
    for name in stable.iter().chain(&churned) {
        node.wait_ready(name).unwrap();
    }
    let lives = |names: &[String]| -> Vec<Life> { names.iter().map(|name| life(&node, name, "main")).collect() };
    let before = lives(&stable);

    let mut killer = node.sandbox.spawn(&["bash", "-c", KILLER]).unwrap();
    let mut churn = node.sandbox.spawn(&["bash", "-c", CHURN]).unwrap();
    let minute = Duration::from_secs(60);
    assert!(killer.wait(minute).unwrap().is_some() && churn.wait(minute).unwrap().is_some());
    kill_agent(&node);

    // Each pod once: its unit runs, its reports say so, and there is no other unit, directory or mount.
    let converged = || {
        let ready = |name: &String| {
            let report = node.report(name)?;
            let all = report["pod"]["status"]["containerStatuses"].as_array()?.clone();
            let unit = report["units"][0][1].as_str()?.to_owned();
            let running = node.property(&unit, "ActiveState").ok()? == "active";
            (report["stopping"] == false && running && all.iter().all(|c| c["ready"] == true)).then_some(())
        };
        let all = stable.iter().chain(&churned).all(|name| ready(name).is_some());
        (all && left(&node, "stable|churn").is_empty()).then_some(())
    };
    wait_until("all to be as it should", Duration::from_secs(30), converged)
        .unwrap_or_else(|e| panic!("{e:#}\n{}\n{}", left(&node, "stable|churn"), agent_log(&node)));
    assert_eq!(before, lives(&stable));
    for name in &stable {
        assert_eq!(starts(&node, name, "main"), 1, "{name}");
    }
    let sleeps = node.sandbox.sh("pgrep -cx sleep").unwrap();
    assert_eq!(sleeps.trim(), "20", "a container runs twice");
    let units = node.sandbox.sh("systemctl list-units --plain --no-legend 'systemk.*.service' | wc -l").unwrap();
    assert_eq!(units.trim(), "20");
    for name in stable.iter().chain(&churned) {
        node.remove(&format!("{name}.yaml")).unwrap();
    }
    wait_nothing_left(&node, "bystander");
}

on_both!(a_kill_every_moment_stops_and_doubles_nothing);
