//! File systems that are full or out of inodes: pods wait and say why, nothing half-written is seen, and all goes on when
//! there is room again.

use e2e::agent::{Node, SOON};
use e2e::eventually::wait_until;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::support::{agent_log, agent_pid, life, pod, shell, sleeper, starts, wait_nothing_left, wait_sh};

/// A Secret of so many bytes of `byte`, and the pod `name` that mounts it at `/s`.
fn with_secret(name: &str, byte: &str, size: usize) -> String {
    let mut main = shell(name, "main", "exec sleep infinity");
    main["volumeMounts"].as_array_mut().unwrap().push(json!({"name": "secret", "mountPath": "/s"}));
    let mut pod = pod(name, "Always", &[main]);
    let volumes = pod["spec"]["volumes"].as_array_mut().unwrap();
    volumes.push(json!({"name": "secret", "secret": {"secretName": name}}));
    let data = json!({"key": byte.repeat(size)});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
    format!("{secret}\n---\n{pod}\n")
}

/// Waits until the pod's report holds the kernel's word for a full disk.
fn wait_told(node: &Node, name: &str) {
    let told = || {
        let report: Value = node.report(name)?;
        let text = report.to_string();
        (text.contains("No space left on device") || text.contains("os error 28")).then_some(())
    };
    wait_until("the full disk to be told", SOON, told)
        .unwrap_or_else(|e| panic!("{e:#}\n{:#}\n{}", node.report(name).unwrap_or_default(), agent_log(node)));
}

fn a_full_run_directory_keeps_old_secrets_and_recovers(systemd: Systemd) {
    let node = Node::without_agent(systemd, "full").unwrap();
    node.sandbox.sh("mkdir -p /run/systemk; mount -t tmpfs -o size=2m tmpfs /run/systemk").unwrap();
    node.start_agent().unwrap();
    node.apply("old.yaml", &with_secret("old", "a", 10)).unwrap();
    node.wait_ready("old").unwrap();
    let (agent, before) = (agent_pid(&node), life(&node, "old", "main"));
    let content = |node: &Node| node.sandbox.sh("head -c 3 /run/systemk/pods/old/volumes/secret/key").unwrap();
    assert_eq!(content(&node), "aaa");
    // Room for reports, none for what follows.
    let fill = "cd /run/systemk; dd if=/dev/zero of=filler bs=4k status=none || true; truncate -s -160k filler";
    node.sandbox.sh(fill).unwrap();

    node.apply("old.yaml", &with_secret("old", "b", 400_000)).unwrap();
    node.apply("new.yaml", &with_secret("new", "c", 400_000)).unwrap();
    wait_told(&node, "old");
    wait_told(&node, "new");
    assert_eq!(content(&node), "aaa", "the old content stays");
    assert_eq!(starts(&node, "new", "main"), 0);
    // Not a byte left: nothing can be written, not even why.
    node.sandbox.sh("cd /run/systemk; dd if=/dev/zero of=more bs=4k status=none || true").unwrap();
    node.apply("third.yaml", &sleeper("third")).unwrap();
    node.sandbox.sh("systemctl is-active systemk").unwrap();

    node.sandbox.sh("rm /run/systemk/filler /run/systemk/more").unwrap();
    node.wait_ready("new").unwrap();
    node.wait_ready("third").unwrap();
    wait_until("the new secret", SOON, || (content(&node) == "bbb").then_some(())).unwrap();
    assert_eq!((agent, before), (agent_pid(&node), life(&node, "old", "main")));
    for name in ["old", "new", "third"] {
        assert_eq!(starts(&node, name, "main"), 1, "{name}");
        node.remove(&format!("{name}.yaml")).unwrap();
    }
    wait_sh(&node, "all pods to be gone", "[ -z \"$(ls /run/systemk/pods)\" ]");
    node.sandbox.sh("systemctl stop systemk; umount -R /run/systemk").unwrap();
    wait_nothing_left(&node, "bystander");
}

