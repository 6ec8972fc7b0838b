//! `systemk install` and `systemk uninstall`: from a machine without it to a machine without it.

use e2e::agent::Node;
use e2e::sandbox::Systemd;
use serde_json::json;

use super::support::*;

on_both! { a_machine_gets_it_and_loses_it, an_installation_that_cannot_start_says_why_and_goes_away }

/// All that could be left on the machine, a line each. A user's own drop-in is not ours.
fn left(node: &Node) -> String {
    let script =
        "{ systemctl list-units --all --plain --no-legend 'systemk*' 'kubepods*' 'run-systemk*' 'var-lib-systemk*'
           systemctl list-unit-files --no-legend 'systemk*' 'kubepods*'
           find /etc/systemd /run/systemd /usr/lib/systemd '(' -name '*systemk*' -o -name 'kubepods*' ')' -print
           find /sys/fs/cgroup '(' -name '*systemk*' -o -name 'kubepods*' ')' -print
           awk '{print $5}' /proc/self/mountinfo | grep -E '^/(run|var/lib)/systemk'
           ls -d /run/systemk /var/lib/systemk
           pgrep -a systemk
        } 2>/dev/null | grep -v '^/etc/systemd/system/systemk.service.d$' || true";
    ok(node, script)
}

fn the_service_is_as_it_was_meant(node: &Node) {
    let expected = [
        ("Type", "notify"),
        ("ActiveState", "active"),
        ("UnitFileState", "enabled"),
        ("NeedDaemonReload", "no"),
        ("WatchdogUSec", "30s"),
        ("OOMScoreAdjust", "-900"),
        ("KillMode", "process"),
        ("Restart", "always"),
        ("LimitNOFILE", "524288"),
        ("LockPersonality", "yes"),
        ("RestrictRealtime", "yes"),
        ("KeyringMode", "private"),
        // A package's scripts may need any device.
        ("DevicePolicy", "auto"),
        ("DeviceAllow", ""),
    ];
    for (name, value) in expected {
        assert_eq!(node.property("systemk.service", name).unwrap(), value, "{name}");
    }
    let capabilities = node.property("systemk.service", "CapabilityBoundingSet").unwrap();
    assert!(capabilities.contains("cap_sys_admin"), "{capabilities}");
    for without in ["cap_sys_time", "cap_sys_boot", "cap_wake_alarm"] {
        assert!(!capabilities.contains(without), "{capabilities}");
    }
    let pid = node.property("systemk.service", "MainPID").unwrap();
    // Where a process may have less than 0 at all: a machine that is a container itself often lacks the capability.
    let may = ok(node, "(echo -900 >/proc/self/oom_score_adj) 2>/dev/null && echo -900 || echo 0");
    assert_eq!(ok(node, &format!("cat /proc/{pid}/oom_score_adj")), may);
    assert_eq!(
        ok(node, "stat -c '%a %U' /etc/systemd/system/systemk.service /etc/systemk/manifests"),
        "644 root\n700 root\n"
    );
    assert_eq!(
        exec(node, "systemd-analyze verify --man=no /etc/systemd/system/systemk.service 2>&1 | grep systemk").stdout,
        ""
    );
    assert!(ok(node, "systemctl status systemk").contains(&format!("node {} on systemd", node.sandbox.name())));
}

fn the_first_time(node: &Node) {
    fails(node, "setpriv --reuid 65534 systemk install", 1, &["'systemk install' changes the machine: run it as root"]);
    let said = ok(node, "systemk install --dry-run");
    holds(
        &said,
        &[
            "nothing is changed",
            "made /etc/systemk/manifests",
            "wrote /etc/systemd/system/systemk.service",
            "Type=notify",
        ],
    );
    assert_eq!(left(node), "");
    assert_eq!(exec(node, "ls -d /etc/systemk/manifests").code, 2);
    let said = exec(node, "systemk install");
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    assert_eq!(
        said.stdout,
        "made /etc/systemk/manifests: the pods of the manifests in it are run\n\
         wrote /etc/systemd/system/systemk.service\n\
         enabled it: it starts at every boot\n\
         started it, and it is ready\n"
    );
    the_service_is_as_it_was_meant(node);
    let pid = node.property("systemk.service", "MainPID").unwrap();
    let again = ok(node, "systemk install");
    assert_eq!(again, "systemk is installed and running; nothing had to be changed\n");
    assert_eq!(node.property("systemk.service", "MainPID").unwrap(), pid);
}

