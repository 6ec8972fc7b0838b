//! What was wrong with the Go program, each held here on both versions of systemd. `docs/go-defects.md` is the table.

use e2e::agent::Node;
use e2e::apt_repo::{AptRepo, Archive, INSTALL};
use e2e::sandbox::Systemd;
use e2e::scenarios::{Scenario, run_all};
use serde_json::Value;

use crate::packages::support::*;

mod restart;
mod table;
mod volumes;

const ALL: &[Scenario] = scenarios![
    s1_1_addresses_are_the_same_everywhere,
    s1_2_http_is_refused,
    s1_2_a_removed_package_is_installed_again,
    s1_2_debian_is_recognised_and_units_below_usr_lib_are_found,
    s1_2_two_installations_at_once,
    s1_2_a_user_that_comes_with_the_package,
    s1_3_pods_my_and_my_app,
    s1_3_one_long_argument,
    s1_4_secrets_are_not_shown,
    s1_5_oneshot_runs_each_line,
    s1_5_a_continued_command_line,
    s1_5_percent_and_dollar,
    s1_5_an_empty_command,
    s1_9_init_failure_blocks,
    s1_9_deletion_waits_for_the_process,
    s1_9_a_deaf_process_is_killed,
    s1_10_killed_is_137,
    s1_10_a_running_init_is_running,
    s1_10_half_done_is_running,
    s1_10_restarts_follow_the_policy,
    measured_a_failed_container_is_in_the_status,
    measured_a_notify_service_gets_ready,
];

/// The agent is stopped in these.
const ALONE: &[Scenario] = scenarios![s1_2_nothing_is_masked];

#[test]
fn go_defects_on_252() {
    go_defects(Systemd::V252);
}

#[test]
fn go_defects_on_257() {
    go_defects(Systemd::V257);
}

fn go_defects(systemd: Systemd) {
    let node = Node::without_agent(systemd, "defects").unwrap();
    AptRepo::build().unwrap().install_into(&node.sandbox, Archive::OursOnly).unwrap();
    let there = ["sk-continued", "sk-oneshot", "sk-notify", "sk-exit"];
    node.sandbox.run(&[&INSTALL[..], &there].concat()).unwrap();
    // Its configuration file stays, and with it the row that `dpkg -s` finds.
    node.sandbox.run(&["dpkg", "-r", "sk-continued"]).unwrap();
    node.start_agent().unwrap();
    run_all(&node, &[ALL, volumes::ALL].concat());
    for scenario in [ALONE, restart::ALONE].concat() {
        run_all(&node, &[scenario]);
    }
}

fn shell(name: &str, spec: &str, script: &str) -> String {
    let container = format!("image: /bin/bash, command: [bash, -c, {}]", serde_json::to_string(script).unwrap());
    pod_with(name, "", spec, &container)
}

fn container(status: &Value, index: usize) -> &Value {
    &status["containerStatuses"][index]
}

fn s1_1_addresses_are_the_same_everywhere(node: &Node) {
    let print = "echo $SYSTEMK_NODE_INTERNAL_IP $SYSTEMK_NODE_EXTERNAL_IP; exec sleep infinity";
    apply(node, "addresses", &shell("addresses", "", print));
    let report = node.wait_ready("addresses").unwrap();
    says(node, "addresses", "10.0.0.1 192.0.2.7\n");
    let status = &report["pod"]["status"];
    assert_eq!((&status["hostIP"], &status["podIP"]), (&"10.0.0.1".into(), &"192.0.2.7".into()));
}

fn s1_2_http_is_refused(node: &Node) {
    apply(node, "http", &pod("http", "image: 'http://localhost/a_1_all.deb'"));
    waits(node, "http", "InvalidImageName", &["https"]);
}

fn s1_2_a_removed_package_is_installed_again(node: &Node) {
    sh(node, "dpkg -s sk-continued");
    ready(node, "again", "image: sk-continued");
}

fn s1_2_debian_is_recognised_and_units_below_usr_lib_are_found(node: &Node) {
    sh(node, "grep -n VERSION_ID /etc/os-release && dpkg -L sk-notify | grep ^/usr/lib/systemd/system/");
    ready(node, "usr-lib", "image: sk-notify");
    says(node, "usr-lib", "sk-notify: ready");
}

