//! A machine with other things on it: no CPU time for the agent, thousands of mounts, no cgroup controllers.

use std::time::{Duration, Instant};

use e2e::agent::{Node, SOON};
use e2e::eventually::wait_until;
use e2e::sandbox::{Running, Systemd};
use serde_json::{Value, json};

use super::support::{
    agent_log, agent_pid, left, life, pod, shell, sleeper, starts, wait_nothing_left, wait_restarted, wait_sh,
};

/// Loops that never sleep, each in a session of its own: the kernel shares its time out among sessions first.
const HOGS: &str =
    "for i in {1..12}; do setsid bash -c '{ echo 10 > /proc/self/autogroup; } 2>/dev/null; renice -n 10 $$ >/dev/null
    while :; do :; done' & done; wait";

/// The nicest there is, both where sessions count and where they do not: each loop outweighs it seven times. With the
/// watchdog of the installed service.
pub(crate) const STARVED: &str = "mkdir -p /etc/systemd/system/systemk.service.d
    printf '[Service]\\nNice=19\\nWatchdogSec=30s\\nExecStartPost=/bin/sh -c \"echo 19 >/proc/$MAINPID/autogroup || :\"\\n' \\
        > /etc/systemd/system/systemk.service.d/starved.conf
    systemctl daemon-reload";

/// Starts the loops, and waits until all of them run.
pub(crate) fn hog(node: &Node) -> Running {
    let hogs = node.sandbox.spawn(&["bash", "-c", HOGS]).unwrap();
    wait_sh(node, "the loops", "[ $(pgrep -cf 'while :; do :; done') -ge 12 ]");
    hogs
}

fn a_starved_agent_converges(systemd: Systemd) {
    let node = Node::without_agent(systemd, "starved").unwrap();
    node.sandbox.sh(STARVED).unwrap();
    node.start_agent().unwrap();
    node.apply("before.yaml", &sleeper("before")).unwrap();
    node.wait_ready("before").unwrap();
    let before = life(&node, "before", "main");
    let mut hogs = hog(&node);
    let once = "[ $(wc -l < /count/again.main) != 1 ] || exit 7\nexec sleep infinity";
    node.apply("again.yaml", &pod("again", "Always", &[shell("again", "main", once)]).to_string()).unwrap();
    for name in ["one", "two", "three"] {
        node.apply(&format!("{name}.yaml"), &sleeper(name)).unwrap();
    }
    for name in ["one", "two", "three"] {
        node.wait_ready(name).unwrap();
    }
    wait_restarted(&node, "again", "main", 1);
    node.remove("two.yaml").unwrap();
    node.wait_gone("two").unwrap();
    hogs.kill().unwrap();
    // Whether the watchdog took the agent is the machine's affair: what counts is that nothing ran twice.
    assert_eq!(before, life(&node, "before", "main"), "{}", agent_log(&node));
    for (name, times) in [("one", 1), ("three", 1), ("again", 2), ("before", 1)] {
        assert_eq!(starts(&node, name, "main"), times, "{name}");
        node.remove(&format!("{name}.yaml")).unwrap();
    }
    wait_nothing_left(&node, "bystander");
}

/// systemd looks at its whole table for each of the mounts.
const LONG: Duration = Duration::from_secs(300);

