//! Things that were left, lost or are somebody else's when the agent starts.

use e2e::agent::Node;
use e2e::sandbox::Systemd;
use serde_json::json;

use super::support::{agent_pid, left, life, pod, shell, sleeper, starts, wait_nothing_left, wait_sh};

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

/// Units that look like ours and are not: another agent's, without our section, somebody's slice, a transient one.
const FOREIGN: &str = "cd /run/systemd/system
    printf '[Service]\\nExecStart=/bin/sleep infinity\\n' > systemk.foo.service
    sed 's#/run/systemk/pods#/run/elsewhere/pods#' UNIT > systemk.default.other.main_00000000_0.service
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

/// The names of a pod's units end in a hash of its uid: whoever knows that can give his own unit such a name.
fn a_unit_that_is_only_called_like_the_pods_is_not_killed(systemd: Systemd) {
    let node = Node::start(systemd, "namesake").unwrap();
    node.apply("pod.yaml", &sleeper("pod")).unwrap();
    node.wait_ready("pod").unwrap();
    let unit = node.unit("pod", "main").unwrap();
    let foreign = ["transient", "deleted", "ours"].map(|name| unit.replace("default.pod.main", &format!("{name}.x.y")));
    let [transient, deleted, ours] = &foreign;
    let start = format!(
        "cd /run/systemd/system; systemd-run --quiet --unit={transient} sleep infinity
        printf '[Service]\\nExecStart=/bin/sleep infinity\\n' > {deleted}
        printf '[Service]\\nExecStart=/bin/sleep infinity\\nSlice=%s\\n' $(systemctl show -p Slice --value {unit}) > {ours}
        systemctl daemon-reload; systemctl start {deleted} {ours}; rm {deleted} {ours}; systemctl daemon-reload"
    );
    node.sandbox.sh(&start).unwrap();
    let lives = format!("systemctl show -p MainPID -p ActiveState -p InvocationID {transient} {deleted}");
    let before = node.sandbox.sh(&lives).unwrap();
    assert_eq!(before.matches("ActiveState=active").count(), 2, "{before}");
    node.remove("pod.yaml").unwrap();
    node.wait_gone("pod").unwrap();
    assert_eq!(before, node.sandbox.sh(&lives).unwrap());
    // What is in the pod's own slice goes with it.
    wait_sh(&node, "the unit in the pod's slice to end", &format!("! systemctl is-active -q {ours}"));
}

fn a_machine_that_was_renamed_stops_its_old_names_pods(systemd: Systemd) {
    let node = Node::start(systemd, "renamed").unwrap();
    node.apply("given.yaml", &sleeper("given")).unwrap();
    let trap = "trap 'echo stopped > /count/hashed.end; exit 0' TERM\nwhile :; do sleep 0.1; done";
    let mut hashed = pod("hashed", "Always", &[shell("hashed", "main", trap)]);
    // Its uid is then a hash, of the node's name too.
    hashed["metadata"].as_object_mut().unwrap().remove("uid");
    node.apply("hashed.yaml", &hashed.to_string()).unwrap();
    node.wait_ready("given").unwrap();
    let uid = node.wait_ready("hashed").unwrap()["pod"]["metadata"]["uid"].clone();
    let given = life(&node, "given", "main");
    node.sandbox.sh("systemctl stop systemk; echo SYSTEMK_NODENAME=another > /etc/systemk.env").unwrap();
    node.start_agent().unwrap();
    wait_sh(&node, "the second start", "[ $(wc -l < /var/lib/count/hashed.main) = 2 ]");
    let anew = node.wait_ready("hashed").unwrap();
    assert_ne!(anew["pod"]["metadata"]["uid"], uid, "the name is part of the hash");
    assert_eq!(node.sandbox.sh("cat /var/lib/count/hashed.end").unwrap(), "stopped\n", "the old pod had its grace");
    assert_eq!((given, 1), (life(&node, "given", "main"), starts(&node, "given", "main")), "a uid of its own stays");
    node.remove("given.yaml").unwrap();
    node.remove("hashed.yaml").unwrap();
    wait_nothing_left(&node, "bystander");
}

/// Of the same machine, and so with the same node name.
fn two_agents_do_not_touch_each_others_pods(systemd: Systemd) {
    let node = Node::start(systemd, "agents").unwrap();
    node.apply("first.yaml", &sleeper("first")).unwrap();
    node.wait_ready("first").unwrap();
    let first = life(&node, "first", "main");
    node.sandbox.write_file("/etc/second/second.yaml", sleeper("second")).unwrap();
    let agent =
        ["systemk", "agent", "--node-ip", "10.0.0.1", "--run-dir", "/run/second", "--state-dir", "/var/lib/second"];
    let refused = node.sandbox.exec(&[&agent[..], &["--manifests", "/etc/second"]].concat()).unwrap();
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("pod default/first of another systemk (node"), "{}", refused.stderr);
    assert!(refused.stderr.contains("Choose another --cgroup-root"), "{}", refused.stderr);
    let shared = ["--run-dir", "/run/third", "--cgroup-root", "thirdpods", "--manifests", "/etc/second"];
    let refused = node.sandbox.exec(&[&agent[..4], &shared[..]].concat()).unwrap();
    assert_ne!(refused.code, 0);
    let told = ["/var/lib/systemk/agent.lock", &agent_pid(&node).to_string(), "--state-dir"];
    told.iter().for_each(|part| assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr));
    let start = format!(
        "systemd-run --quiet --unit=second -p Type=notify -p KillMode=process {} --manifests /etc/second --cgroup-root secondpods",
        agent.join(" ")
    );
    node.sandbox.sh(&start).unwrap();
    wait_sh(&node, "the second agent's pod", "[ -s /var/lib/count/second.main ]");
    let pid = "systemctl show -p MainPID --value 'systemk.default.second.*'";
    let second = node.sandbox.sh(pid).unwrap();
    for unit in ["systemk", "second"] {
        node.sandbox.sh(&format!("systemctl stop {unit}; systemctl reset-failed {unit} || true")).unwrap();
        node.sandbox.sh(if unit == "second" { &start } else { "systemctl start systemk" }).unwrap();
    }
    // The manifest of the other's pod in ours as well: the same uid, and so the same units' names.
    node.apply("second.yaml", &sleeper("second")).unwrap();
    let refused = |status: &serde_json::Value| {
        let text = status.to_string();
        text.contains("another agent has the same pod") && text.contains("CreateContainerError")
    };
    node.wait_status("second", "to be refused", refused).unwrap();
    node.remove("second.yaml").unwrap();
    node.wait_gone("second").unwrap();
    node.apply("marker.yaml", &sleeper("marker")).unwrap();
    node.wait_ready("marker").unwrap();
    assert_eq!((first, 1), (life(&node, "first", "main"), starts(&node, "first", "main")));
    assert_eq!((second, 1), (node.sandbox.sh(pid).unwrap(), starts(&node, "second", "main")));
}

on_both!(
    a_unit_that_is_only_called_like_the_pods_is_not_killed,
    a_machine_that_was_renamed_stops_its_old_names_pods,
    two_agents_do_not_touch_each_others_pods,
    what_nobody_wants_any_more_stops_with_its_grace,
    a_manifest_that_cannot_be_read_takes_no_pod_away,
    what_is_not_ours_is_not_touched,
    a_history_that_cannot_be_read_is_put_aside,
);
