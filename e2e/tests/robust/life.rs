//! The agent's own beginning and end, and the machine's.

use e2e::agent::Node;
use e2e::sandbox::Systemd;
use serde_json::json;

use super::support::{
    agent_pid, forget_starts, kill_agent, left, life, pod, shell, sleeper, starts, wait_nothing_left, wait_restarted,
    wait_sh,
};

fn a_second_agent_ends_and_a_stopped_one_leaves_its_pods(systemd: Systemd) {
    let node = Node::start(systemd, "two").unwrap();
    node.apply("pod.yaml", &sleeper("pod")).unwrap();
    node.wait_ready("pod").unwrap();
    let before = life(&node, "pod", "main");
    let first = agent_pid(&node);

    let second = node.sandbox.exec(&["systemk", "agent", "--node-ip", "10.0.0.1"]).unwrap();
    assert_ne!(second.code, 0);
    assert!(second.stderr.contains(&first.to_string()) && second.stderr.contains("agent.lock"), "{}", second.stderr);
    assert_eq!((first, &before), (agent_pid(&node), &life(&node, "pod", "main")));

    node.sandbox.run(&["systemctl", "stop", "systemk"]).unwrap();
    assert_eq!(node.property("systemk.service", "Result").unwrap(), "success");
    assert_eq!(before, life(&node, "pod", "main"));
    node.start_agent().unwrap();
    node.wait_ready("pod").unwrap();
    // The same over an agent that hangs until systemd's patience with it ends.
    node.sandbox.run(&["systemctl", "kill", "--signal=STOP", "systemk"]).unwrap();
    kill_agent(&node);
    node.wait_ready("pod").unwrap();
    assert_eq!((before, 1), (life(&node, "pod", "main"), starts(&node, "pod", "main")));
    node.remove("pod.yaml").unwrap();
    wait_nothing_left(&node, "bystander");
}

fn a_pod_that_is_put_back_while_it_stops_begins_anew(systemd: Systemd) {
    let node = Node::start(systemd, "back").unwrap();
    let main = shell("back", "main", "trap '' TERM\nwhile :; do sleep 0.1; done");
    let mut pod = pod("back", "Always", &[main]);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(2);
    node.apply("back.yaml", &pod.to_string()).unwrap();
    node.wait_ready("back").unwrap();
    let before = life(&node, "back", "main");
    node.remove("back.yaml").unwrap();
    let unit = node.unit("back", "main").unwrap();
    wait_sh(&node, "the pod to stop", &format!("[ $(systemctl show -p ActiveState --value {unit}) = deactivating ]"));
    node.apply("back.yaml", &pod.to_string()).unwrap();
    wait_sh(&node, "the second start", "[ $(wc -l < /var/lib/count/back.main) = 2 ]");
    let report = node.wait_ready("back").unwrap();
    assert_eq!(report["pod"]["status"]["containerStatuses"][0]["restartCount"], 0, "{report}");
    assert_ne!(before, life(&node, "back", "main"));
    // Put back and removed again while it stops: it stays away.
    node.remove("back.yaml").unwrap();
    wait_sh(&node, "the pod to stop", &format!("[ $(systemctl show -p ActiveState --value {unit}) = deactivating ]"));
    node.apply("back.yaml", &pod.to_string()).unwrap();
    node.apply("marker.yaml", &sleeper("marker")).unwrap();
    node.wait_ready("marker").unwrap();
    node.remove("back.yaml").unwrap();
    wait_nothing_left(&node, "marker");
    assert_eq!(starts(&node, "back", "main"), 2);
}