/// Another binary is an upgrade; pods go on.
fn again_from_elsewhere(node: &Node) {
    let running = main_pid(node, "detached");
    let said = ok(node, "cp /usr/local/bin/systemk /opt/systemk && /opt/systemk install");
    assert_eq!(said, "changed /etc/systemd/system/systemk.service\nrestarted it; its pods went on\n");
    let agent = node.property("systemk.service", "MainPID").unwrap();
    assert_eq!(ok(node, &format!("readlink /proc/{agent}/exe")), "/opt/systemk\n");
    // A new file at the old path is one as well.
    let said = ok(node, "cp /usr/local/bin/systemk /opt/new && mv /opt/new /opt/systemk && /opt/systemk install");
    assert_eq!(said, "restarted it; its pods went on\n");
    node.wait_ready("detached").unwrap();
    assert_eq!(main_pid(node, "detached"), running);
    ok(node, "systemk install");
}

fn a_machine_gets_it_and_loses_it(systemd: Systemd) {
    let mut node = bare(systemd, "cli-install");
    the_first_time(&node);
    pods_run(&node);
    again_from_elsewhere(&node);
    node.sandbox.reboot().unwrap();
    for pod in ["detached", "listed"] {
        node.wait_ready(pod).unwrap();
    }
    // What a user set on a container, and on the service.
    let unit = node.unit("detached", "main").unwrap();
    ok(
        &node,
        &format!("systemctl set-property --runtime {unit} CPUWeight=50; systemctl set-property {unit} IOWeight=50"),
    );
    let own = "/etc/systemd/system/systemk.service.d/own.conf";
    node.sandbox.write_file(own, "[Service]\nEnvironment=A=b\n").unwrap();

    let before = (names(&node), main_pid(&node, "listed"), node.property("systemk.service", "MainPID").unwrap());
    let would = ok(&node, "systemk uninstall --dry-run");
    let after = (names(&node), main_pid(&node, "listed"), node.property("systemk.service", "MainPID").unwrap());
    assert_eq!(before, after);

    let said = exec(&node, "systemk uninstall");
    assert_eq!((said.code, said.stderr.as_str()), (0, "stopping the pods detached, listed ...\n"), "{said:?}");
    let expected = format!(
        "stopped and disabled systemk.service\n\
         stopped and removed the pods detached, listed\n\
         removed /etc/systemd/system/systemk.service\n\
         removed kubepods-besteffort.slice, kubepods.slice\n\
         removed /run/systemk\n\
         removed /var/lib/systemk\n\
         {own} is yours and stays\n\
         /etc/systemk/manifests/listed.json is yours and stays\n\
         /etc/systemk/config.yaml is yours and stays\n\
         packages that pods have installed stay, as does this program itself\n"
    );
    assert_eq!(said.stdout, expected);
    assert_eq!(would.replace("would have ", ""), expected);
    assert_eq!(ok(&node, "cat /mnt/out/*"), "detached ended\nlisted ended\n", "each had its grace");
    assert_eq!(left(&node), "");
    assert_eq!(
        ok(&node, "ls /etc/systemk /etc/systemk/manifests | xargs"),
        "/etc/systemk: config.yaml manifests /etc/systemk/manifests: listed.json\n"
    );
    let said = ok(&node, "systemk uninstall");
    holds(&said, &["config.yaml is yours and stays\n", "systemk is not installed and has left nothing here\n"]);
    assert_eq!(ok(&node, "systemctl is-system-running"), "running\n");
}

/// A pod that says on the host when it has ended, a second after SIGTERM.
fn slow(name: &str) -> serde_json::Value {
    let mut main = shell(
        "main",
        &format!("trap 'sleep 1; echo {name} ended >/out/{name}; exit' TERM; echo up; sleep infinity & wait"),
    );
    main["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}, {"name": "m", "mountPath": "/m"}]);
    pod(
        name,
        json!({"terminationGracePeriodSeconds": 5, "containers": [main], "volumes": [
        {"name": "out", "hostPath": {"path": "/mnt/out", "type": "DirectoryOrCreate"}},
        {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]}),
    )
}

fn pods_run(node: &Node) {
    node.apply("listed.json", &slow("listed").to_string()).unwrap();
    let file = write(node, "detached", &slow("detached"));
    ok(node, &format!("systemk run --detach {file}"));
    for pod in ["detached", "listed"] {
        node.wait_log(pod, "main", "up").unwrap();
    }
}

fn an_installation_that_cannot_start_says_why_and_goes_away(systemd: Systemd) {
    let node = bare(systemd, "cli-install-broken");
    ok(&node, "rm -r /etc/systemk");
    let said = exec(&node, "systemk install");
    assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{said:?}");
    holds(
        &said.stderr,
        &["systemk.service does not start; it last said:\n  systemk: --node-ip is needed: no interface has"],
    );
    assert_eq!(said.stderr.matches("--node-ip is needed").count(), 1, "{}", said.stderr);
    let said = ok(&node, "systemk uninstall");
    holds(
        &said,
        &[
            "stopped and disabled systemk.service\n",
            "removed /etc/systemd/system/systemk.service\n",
            "removed /etc/systemk\n",
        ],
    );
    assert_eq!(left(&node), "");
    assert_eq!(ok(&node, "systemk uninstall"), "systemk is not installed and has left nothing here\n");
}
