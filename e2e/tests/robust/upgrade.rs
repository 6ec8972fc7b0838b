//! The agent's program is replaced by the next version's and put back while pods run: no container notices, ends are known
//! whoever started what ended, and nothing runs again because the other version wrote its state down.

use e2e::agent::Node;
use e2e::sandbox::Systemd;
use serde_json::Value;

use super::support::{
    agent_log, container, life, pod, shell, sleeper, starts, wait_nothing_left, wait_restarted, wait_sh,
    wait_terminated,
};

/// The program in a place of its own, where it can be replaced, and the next version of it: the same with another number.
const INSTALL: &str = "mkdir -p /opt/systemk /etc/systemd/system/systemk.service.d
    cp /usr/local/bin/systemk /opt/systemk/old
    version=$(/opt/systemk/old --version | grep -o '[0-9.]*$')
    sed \"s/${version//./[.]}/9.9.9/g\" /opt/systemk/old > /opt/systemk/new
    chmod 755 /opt/systemk/new; cp /opt/systemk/old /opt/systemk/systemk
    line=$(sed -n 's,^ExecStart=/usr/local/bin/,ExecStart=/opt/systemk/,p' /etc/systemd/system/systemk.service)
    printf '[Service]\\nExecStart=\\n%s\\n' \"$line\" > /etc/systemd/system/systemk.service.d/opt.conf
    systemctl daemon-reload";

/// Puts the program `name` in place as a package manager does, and starts it.
fn replace(node: &Node, name: &str) {
    let script = format!(
        "cd /opt/systemk; cp {name} .systemk.tmp; mv .systemk.tmp systemk; systemctl restart systemk; \
         cmp {name} /proc/$(systemctl show -p MainPID --value systemk)/exe"
    );
    node.sandbox.sh(&script).unwrap();
}

/// What a newer agent would write: other data of another version, or the same version and more fields.
const NEWER: &str = "cd /run/systemk/pods
    for pod in NEWER; do sed -i 's/^{\"version\":1,/{\"version\":2,/' $pod/history.json; grep -q '^{\"version\":2,' $pod/history.json; done
    data=$(sed 's/^.*\"data\":{/{\"later\":[1],/; s/}$//' more/history.json)
    sum=$(printf %s \"$data\" | sha256sum | cut -d' ' -f1)
    printf '{\"version\":1,\"sha256\":\"%s\",\"data\":%s}\\n' $sum \"$data\" > more/history.json";

const RUNNING: [&str; 4] = ["runs", "restarted", "more", "late"];

fn up_and_down(systemd: Systemd) {
    let node = Node::without_agent(systemd, "upgrade").unwrap();
    node.sandbox.sh(INSTALL).unwrap();
    node.start_agent().unwrap();
    let once = "[ $(wc -l < /count/$POD.main) != 1 ] || exit 7\necho from $POD\nexec sleep infinity";
    for name in ["restarted", "more"] {
        let main = shell(name, "main", &once.replace("$POD", name));
        node.apply(&format!("{name}.yaml"), &pod(name, "Always", &[main]).to_string()).unwrap();
    }
    let end = |name: &str| format!("until [ -e /count/go-{name} ]; do sleep 0.05; done\nexit 7");
    for (name, script) in [("done", "exit 3".to_owned()), ("early", end("early")), ("late", end("late"))] {
        node.apply(&format!("{name}.yaml"), &pod(name, "Never", &[shell(name, "main", &script)]).to_string()).unwrap();
    }
    node.apply("runs.yaml", &sleeper("runs")).unwrap();
    wait_restarted(&node, "restarted", "main", 1);
    wait_restarted(&node, "more", "main", 1);
    wait_terminated(&node, "done", "main");
    for name in ["runs", "early", "late"] {
        node.wait_ready(name).unwrap();
    }
    let lives = || RUNNING.map(|name| life(&node, name, "main"));
    let before = lives();

    replace(&node, "new");
    wait_sh(&node, "the new version", "journalctl -u systemk -o cat | grep -q 'systemk 9.9.9 is ready'");
    assert_eq!(before, lives());
    works(&node);
    // A container that the old program started ends while neither is there: its hook is the new program.
    ends_unseen(&node, "early");
    node.apply("new.yaml", &sleeper("new")).unwrap();
    node.wait_ready("new").unwrap();
    let newest = life(&node, "new", "main");

    node.sandbox.sh("systemctl stop systemk").unwrap();
    node.sandbox.sh(&NEWER.replace("NEWER", "runs restarted done new late")).unwrap();
    replace(&node, "old");
    for name in ["runs", "restarted", "more", "late", "new"] {
        node.wait_ready(name).unwrap();
    }
    assert_eq!((&before, newest), (&lives(), life(&node, "new", "main")), "{}", agent_log(&node));
    works(&node);
    for name in ["restarted", "more"] {
        let status = wait_restarted(&node, name, "main", 1);
        assert_eq!(starts(&node, name, "main"), 2);
        assert_eq!(status["lastState"]["terminated"]["exitCode"], 7, "{status}");
    }
    ends_unseen(&node, "late");
    let ended = wait_terminated(&node, "done", "main");
    assert_eq!((ended["exitCode"].as_i64(), starts(&node, "done", "main")), (Some(3), 1), "it ran again: {ended}");
    for name in ["runs", "restarted", "more", "done", "early", "late", "new"] {
        node.remove(&format!("{name}.yaml")).unwrap();
    }
    wait_nothing_left(&node, "bystander");
}

/// The commands of whatever version is installed know the pods.
fn works(node: &Node) {
    let table = node.sandbox.sh("/opt/systemk/systemk ps").unwrap();
    assert!(table.contains("runs") && table.contains("restarted"), "{table}");
    let log = node.sandbox.sh("/opt/systemk/systemk logs restarted").unwrap();
    assert_eq!(log, "from restarted\n", "{:#}", node.report("restarted").unwrap());
}

fn ends_unseen(node: &Node, name: &str) {
    let unit = node.unit(name, "main").unwrap();
    node.sandbox.sh(&format!("systemctl stop systemk; touch /var/lib/count/go-{name}")).unwrap();
    wait_sh(node, "the container to end", &format!("! systemctl is-active -q {unit}"));
    node.start_agent().unwrap();
    let ended: Value = wait_terminated(node, name, "main");
    assert_eq!((ended["exitCode"].as_i64(), ended["reason"].as_str()), (Some(7), Some("Error")), "{name}: {ended}");
    let report = node.report(name).unwrap();
    assert_eq!(container(&report["pod"]["status"], "main")["restartCount"], 0);
    assert_eq!(starts(node, name, "main"), 1);
}

on_both!(up_and_down);