fn two_pods_of_one_name_that_both_stop_do_not_wait_for_each_other(systemd: Systemd) {
    let node = Node::start(systemd, "names").unwrap();
    let main = || shell("names", "main", "trap '' TERM\nwhile :; do sleep 0.1; done");
    let mut pod = pod("names", "Always", &[main()]);
    node.apply("names.yaml", &pod.to_string()).unwrap();
    node.wait_ready("names").unwrap();
    let unit = node.unit("names", "main").unwrap();
    pod["metadata"]["uid"] = json!("other");
    pod["spec"]["terminationGracePeriodSeconds"] = json!(3);
    node.apply("names.yaml", &pod.to_string()).unwrap();
    wait_sh(&node, "the pod to stop", &format!("[ $(systemctl show -p ActiveState --value {unit}) = deactivating ]"));
    node.remove("names.yaml").unwrap();
    wait_nothing_left(&node, "bystander");
    assert_eq!(starts(&node, "names", "main"), 1);
}

fn a_reboot_runs_the_pods_again(systemd: Systemd) {
    let mut node = Node::start(systemd, "boot").unwrap();
    let once = "date >> /disk/kept\n[ $(wc -l < /count/pod.main) != 1 ] || exit 7\nexec sleep infinity";
    let mut main = shell("pod", "main", once);
    main["volumeMounts"].as_array_mut().unwrap().push(json!({"name": "disk", "mountPath": "/disk"}));
    let mut pod = pod("pod", "Always", &[main]);
    pod["spec"]["volumes"].as_array_mut().unwrap().push(json!({"name": "disk", "emptyDir": {}}));
    node.apply("pod.yaml", &pod.to_string()).unwrap();
    node.apply("gone.yaml", &sleeper("gone")).unwrap();
    wait_restarted(&node, "pod", "main", 1);
    node.wait_ready("gone").unwrap();
    let skeletons = "ls /var/lib/systemk/pods/pod/containers/main";
    assert_eq!(node.sandbox.sh(skeletons).unwrap(), "1\n");
    node.remove("gone.yaml").unwrap();
    node.sandbox.sh("systemctl stop systemk").unwrap();
    forget_starts(&node, "gone");

    node.sandbox.reboot().unwrap();
    node.start_agent().unwrap();
    let status = wait_restarted(&node, "pod", "main", 0);
    assert!(status["lastState"]["terminated"].is_null(), "{status}");
    assert_eq!(starts(&node, "pod", "main"), 3);
    assert_eq!(node.sandbox.sh(skeletons).unwrap(), "0\n", "skeletons from before the reboot are left");
    let kept = node.sandbox.sh("wc -l < /var/lib/systemk/pods/pod/volumes/disk/kept").unwrap();
    assert_eq!(kept.trim(), "3", "the emptyDir of a pod that goes on is kept");
    // What was removed before the reboot does not come back, and what it had on disk goes.
    wait_nothing_left(&node, "pod");
    wait_sh(&node, "the other pod's disk to be cleaned", "[ \"$(ls /var/lib/systemk/pods)\" = pod ]");
    assert_eq!(starts(&node, "gone", "main"), 0);
    node.remove("pod.yaml").unwrap();
    wait_nothing_left(&node, "bystander");
    assert!(left(&node, "bystander").is_empty());
}

/// What `kubectl get -o yaml` writes has a uid of its own.
fn an_edited_manifest_with_a_uid_is_another_pod(systemd: Systemd) {
    let node = Node::start(systemd, "uid").unwrap();
    let of = |word: &str| {
        let mut pod = pod("given", "Always", &[shell("given", "main", &format!("echo {word}; exec sleep infinity"))]);
        pod["metadata"]["uid"] = serde_json::json!("given-1");
        pod["spec"]["terminationGracePeriodSeconds"] = serde_json::json!(1);
        pod.to_string()
    };
    node.apply("given.yaml", &of("first")).unwrap();
    node.wait_log("given", "main", "first").unwrap();
    node.apply("given.yaml", &of("second")).unwrap();
    node.wait_log("given", "main", "second").unwrap();
    node.remove("given.yaml").unwrap();
    node.wait_gone("given").unwrap();
}

on_both!(
    an_edited_manifest_with_a_uid_is_another_pod,
    a_second_agent_ends_and_a_stopped_one_leaves_its_pods,
    a_pod_that_is_put_back_while_it_stops_begins_anew,
    two_pods_of_one_name_that_both_stop_do_not_wait_for_each_other,
    a_reboot_runs_the_pods_again,
);
