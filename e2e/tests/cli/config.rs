//! Settings: where they come from, which one wins, and that a wrong one has no effect but its message.

use e2e::agent::Node;
use e2e::sandbox::Systemd;
use serde_json::json;

use super::support::*;

on_both! { a_flag_wins_over_the_environment_and_that_over_the_file, a_wrong_value_is_named_and_nothing_is_made }

fn a_flag_wins_over_the_environment_and_that_over_the_file(systemd: Systemd) {
    let node = bare(systemd, "cli-config");
    let file = "nodename: from-file\ncgroupRoot: fromfile\nstateDir: /var/lib/from-file\nmanifests: /root/from-file\n\
        nodeIp: [10.0.0.1, 10.0.0.2]\nnodeExternalIp: 192.0.2.9\n";
    node.sandbox.write_file("/root/config.yaml", file).unwrap();
    let mut main = shell("main", "echo $NODE at $IP; sleep infinity");
    main["env"] = json!([{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}]);
    let web = pod("web", json!({"terminationGracePeriodSeconds": 1, "containers": [main]}));
    for dir in ["from-file", "from-environment", "from-flag"] {
        node.sandbox.write_file(format!("/root/{dir}/web.json"), web.to_string()).unwrap();
    }
    let agent = start(
        &node,
        "env SYSTEMK_NODENAME=from-environment SYSTEMK_CGROUP_ROOT=fromenvironment SYSTEMK_RUN_DIR=/run/from-environment \
         SYSTEMK_MANIFESTS=/root/from-environment,/root/none \
         systemk agent --config /root/config.yaml --nodename from-flag --manifests /root/from-flag",
    );
    let logs = "systemk logs --run-dir /run/from-environment web";
    let said = || exec(&node, logs).stdout.contains('\n').then_some(());
    e2e::eventually::wait_until("the pod's line", e2e::agent::SOON, said)
        .unwrap_or_else(|e| panic!("{e}: {:?}", agent.said()));
    assert_eq!(ok(&node, logs), "from-flag at 10.0.0.1\n");
    let wide = ok(&node, "SYSTEMK_RUN_DIR=/run/from-environment systemk ps -o wide");
    holds(&wide, &["192.0.2.9", "/root/from-flag/web.json\n"]);
    assert_eq!(
        ok(&node, "systemctl show -p Slice --value 'systemk.default.web.main*' | cut -d- -f1"),
        "fromenvironment\n"
    );
    assert_eq!(
        ok(&node, "ls /var/lib/from-file/pods | wc -l; ls -d /run/systemk /var/lib/systemk 2>/dev/null | wc -l"),
        "1\n0\n"
    );
    // A command's own flag wins as well.
    holds(
        &exec(&node, "SYSTEMK_RUN_DIR=/run/from-environment systemk ps --run-dir /run/other").stderr,
        &["no agent runs with --run-dir /run/other"],
    );
}

/// A way to say something wrong, and how the message names it.
fn wrong() -> Vec<(&'static str, &'static str, &'static str)> {
    let flag = |line| (line, "", "--");
    let mut cases: Vec<(&str, &str, &str)> = [
        "--kubeconfig relative",
        "--user",
        "--pod-network bridge",
        "--manifests relative",
        "--dir /a/../b",
        "--node-ip 10.0.0",
        "--node-ip 0.0.0.0",
        "--node-external-ip x",
        "--nodename Big_Name",
        "--addr nonsense",
        "--addr :0",
        "--certfile /root/c",
        "--keyfile /root/k",
        "--native-root /a/b",
        "--unqualified-images x",
        "--cgroup-root a-b",
        "--log-level =x=",
        "--nonsense",
    ]
    .map(flag)
    .to_vec();
    cases.extend([
        ("", "nodeNam: x", "there is no setting nodeNam; did you mean nodename?"),
        ("", "addr: 7", "addr must be a text"),
        ("", "standalone: perhaps", "standalone must be true or false"),
        ("", "nodeIp: [1]", "nodeIp must be a text or a list of texts"),
        ("", "nodename: Big_Name", "/root/config.yaml: nodename must be lower-case"),
        ("", "a: [", "/root/config.yaml: "),
        ("", "- a\n- b", "/root/config.yaml: it must be one document of 'key: value' lines"),
    ]);
    cases
}