fn a_state_directory_without_inodes_recovers(systemd: Systemd) {
    let node = Node::without_agent(systemd, "inodes").unwrap();
    let mount = "mkdir -p /var/lib/systemk; mount -t tmpfs -o nr_inodes=400 tmpfs /var/lib/systemk";
    node.sandbox.sh(mount).unwrap();
    node.start_agent().unwrap();
    node.apply("first.yaml", &sleeper("first")).unwrap();
    node.wait_ready("first").unwrap();
    let before = life(&node, "first", "main");
    node.sandbox
        .sh("mkdir /var/lib/systemk/x; cd /var/lib/systemk/x; for i in {1..400}; do : > $i || break; done 2>/dev/null")
        .unwrap();
    node.apply("second.yaml", &sleeper("second")).unwrap();
    wait_told(&node, "second");
    assert_eq!(starts(&node, "second", "main"), 0);
    node.sandbox.sh("rm -r /var/lib/systemk/x").unwrap();
    node.wait_ready("second").unwrap();
    assert_eq!((before, 1), (life(&node, "first", "main"), starts(&node, "second", "main")));
    for name in ["first", "second"] {
        node.remove(&format!("{name}.yaml")).unwrap();
    }
    wait_sh(&node, "all pods to be gone", "[ -z \"$(ls /run/systemk/pods)\" ]");
    node.sandbox.sh("systemctl stop systemk; umount /var/lib/systemk").unwrap();
    wait_nothing_left(&node, "bystander");
}

/// A pod whose unit cannot be written waits for that with `text`; what is half written is never seen by systemd.
fn waits_for_its_unit(node: &Node, name: &str, text: &str) {
    node.apply(&format!("{name}.yaml"), &sleeper(name)).unwrap();
    let told = || {
        let report = node.report(name)?;
        let waiting = &report["pod"]["status"]["containerStatuses"][0]["state"]["waiting"];
        let why = waiting["message"].as_str().is_some_and(|m| m.contains(text) && m.contains("/run/systemd/system"));
        let events = report["events"].as_array().cloned().unwrap_or_default();
        let failed = |e: &Value| e["type"] == "Warning" && e["message"].as_str().is_some_and(|m| m.contains(text));
        (why && waiting["reason"] == "CreateContainerError" && events.iter().any(failed)).then_some(())
    };
    wait_until("the failed start to be told", SOON, told)
        .unwrap_or_else(|e| panic!("{e:#}\n{:#}\n{}", node.report(name).unwrap_or_default(), agent_log(node)));
    assert_eq!(starts(node, name, "main"), 0);
    // A reload, whoever asks for it, finds nothing that is not whole.
    let units = "systemctl daemon-reload; systemctl list-units --all --plain --no-legend 'systemk.*.NAME.*'; \
                 cd /run/systemd/system; for f in $(ls -A); do tail -c1 $f | grep -q . && echo cut: $f; done; \
                 ls -A | grep systemk-tmp || true";
    let found = node.sandbox.sh(&units.replace("NAME", name)).unwrap();
    assert_eq!(found, "", "of {name}");
}

fn a_unit_directory_that_takes_nothing_recovers(systemd: Systemd) {
    let node = Node::without_agent(systemd, "units").unwrap();
    node.sandbox.sh("mount -t tmpfs -o size=256k,mode=755 units /run/systemd/system; systemctl daemon-reload").unwrap();
    node.start_agent().unwrap();
    node.apply("before.yaml", &sleeper("before")).unwrap();
    node.wait_ready("before").unwrap();
    let (agent, before) = (agent_pid(&node), life(&node, "before", "main"));

    node.sandbox.sh("dd if=/dev/zero of=/run/systemd/system/filler bs=4k status=none || true").unwrap();
    waits_for_its_unit(&node, "full", "No space left on device");
    // One page: the beginning of a unit would fit.
    node.sandbox.sh("truncate -s -4k /run/systemd/system/filler").unwrap();
    waits_for_its_unit(&node, "page", "No space left on device");
    node.sandbox.sh("rm /run/systemd/system/filler; mount -o remount,ro /run/systemd/system").unwrap();
    waits_for_its_unit(&node, "closed", "Read-only file system");
    node.sandbox.sh("mount -o remount,rw /run/systemd/system").unwrap();

    for name in ["full", "page", "closed"] {
        node.wait_ready(name).unwrap();
        assert_eq!(starts(&node, name, "main"), 1, "{name}");
        let status = &node.report(name).unwrap()["pod"]["status"]["containerStatuses"][0];
        assert_eq!(status["restartCount"], 0, "what never ran is no restart: {status}");
    }
    assert_eq!((agent, before), (agent_pid(&node), life(&node, "before", "main")));
    for name in ["before", "full", "page", "closed"] {
        node.remove(&format!("{name}.yaml")).unwrap();
    }
    wait_nothing_left(&node, "bystander");
    node.sandbox.sh("systemctl stop systemk; umount /run/systemd/system").unwrap();
}

