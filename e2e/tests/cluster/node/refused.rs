//! Credentials and names that cannot work: one line each that says what is wrong and what comes next.

use e2e::agent::{Node, SOON};
use e2e::control_plane::{ControlPlane, ControlPlaneSpec, Identity};
use e2e::eventually::wait_until;
use e2e::member::{KUBECONFIG, Member, cluster, own_address};
use e2e::sandbox::{SandboxSpec, Systemd};

use super::{is_ready, log, node, wait_log, wait_node};

on_both! { a_kubeconfig_that_cannot_be_used a_name_that_another_machine_has }

/// What the file says is never going to work: the agent ends.
fn files(good: &str) -> Vec<(&'static str, Option<String>, Vec<&'static str>)> {
    let without = |start: &str| -> Option<String> {
        let lines: Vec<&str> = good.lines().filter(|line| !line.trim_start().starts_with(start)).collect();
        Some(lines.join("\n"))
    };
    let with_file = |key: &str| {
        let data = format!("{key}-data:");
        let lines = good.lines().map(|line| {
            if line.trim_start().starts_with(&data) { format!("    {key}: missing.pem") } else { line.to_owned() }
        });
        Some(lines.collect::<Vec<_>>().join("\n"))
    };
    vec![
        ("no such file", None, vec![KUBECONFIG, "No such file"]),
        ("empty", Some(String::new()), vec![KUBECONFIG, "no current-context"]),
        ("not YAML", Some("{[".to_owned()), vec![KUBECONFIG, "YAML"]),
        ("no current-context", without("current-context"), vec!["it has no current-context"]),
        (
            "another context",
            Some(good.replace("current-context: systemk", "current-context: other")),
            vec![KUBECONFIG, "other"],
        ),
        ("no user", Some(good.replace("    user: user", "    user: nobody")), vec![KUBECONFIG, "nobody"]),
        ("no such CA file", with_file("certificate-authority"), vec!["/etc/systemk/missing.pem", "No such file"]),
        ("no such certificate file", with_file("client-certificate"), vec!["/etc/systemk/missing.pem", "No such file"]),
        ("no such key file", with_file("client-key"), vec!["/etc/systemk/missing.pem", "No such file"]),
        ("a server that is none", Some(good.replace("https://", "https//:")), vec![KUBECONFIG, "server"]),
    ]
}