fn paths(node: &Node) -> String {
    ok(node, "find /run /var/lib /etc /root -xdev -name '*systemk*' -o -path '/run/x*' -o -path '/var/lib/x*' | sort")
}

fn a_wrong_value_is_named_and_nothing_is_made(systemd: Systemd) {
    let node = bare(systemd, "cli-config-wrong");
    let before = paths(&node);
    let dirs = "--run-dir /run/x --state-dir /var/lib/x";
    for (flags, file, names) in wrong() {
        node.sandbox.write_file("/root/config.yaml", file).unwrap();
        let named = if names == "--" { flags.split(' ').next().unwrap() } else { names };
        fails(&node, &format!("systemk agent {dirs} --config /root/config.yaml {flags}"), 2, &[named]);
        if names == "--" {
            // As it always was: the agent's flags without a command.
            fails(&node, &format!("systemk {dirs} --config /root/config.yaml {flags}"), 2, &[named]);
        }
    }
    for variable in ["NODENAME=Big_Name", "NODE_IP=10.0.0.1,x", "ADDR=x", "USER=yes", "STATE_DIR=relative"] {
        let (name, _) = variable.split_once('=').unwrap();
        fails(&node, &format!("SYSTEMK_{variable} systemk agent --run-dir /run/x"), 2, &[&format!("SYSTEMK_{name} ")]);
    }
    // Every problem at once.
    node.sandbox.write_file("/root/config.yaml", "addr: x\n").unwrap();
    let said = fails(
        &node,
        "SYSTEMK_NODENAME=X systemk --config /root/config.yaml --node-ip y",
        2,
        &["Try 'systemk agent --help'"],
    );
    for named in ["systemk: /root/config.yaml: addr ", "systemk: SYSTEMK_NODENAME ", "systemk: --node-ip "] {
        holds(&said, &[named]);
    }
    assert_eq!(paths(&node), before);
    // What a service without flags would be told is what the other commands go by.
    let file = write(&node, "web", &polite("web"));
    for command in [format!("run {file}"), format!("plan {file}"), "uninstall".to_owned()] {
        fails(
            &node,
            &format!("SYSTEMK_CGROUP_ROOT=a-b systemk {command}"),
            1,
            &["systemk: SYSTEMK_CGROUP_ROOT must be"],
        );
    }
    helps(&node);
    assert_eq!(ok(&node, "ls -d /run/systemk /run/x /var/lib/systemk /var/lib/x 2>/dev/null || true"), "");
}

/// Each command tells of its options.
fn helps(node: &Node) {
    let commands: [(&str, &[&str]); 9] = [
        ("", &["agent", "run", "ps", "logs", "rm", "plan", "install", "uninstall", "version"]),
        (
            "agent",
            &["--config", "--manifests", "--native-root", "--node-ip", "--addr", "--state-dir", "SYSTEMK_NODE_IP"],
        ),
        ("run", &["Usage: systemk run", "--detach", "--run-dir", "--state-dir"]),
        ("ps", &["Usage: systemk ps", "--namespace", "--output", "--run-dir"]),
        ("logs", &["--namespace", "--container", "--follow", "--previous", "--since", "--tail", "--timestamps"]),
        ("rm", &["Usage: systemk rm", "--namespace", "--run-dir", "--state-dir"]),
        ("plan", &["Usage: systemk plan", "--output", "--show-secrets", "--config"]),
        ("install", &["Usage: systemk install", "--dry-run"]),
        ("uninstall", &["Usage: systemk uninstall", "--dry-run"]),
    ];
    for (command, parts) in commands {
        holds(&ok(node, &format!("systemk {command} --help")), parts);
    }
    assert_eq!(ok(node, "systemk --version"), ok(node, "systemk version"));
    fails(node, "systemk lgos web", 2, &["a similar subcommand exists: 'logs'"]);
}