fn s1_2_two_installations_at_once(node: &Node) {
    apply(node, "two-a", &pod("two-a", "image: sk-simple"));
    apply(node, "two-b", &pod("two-b", "image: sk-othername"));
    node.wait_ready("two-a").unwrap();
    node.wait_ready("two-b").unwrap();
}

fn s1_2_a_user_that_comes_with_the_package(node: &Node) {
    let by_name = "securityContext: {windowsOptions: {runAsUserName: sk-dirs}},";
    apply(node, "by-name", &pod_with("by-name", "", by_name, "image: sk-dirs"));
    node.wait_ready("by-name").unwrap();
    says(node, "by-name", "sk-dirs: /var/lib/sk-dirs sk-dirs 750 lines: 1\n");
}

/// Nor is anything started or enabled.
fn s1_2_nothing_is_masked(node: &Node) {
    assert_eq!(sh(node, "find /run/systemd/system /etc/systemd/system -lname /dev/null -name '*sk*'"), "");
    assert_eq!(node.property("skother.service", "UnitFileState").unwrap(), "disabled");
    assert_eq!(node.property("skother.service", "ActiveState").unwrap(), "inactive");
}

fn s1_3_pods_my_and_my_app(node: &Node) {
    let sleep = "exec sleep infinity";
    apply(node, "my", &shell("my", "", sleep));
    apply(node, "my.app", &shell("my.app", "", sleep));
    node.wait_ready("my.app").unwrap();
    let report = node.wait_ready("my").unwrap();
    assert_eq!(report["pod"]["status"]["containerStatuses"].as_array().unwrap().len(), 1);
    gone(node, "my");
    node.wait_ready("my.app").unwrap();
}

fn s1_3_one_long_argument(node: &Node) {
    let long = "x".repeat(2500);
    ready(node, "long", &format!("image: sk-continued, args: [{long}]"));
    says(node, "long", &format!("[{long}]\n"));
}

fn s1_4_secrets_are_not_shown(node: &Node) {
    let secret = "{apiVersion: v1, kind: Secret, metadata: {name: hush}, stringData: {key: hunter2}}\n---\n";
    let container =
        "image: /bin/sleep, args: [infinity], env: [{name: S, valueFrom: {secretKeyRef: {name: hush, key: key}}}]";
    apply(node, "hush", &format!("{secret}{}", pod("hush", container)));
    node.wait_ready("hush").unwrap();
    let pid = property(node, "hush", "MainPID");
    sh(node, &format!("tr '\\0' '\\n' </proc/{pid}/environ | grep -x S=hunter2"));
    let unit = node.unit("hush", "c").unwrap();
    sh(node, &format!("! systemctl show '{unit}' | grep hunter2; ! grep -r hunter2 /run/systemd/system"));
    sh(node, "! journalctl --no-pager | grep hunter2; ! grep hunter2 /run/systemk/pods/*/status.json");
    // As anybody but root.
    sh(node, "! setpriv --reuid=1 --clear-groups grep -rs hunter2 /run/systemk /var/lib/systemk");
}

fn s1_5_oneshot_runs_each_line(node: &Node) {
    apply(node, "oneshot", &pod_with("oneshot", "", "restartPolicy: Never,", "image: sk-oneshot"));
    ends(node, "oneshot", "Succeeded", 0);
    says(node, "oneshot", "sk-oneshot: step one");
    says(node, "oneshot", "sk-oneshot: step three");
}

fn s1_5_a_continued_command_line(node: &Node) {
    ready(node, "continued", "image: sk-continued");
    says(node, "continued", "sk-continued: [--foreground] [--one] [--two] [words] [--name] [a name with spaces]");
}

fn s1_5_percent_and_dollar(node: &Node) {
    let container = "image: /bin/bash, env: [{name: A, value: 50%x}, {name: B, value: $$}], \
                     command: [bash, -c, 'echo $A $B %Y $0 | cat; exec sleep infinity', '$HOME']";
    ready(node, "percent", container);
    says(node, "percent", "50%x $ %Y $HOME\n");
}

fn s1_5_an_empty_command(node: &Node) {
    apply(node, "empty", &pod("empty", "image: sk-nounit, command: []"));
    waits(node, "empty", "CreateContainerError", &["no command specified"]);
}