/// So many mounts of others, made in one process: a bind of one directory onto each of so many.
const MOUNTS: usize = 5000;
const BIND: &str = "use strict; my $mount = `uname -m` =~ /aarch64/ ? 40 : 165; my $source = '/mnt/source';
    mkdir $source; mkdir '/mnt/many';
    for my $i (1..MOUNTS) { my $at = \"/mnt/many/$i\"; mkdir $at; syscall($mount, $source, $at, 0, 4096, 0) == 0 or die $!; }";

/// The CPU time that a process has used, in the kernel's hundredths of a second.
fn ticks(node: &Node, pid: u32) -> u64 {
    let stat = node.sandbox.read_file(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn thousands_of_foreign_mounts(systemd: Systemd) {
    let node = Node::start(systemd, "mounts").unwrap();
    node.apply("before.yaml", &sleeper("before")).unwrap();
    node.wait_ready("before").unwrap();
    let before = life(&node, "before", "main");
    let bind = BIND.replace("MOUNTS", &MOUNTS.to_string());
    node.sandbox.exec_within(LONG, &["perl", "-e", &bind]).unwrap().ok().unwrap();
    let mounts = || node.sandbox.sh("wc -l < /proc/1/mountinfo").unwrap().trim().parse::<usize>().unwrap();
    wait_sh(
        &node,
        "systemd to have seen them",
        "[ $(systemctl list-units --plain --no-legend 'mnt-many-*.mount' | wc -l) = 5000 ]",
    );
    let others = mounts();
    assert!(others > MOUNTS);

    // Copying so many mounts is the kernel's and systemd's work for any unit with mounts of its own.
    let began = Instant::now();
    node.sandbox.run(&["systemd-run", "--quiet", "--wait", "-p", "PrivateMounts=yes", "/bin/true"]).unwrap();
    let bare = began.elapsed();
    let began = Instant::now();
    let mut many = pod("many", "Always", &[shell("many", "main", "exec sleep infinity")]);
    let volume = json!({"name": "empty", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}});
    many["spec"]["volumes"].as_array_mut().unwrap().push(volume);
    many["spec"]["containers"][0]["volumeMounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "empty", "mountPath": "/e"}));
    node.apply("many.yaml", &many.to_string()).unwrap();
    node.wait_ready("many").unwrap();
    let ready = began.elapsed();
    assert!(ready < 5 * bare + Duration::from_secs(10), "ready after {ready:?}, a bare unit took {bare:?}");
    // An agent that looked at every mount for each of systemd's words about them would never be done.
    let agent = agent_pid(&node);
    let idle = || {
        let (used, since) = (ticks(&node, agent), Instant::now());
        wait_until("a second", Duration::from_secs(5), || (since.elapsed() >= Duration::from_secs(1)).then_some(()))
            .ok()?;
        (ticks(&node, agent) - used <= 2).then_some(())
    };
    wait_until("the agent to rest", SOON, idle).unwrap();
    node.remove("many.yaml").unwrap();
    wait_nothing_left(&node, "before");
    assert_eq!((before, others), (life(&node, "before", "main"), mounts()), "{}", left(&node, "before"));
    assert_eq!(starts(&node, "many", "main"), 1);
}

/// The sandboxes' cgroup2 has no controllers. The node says so once, and each pod that asks for what is not there.
fn missing_controllers_are_named(systemd: Systemd) {
    let node = Node::start(systemd, "none").unwrap();
    assert_eq!(node.sandbox.sh("cat /sys/fs/cgroup/cgroup.controllers").unwrap().trim(), "");
    let said = "journalctl -u systemk -o cat -p warning | grep -c 'cgroup2 has no cpu, memory, pids controller'";
    assert_eq!(node.sandbox.sh(said).unwrap().trim(), "1");
    let mut main = shell("limited", "main", "exec sleep infinity");
    main["resources"] = json!({"limits": {"cpu": "500m", "memory": "64Mi"}});
    node.apply("limited.yaml", &pod("limited", "Always", &[main]).to_string()).unwrap();
    node.apply("free.yaml", &sleeper("free")).unwrap();
    let warnings = |report: &Value| -> Vec<String> {
        let events = report["events"].as_array().cloned().unwrap_or_default();
        let warned = events.iter().filter(|e| e["type"] == "Warning" && e["reason"] == "PodNote");
        warned.map(|e| e["message"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let limited = warnings(&node.wait_ready("limited").unwrap());
    for what in ["cpu", "memory"] {
        let field = format!("spec.containers[0].resources.limits[{what}]");
        let named = limited.iter().any(|w| w.contains(&field) && w.contains(&format!("has no {what} controller")));
        assert!(named, "{what}: {limited:?}");
    }
    assert_eq!(warnings(&node.wait_ready("free").unwrap()), Vec::<String>::new());
    for name in ["limited", "free"] {
        node.remove(&format!("{name}.yaml")).unwrap();
    }
    wait_nothing_left(&node, "bystander");
}

on_both!(a_starved_agent_converges, thousands_of_foreign_mounts, missing_controllers_are_named);
