//! A start that systemd itself cannot make: the container waits with the kubelet's reason and with what systemd said, others
//! go on, and it runs once that is mended.

use e2e::agent::Node;
use e2e::apt_repo::{AptRepo, Archive};
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::support::{container, kill_agent, life, pod, shell, sleeper, starts, wait_nothing_left};

/// Waits until the pod's container waits with that reason and each of the words.
fn waits(node: &Node, name: &str, reason: &str, words: &[&str]) {
    let told = |status: &Value| {
        let waiting = &container(status, "main")["state"]["waiting"];
        let message = waiting["message"].as_str().unwrap_or_default();
        waiting["reason"] == reason && words.iter().all(|word| message.contains(word))
    };
    let found = node.wait_status(name, &format!("{reason} {words:?}"), told);
    found.unwrap_or_else(|e| {
        let unit = node.unit(name, "main").unwrap_or_default();
        panic!(
            "{e:#}\n{}",
            node.sandbox
                .sh(&format!("journalctl --no-pager -o cat -p err UNIT={unit} | sed s,^,J:,"))
                .unwrap_or_default()
        )
    });
}

fn package_pod(name: &str, image: &str) -> String {
    let main = json!({"name": "main", "image": image});
    let mut pod = pod(name, "Always", &[main]);
    pod["spec"].as_object_mut().unwrap().remove("volumes");
    pod.to_string()
}

/// The agent from a place where its program can be spoilt; two packages whose units name what is not there.
const SPOILT: &str =
    "mkdir -p /opt/systemk /etc/systemd/system/systemk.service.d; cp /usr/local/bin/systemk /opt/systemk/systemk
    line=$(sed -n 's,^ExecStart=/usr/local/bin/,ExecStart=/opt/systemk/,p' /etc/systemd/system/systemk.service)
    printf '[Service]\\nExecStart=\\n%s\\n' \"$line\" > /etc/systemd/system/systemk.service.d/opt.conf
    apt-get install -q -y sk-simple sk-dirs >/dev/null; userdel sk-dirs
    sed -i 's,^\\[Service\\],&\\nWorkingDirectory=/no/such/directory,' /lib/systemd/system/sk-simple.service
    systemctl daemon-reload";

fn what_systemd_cannot_start_says_why(systemd: Systemd) {
    let node = Node::without_agent(systemd, "errors").unwrap();
    AptRepo::build().unwrap().install_into(&node.sandbox, Archive::OursOnly).unwrap();
    node.sandbox.sh(SPOILT).unwrap();
    node.start_agent().unwrap();
    node.apply("beside.yaml", &sleeper("beside")).unwrap();
    node.wait_ready("beside").unwrap();
    let beside = life(&node, "beside", "main");

    // 200/CHDIR and 217/USER.
    node.apply("chdir.yaml", &package_pod("chdir", "sk-simple")).unwrap();
    waits(
        &node,
        "chdir",
        "CreateContainerError",
        &["working directory", "(CHDIR)", "WorkingDirectory=/no/such/directory"],
    );
    node.apply("user.yaml", &package_pod("user", "sk-dirs")).unwrap();
    waits(&node, "user", "CreateContainerError", &["its user does not exist", "User=sk-dirs"]);

    // 226/NAMESPACE: a directory onto a file; the kernel refuses that mount.
    let mut main = shell("mounts", "main", "exec sleep infinity");
    main["volumeMounts"].as_array_mut().unwrap().push(json!({"name": "empty", "mountPath": "/etc/hostname"}));
    let mut mounts = pod("mounts", "Always", &[main, shell("mounts", "other", "exec sleep infinity")]);
    mounts["spec"]["volumes"].as_array_mut().unwrap().push(json!({"name": "empty", "emptyDir": {}}));
    node.apply("mounts.yaml", &mounts.to_string()).unwrap();
    waits(&node, "mounts", "CreateContainerError", &["(NAMESPACE)", "/etc/hostname"]);
    let other = life(&node, "mounts", "other");

    // 203/EXEC: the program of systemk itself, which starts every container's.
    for (name, spoil, word) in [
        ("exec", "chmod 644 /opt/systemk/systemk", "Permission denied"),
        (
            "format",
            "cp /opt/systemk/systemk /opt/systemk/kept; echo > /opt/systemk/.x; chmod 755 /opt/systemk/.x; mv /opt/systemk/.x /opt/systemk/systemk",
            "Exec format error",
        ),
    ] {
        node.sandbox.sh(spoil).unwrap();
        node.apply(&format!("{name}.yaml"), &sleeper(name)).unwrap();
        waits(&node, name, "CreateContainerError", &["systemk itself", "(EXEC)", word]);
        node.sandbox.sh("chmod 755 /opt/systemk/systemk").unwrap();
    }
    node.sandbox.sh("mv /opt/systemk/kept /opt/systemk/systemk").unwrap();
    node.wait_ready("exec").unwrap();
    node.wait_ready("format").unwrap();
    // What was told is known to the next agent, too.
    kill_agent(&node);
    waits(&node, "mounts", "CreateContainerError", &["(NAMESPACE)", "/etc/hostname"]);
    assert_eq!((beside, other), (life(&node, "beside", "main"), life(&node, "mounts", "other")));
    assert_eq!(
        [starts(&node, "beside", "main"), starts(&node, "mounts", "main"), starts(&node, "exec", "main")],
        [1, 0, 1]
    );
    for name in ["beside", "chdir", "user", "mounts", "exec", "format"] {
        node.remove(&format!("{name}.yaml")).unwrap();
    }
    wait_nothing_left(&node, "bystander");
}

on_both!(what_systemd_cannot_start_says_why);
