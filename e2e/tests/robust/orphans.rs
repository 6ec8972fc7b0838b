//! Things that were left, lost or are somebody else's when the agent starts.

use e2e::agent::Node;
use e2e::sandbox::Systemd;
use serde_json::json;

use super::support::{left, life, pod, shell, sleeper, starts, wait_nothing_left, wait_sh};

fn what_nobody_wants_any_more_stops_with_its_grace(systemd: Systemd) {
    let node = Node::start(systemd, "orphan").unwrap();
    let slow = "trap 'sleep 1; echo stopped > /count/slow; exit 0' TERM\nwhile :; do sleep 0.1; done";
    let mut slow = pod("slow", "Always", &[shell("slow", "main", slow)]);
    slow["spec"]["terminationGracePeriodSeconds"] = json!(20);
    node.apply("slow.yaml", &slow.to_string()).unwrap();
    let stubborn = shell("stubborn", "main", "trap '' TERM\nwhile :; do sleep 0.1; done");
    node.apply("stubborn.yaml", &pod("stubborn", "Always", &[stubborn]).to_string()).unwrap();
    node.apply("stays.yaml", &sleeper("stays")).unwrap();
    for name in ["slow", "stubborn", "stays"] {
        node.wait_ready(name).unwrap();
    }
    let stays = life(&node, "stays", "main");
    node.sandbox.sh("systemctl stop systemk; cd /etc/systemk/manifests; rm slow.yaml stubborn.yaml").unwrap();
    // Lost histories: what there is has to be told by the units alone.
    node.sandbox.sh("rm /run/systemk/pods/*/history.json").unwrap();
    node.start_agent().unwrap();
    wait_nothing_left(&node, "stays");
    assert_eq!(node.sandbox.sh("cat /var/lib/count/slow").unwrap(), "stopped\n", "it had its grace");
    assert_eq!((stays, 1), (life(&node, "stays", "main"), starts(&node, "stays", "main")));
}

fn a_manifest_that_cannot_be_read_takes_no_pod_away(systemd: Systemd) {
    let node = Node::start(systemd, "unreadable").unwrap();
    node.apply("pod.yaml", &sleeper("pod")).unwrap();
    node.apply("gone.yaml", &sleeper("gone")).unwrap();
    node.wait_ready("pod").unwrap();
    node.wait_ready("gone").unwrap();
    let before = life(&node, "pod", "main");
    // The last good content dies with the agent that read it.
    node.sandbox
        .sh("systemctl stop systemk; cd /etc/systemk/manifests; rm gone.yaml; echo 'kind: [' > pod.yaml")
        .unwrap();
    node.start_agent().unwrap();
    node.wait_gone("gone").unwrap();
    assert_eq!(before, life(&node, "pod", "main"));
    node.apply("pod.yaml", &sleeper("pod")).unwrap();
    node.wait_ready("pod").unwrap();
    assert_eq!((before, 1), (life(&node, "pod", "main"), starts(&node, "pod", "main")));
    node.remove("pod.yaml").unwrap();
    node.wait_gone("pod").unwrap();
}

/// Units that look like ours and are not: another node's, without our section, somebody's slice, a transient one.
const FOREIGN: &str = "cd /run/systemd/system
    printf '[Service]\\nExecStart=/bin/sleep infinity\\n' > systemk.foo.service
    sed 's/^X-\\?Node=.*/Node=b3RoZXI=/; s/^Node=.*/Node=b3RoZXI=/' UNIT > systemk.default.other.main_00000000_0.service
    printf '[Slice]\\n' > kubepods-podforeign.slice
    printf '[Service]\\nSlice=other-foreign.slice\\nExecStart=/bin/sleep infinity\\n' > other.service
    systemctl daemon-reload; systemctl start systemk.foo.service other.service
    systemd-run --unit=systemk.run.main_11111111_0 sleep infinity";

fn what_is_not_ours_is_not_touched(systemd: Systemd) {
    let node = Node::start(systemd, "foreign").unwrap();
    node.apply("pod.yaml", &sleeper("pod")).unwrap();
    node.wait_ready("pod").unwrap();
    let unit = node.unit("pod", "main").unwrap();
    node.sandbox.sh(&FOREIGN.replace("UNIT", &unit)).unwrap();
    let state = "cat /run/systemd/system/{systemk.foo,systemk.default.other.main_00000000_0}.service \
         /run/systemd/system/kubepods-podforeign.slice /run/systemd/transient/systemk.run.main_11111111_0.service; \
         systemctl show -p MainPID -p InvocationID systemk.foo other systemk.run.main_11111111_0";
    let before = node.sandbox.sh(state).unwrap();
    node.sandbox.sh("mkdir -p /run/systemk/pods/unknown/containers/a/0 '/run/systemk/pods/an odd name'").unwrap();
    node.sandbox.sh("systemctl stop systemk; rm /etc/systemk/manifests/pod.yaml").unwrap();
    node.start_agent().unwrap();
    wait_sh(&node, "the orphans to be removed", "[ -z \"$(ls /run/systemk/pods)\" ]");
    wait_nothing_left(&node, "foo|other|foreign|run.main");
    assert_eq!(before, node.sandbox.sh(state).unwrap(), "{}", left(&node, "bystander"));
}

fn a_history_that_cannot_be_read_is_put_aside(systemd: Systemd) {
    let node = Node::start(systemd, "history").unwrap();
    let spoil = [
        ("empty", ": > FILE"),
        ("zeros", "head -c 512 /dev/zero > FILE"),
        ("cut", "truncate -s 60 FILE"),
        ("changed", "sed -i 's/attempt/attempu/' FILE"),
        ("newer", "sed -i 's/^{\"version\":1/{\"version\":999/' FILE"),
    ];
    for (name, _) in spoil {
        node.apply(&format!("{name}.yaml"), &sleeper(name)).unwrap();
    }
    let lives = || spoil.map(|(name, _)| life(&node, name, "main"));
    spoil.iter().for_each(|(name, _)| drop(node.wait_ready(name).unwrap()));
    let before = lives();
    node.sandbox.sh("systemctl stop systemk").unwrap();
    for (name, how) in spoil {
        node.sandbox.sh(&how.replace("FILE", &format!("/run/systemk/pods/{name}/history.json"))).unwrap();
    }
    node.sandbox.sh("rm /run/systemk/pods/*/status.json").unwrap();
    node.start_agent().unwrap();
    for (name, _) in spoil {
        node.wait_ready(name).unwrap();
        assert_eq!(starts(&node, name, "main"), 1, "{name}");
        let aside = format!("ls /run/systemk/pods/{name}/history.json.corrupt-1");
        node.sandbox.sh(&aside).unwrap();
    }
    assert_eq!(before, lives());
    for (name, _) in spoil {
        node.remove(&format!("{name}.yaml")).unwrap();
    }
    wait_nothing_left(&node, "bystander");
}

on_both!(
    what_nobody_wants_any_more_stops_with_its_grace,
    a_manifest_that_cannot_be_read_takes_no_pod_away,
    what_is_not_ours_is_not_touched,
    a_history_that_cannot_be_read_is_put_aside,
);