/// All of it: systemd itself, its journal and the agent have no byte left.
fn a_full_run_stops_nothing_and_recovers(systemd: Systemd) {
    let node = Node::start(systemd, "run").unwrap();
    node.apply("before.yaml", &sleeper("before")).unwrap();
    node.wait_ready("before").unwrap();
    let (agent, before) = (agent_pid(&node), life(&node, "before", "main"));
    let fill = "size=$(du -sk --apparent-size /run | cut -f1); mount -o remount,size=$((size + 4096))k /run; \
                dd if=/dev/zero of=/run/filler bs=4k status=none || true";
    node.sandbox.sh(fill).unwrap();
    node.apply("new.yaml", &sleeper("new")).unwrap();
    // No room for a word about it but in the log of the agent: that is where it is said.
    let said = "journalctl -u systemk -o cat --no-pager | grep 'default/new' | grep -E 'No space left|os error 28'";
    wait_sh(&node, "the full disk to be told", said);
    assert_eq!((agent, &before, 0), (agent_pid(&node), &life(&node, "before", "main"), starts(&node, "new", "main")));
    node.sandbox.sh("rm /run/filler; mount -o remount,size=64m /run").unwrap();
    node.wait_ready("new").unwrap();
    assert_eq!((agent, before, 1), (agent_pid(&node), life(&node, "before", "main"), starts(&node, "new", "main")));
    for name in ["before", "new"] {
        node.remove(&format!("{name}.yaml")).unwrap();
    }
    wait_nothing_left(&node, "bystander");
}

/// State and run directories are all that is written, and a place for manifests all that a person writes.
fn a_read_only_root_is_enough(systemd: Systemd) {
    let node = Node::without_agent(systemd, "rootfs").unwrap();
    node.sandbox
        .sh("mount -t tmpfs tmpfs /etc/systemk/manifests; mount -o remount,bind,ro /; ! touch /x /etc/x 2>/dev/null")
        .unwrap();
    node.start_agent().unwrap();
    let mut pod: Value = serde_json::from_str(with_secret("closed", "a", 10).split("---\n").nth(1).unwrap()).unwrap();
    pod["spec"]["volumes"].as_array_mut().unwrap().push(json!({"name": "disk", "emptyDir": {}}));
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap();
    // Below a directory of the host that cannot be written: the mount point is made beside it.
    mounts.push(json!({"name": "disk", "mountPath": "/etc/not/there"}));
    let secret = with_secret("closed", "a", 10).split("---\n").next().unwrap().to_owned();
    node.apply("closed.yaml", &format!("{secret}---\n{pod}\n")).unwrap();
    node.wait_ready("closed").unwrap();
    let unit = node.unit("closed", "main").unwrap();
    let root = format!("/proc/$(systemctl show -p MainPID --value {unit})/root");
    assert_eq!(node.sandbox.sh(&format!("cat {root}/s/key; touch {root}/etc/not/there/x")).unwrap(), "aaaaaaaaaa");
    node.sandbox.sh(&format!("systemctl kill --signal=KILL {unit}")).unwrap();
    wait_sh(&node, "the second start", "[ $(wc -l < /var/lib/count/closed.main) = 2 ]");
    node.remove("closed.yaml").unwrap();
    wait_nothing_left(&node, "bystander");
}

on_both!(
    a_read_only_root_is_enough,
    a_full_run_directory_keeps_old_secrets_and_recovers,
    a_state_directory_without_inodes_recovers,
    a_unit_directory_that_takes_nothing_recovers,
    a_full_run_stops_nothing_and_recovers,
);