fn a_kubeconfig_that_cannot_be_used(systemd: Systemd) {
    let member = Member::prepare(cluster().unwrap(), systemd, "refused", "").unwrap();
    let good = member.cluster.node_kubeconfig(&member.name).unwrap();
    for (what, text, parts) in files(&good) {
        match text {
            Some(text) => member.sandbox.write_secret(KUBECONFIG, text).unwrap(),
            None => member.sandbox.run(&["rm", KUBECONFIG]).map(drop).unwrap(),
        }
        let command = format!(
            "exec systemk agent --run-dir /run/try --state-dir /var/lib/try --kubeconfig {KUBECONFIG} --node-ip 10.0.0.1 --log-level error"
        );
        let output = member.sandbox.exec(&["timeout", "20", "bash", "-c", &command]).unwrap();
        assert_eq!(output.code, 1, "{what}: {output:?}");
        assert_eq!(output.stderr.lines().count(), 1, "{what}: {}", output.stderr);
        for part in parts {
            assert!(output.stderr.contains(part), "{what}: {:?} is not in {:?}", part, output.stderr);
        }
        println!("{what}: {}", output.stderr.trim_end());
    }

    // What the API server says may be mended there: the agent stays, and tries again.
    let stranger = ControlPlane::start(ControlPlaneSpec::for_test("stranger").api_only()).unwrap();
    let port = |cluster: &ControlPlane| cluster.record().port.to_string();
    let identity = Identity::node(&member.name);
    let foreign = stranger.node_kubeconfig(&member.name).unwrap();
    let token = "    token: wrong".to_owned();
    let with_token = {
        let mut lines: Vec<&str> = good.lines().filter(|line| !line.trim_start().starts_with("client-")).collect();
        let at = lines.iter().position(|line| *line == "  user:").unwrap();
        lines.insert(at + 1, &token);
        lines.join("\n")
    };
    let authority =
        |text: &str| text.lines().find(|line| line.contains("certificate-authority-data")).unwrap().to_owned();
    let refused = [
        ("unreachable", good.replace(&port(&member.cluster), "1"), "nothing listens there (connection refused)"),
        ("no such host", good.replace("127.0.0.1", "api.invalid"), "its name cannot be resolved"),
        (
            "unknown CA",
            good.replace(&authority(&good), &authority(&foreign)),
            "its certificate is not signed by the kubeconfig's certificate-authority",
        ),
        (
            "expired certificate",
            member.cluster.kubeconfig(&identity.clone().expired()).unwrap(),
            "has expired at 2020-01-01T00:00:00Z (401)",
        ),
        (
            "another cluster's certificate",
            foreign.replace(&port(&stranger), &port(&member.cluster)).replace(&authority(&foreign), &authority(&good)),
            "it is revoked, or another cluster's",
        ),
        ("a wrong token", with_token, "does not accept the token of /etc/systemk/kubeconfig (401)"),
        (
            "another node's",
            member.cluster.node_kubeconfig("somebody-else").unwrap(),
            "is for the node \"somebody-else\" and this node's name is",
        ),
        (
            "a user without rights",
            member.cluster.kubeconfig(&Identity::user("nobody")).unwrap(),
            "the API server forbids it (403): nodes is forbidden: User \"nobody\" cannot create resource \"nodes\"",
        ),
    ];
    for (what, text, part) in refused {
        member.sandbox.write_secret(KUBECONFIG, text).unwrap();
        member.sandbox.run(&["journalctl", "--rotate"]).unwrap();
        member.sandbox.run(&["journalctl", "--vacuum-time=1us"]).unwrap();
        member.sandbox.run(&["systemctl", "restart", "systemk"]).unwrap();
        println!("{what}: {}", wait_log(&member, part));
        let lines = log(&member).lines().filter(|line| line.contains(part)).count();
        assert_eq!(lines, 1, "{what}: {}", log(&member));
        assert!(node(&member).is_none(), "{what}");
    }
    member.sandbox.write_secret(KUBECONFIG, good).unwrap();
    member.sandbox.run(&["systemctl", "restart", "systemk"]).unwrap();
    wait_node(&member, "the node to be ready", is_ready);
}

fn a_name_that_another_machine_has(systemd: Systemd) {
    let first = Member::join(systemd, "name").unwrap();
    let node = wait_node(&first, "the node to be ready", is_ready);
    wait_until("its lease", SOON, || super::lease(&first)).unwrap();
    first.run("web", super::super::script("sleep infinity")).unwrap();
    first.wait_running("web").unwrap();

    // Beside the first one, whose ports and addresses are its own.
    let address = own_address();
    let flags =
        format!("--kubeconfig {KUBECONFIG} --nodename {} --node-ip {address} --addr {address}:10250", first.name);
    let second = Node::boot(SandboxSpec::for_test(systemd, "thief"), &flags).unwrap();
    second.sandbox.write_secret(KUBECONFIG, first.cluster.node_kubeconfig(&first.name).unwrap()).unwrap();
    second.start_agent().unwrap();
    let line = wait_log(&second, "is another machine");
    let machine = first.sandbox.read_file("/etc/machine-id").unwrap();
    assert!(line.contains(machine.trim()) && line.contains("another --nodename"), "{line}");
    let after = wait_node(&first, "the node", |_| true);
    assert_eq!(after["status"]["nodeInfo"]["machineID"], node["status"]["nodeInfo"]["machineID"]);
    // And it runs none of the first one's pods.
    assert_eq!(second.sandbox.sh("ls /run/systemk/pods").unwrap().trim(), "");
    first.wait_running("web").unwrap();
}