fn s1_9_init_failure_blocks(node: &Node) {
    let init = "initContainers: [{name: i, image: /bin/false}],";
    apply(node, "blocked", &shell("blocked", init, "exec sleep infinity"));
    node.wait_status("blocked", "a back-off of the init container", |status| {
        let init = &status["initContainerStatuses"][0];
        init["restartCount"].as_i64() > Some(0)
            && container(status, 0)["state"]["waiting"]["reason"] == "PodInitializing"
    })
    .unwrap();
}

/// The grace is used as far as it is needed.
fn s1_9_deletion_waits_for_the_process(node: &Node) {
    ready(node, "slow", "image: sk-exit, args: [--term-after, '1']");
    says(node, "slow", "will exit with 0");
    let pid = property(node, "slow", "MainPID");
    gone(node, "slow");
    sh(node, &format!("test ! -e /proc/{pid}"));
}

fn s1_9_a_deaf_process_is_killed(node: &Node) {
    apply(node, "deaf", &shell("deaf", "", "trap '' TERM; echo deaf; while :; do sleep 1; done"));
    node.wait_ready("deaf").unwrap();
    says(node, "deaf", "deaf");
    let pid = property(node, "deaf", "MainPID");
    gone(node, "deaf");
    sh(node, &format!("test ! -e /proc/{pid}"));
}

fn s1_10_killed_is_137(node: &Node) {
    apply(node, "killed", &shell("killed", "restartPolicy: Never,", "kill -9 $BASHPID"));
    let report = ends(node, "killed", "Failed", 137);
    assert_eq!(container(&report["pod"]["status"], 0)["ready"], false);
}

fn s1_10_a_running_init_is_running(node: &Node) {
    let init = "initContainers: [{name: i, image: /bin/sleep, args: [infinity]}],";
    apply(node, "init", &shell("init", init, "true"));
    node.wait_status("init", "a running init container", |status| {
        status["initContainerStatuses"][0]["state"]["running"].is_object() && status["phase"] == "Pending"
    })
    .unwrap();
}

fn s1_10_half_done_is_running(node: &Node) {
    let spec = "restartPolicy: Never,";
    let rest = "image: /bin/true}, {name: d, image: /bin/sleep, args: [infinity]";
    apply(node, "half", &pod_with("half", "", spec, rest));
    node.wait_status("half", "one ended, one running", |status| {
        let all = status["containerStatuses"].as_array().cloned().unwrap_or_default();
        status["phase"] == "Running"
            && all.iter().any(|c| c["state"]["terminated"]["exitCode"] == 0)
            && all.iter().any(|c| c["state"]["running"].is_object())
    })
    .unwrap();
}

fn s1_10_restarts_follow_the_policy(node: &Node) {
    apply(node, "always", &shell("always", "", "exit 0"));
    apply(node, "on-failure", &shell("on-failure", "restartPolicy: OnFailure,", "exit 7"));
    apply(node, "on-success", &shell("on-success", "restartPolicy: OnFailure,", "exit 0"));
    for name in ["always", "on-failure"] {
        let again = |status: &Value| container(status, 0)["restartCount"].as_i64() > Some(0);
        node.wait_status(name, "a restart", again).unwrap();
        waits(node, name, "CrashLoopBackOff", &[]);
    }
    let report = ends(node, "on-success", "Succeeded", 0);
    assert_eq!(container(&report["pod"]["status"], 0)["restartCount"], 0);
}

fn measured_a_failed_container_is_in_the_status(node: &Node) {
    let rest = "image: sk-nounit}, {name: d, image: /bin/sleep, args: [infinity]";
    apply(node, "failed", &pod("failed", rest));
    node.wait_status("failed", "both in the status, not ready", |status| {
        let all = status["containerStatuses"].as_array().cloned().unwrap_or_default();
        let ready = status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == "Ready").cloned();
        all.len() == 2
            && all.iter().any(|c| c["state"]["waiting"]["reason"] == "CreateContainerError")
            && all.iter().any(|c| c["state"]["running"].is_object())
            && ready.is_some_and(|c| c["status"] == "False")
    })
    .unwrap();
}

fn measured_a_notify_service_gets_ready(node: &Node) {
    apply(node, "main", &pod_with("main", "systemk.io/unit: sk-notify-main.service", "", "image: sk-notify"));
    node.wait_ready("main").unwrap();
    assert_eq!(property(node, "main", "StatusText"), "notified by the main process");
}
