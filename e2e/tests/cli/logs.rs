//! `systemk logs`: which lines, of which attempt, until when.

use e2e::agent::{Node, SOON};
use e2e::eventually::wait_until;
use e2e::sandbox::Systemd;
use serde_json::json;

use super::support::*;

on_both! { lines_of_attempts, what_cannot_be_shown }

/// Runs until there is `/mnt/go/<name>.<attempt>`, then fails; says which attempt it is.
fn steps(name: &str) -> serde_json::Value {
    let script = format!(
        "n=$(($(cat /go/{name}.count 2>/dev/null || echo 0) + 1)); echo $n >/go/{name}.count
         echo attempt $n; echo aside $n >&2; until [ -e /go/{name}.$n ]; do sleep 0.05; done; echo end of $n; exit 1"
    );
    let mut main = shell("main", &script);
    main["volumeMounts"] = json!([{"name": "go", "mountPath": "/go"}]);
    pod(
        name,
        json!({"terminationGracePeriodSeconds": 1, "containers": [main],
        "volumes": [{"name": "go", "hostPath": {"path": "/mnt/go", "type": "DirectoryOrCreate"}}]}),
    )
}

fn wait_lines(node: &Node, command: &str, text: &str) {
    let said = || exec(node, command).stdout.contains(text).then_some(());
    wait_until(text, SOON, said).unwrap_or_else(|e| panic!("{e}: {:?}", exec(node, command)));
}

fn lines_of_attempts(systemd: Systemd) {
    let node = installed(systemd, "cli-logs");
    node.apply("steps.json", &steps("steps").to_string()).unwrap();
    wait_lines(&node, "systemk logs steps", "aside 1");
    let follower = start(&node, "systemk logs -f steps");
    follower.wait_stdout("attempt 1\naside 1\n");
    fails(&node, "systemk logs --previous steps", 1, &["the container main of pod steps has not been started before"]);
    ok(&node, "touch /mnt/go/steps.1");
    follower.wait_stdout("attempt 1\naside 1\nend of 1\nattempt 2\naside 2\n");
    assert_eq!(ok(&node, "systemk logs steps"), "attempt 2\naside 2\n");
    assert_eq!(ok(&node, "systemk logs --previous steps"), "attempt 1\naside 1\nend of 1\n");
    assert_eq!(ok(&node, "systemk logs --previous --tail 1 steps"), "end of 1\n");
    // A follower that comes later begins with the attempt that runs.
    let second = start(&node, "systemk logs --follow --tail 1 steps");
    second.wait_stdout("aside 2\n");
    // The agent's end is not the pod's.
    ok(&node, "systemctl restart systemk; touch /mnt/go/steps.2");
    follower.wait_stdout("end of 2\n");
    node.remove("steps.json").unwrap();
    let (code, stdout, stderr) = follower.ended();
    let all = "attempt 1\naside 1\nend of 1\nattempt 2\naside 2\nend of 2\n";
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, all, ""));
    let (code, stdout, _) = second.ended();
    assert_eq!((code, stdout.as_str()), (0, "aside 2\nend of 2\n"));
    fails(&node, "systemk logs steps", 1, &["there is no pod steps: this node has no pods"]);

    ages(&node);
    terminals(&node);
}

fn ages(node: &Node) {
    let script = "echo old; until [ -e /tmp/go ]; do sleep 0.05; done; echo new; printf open; sleep infinity";
    let file = write(
        node,
        "ages",
        &pod("ages", json!({"terminationGracePeriodSeconds": 1, "containers": [shell("main", script)]})),
    );
    ok(node, &format!("systemk run --detach {file}"));
    wait_lines(node, "systemk logs ages", "old\n");
    // The two lines are three seconds apart; that is what this is about.
    wait_lines(node, "systemk logs ages --since 3s; echo $?", "0\n");
    let empty = || (exec(node, "systemk logs ages --since 3s").stdout.is_empty()).then_some(());
    wait_until("the first line to be older than three seconds", SOON, empty).unwrap();
    let time = ok(node, "date +%Y-%m-%dT%H:%M:%S.%NZ").trim().to_owned();
    ok(node, "for root in /var/lib/systemk/pods/*/containers/main/0/tmp; do touch $root/go; done");
    wait_lines(node, "systemk logs ages", "new\n");
    assert_eq!(ok(node, &format!("systemk logs ages --since {time}")), "new\n");
    assert_eq!(ok(node, "systemk logs ages --since 1h"), "old\nnew\n");
    assert_eq!(ok(node, "systemk logs ages --tail 1"), "new\n");
    assert_eq!(ok(node, "systemk logs ages --tail 0"), "");
    let stamped = ok(node, "systemk logs ages --timestamps --tail 1");
    let (stamp, line) = stamped.split_once(' ').unwrap();
    assert!(stamp > time.as_str() && stamp.len() == 30 && stamp.ends_with('Z') && line == "new\n", "{stamped}");
    ok(node, "systemk rm ages");
}

/// To a file or a pipe go the container's bytes; a terminal gets nothing that acts on it.
fn terminals(node: &Node) {
    let script = r"printf 'a \033[31mred\033[0m \033]0;title\007 \303\251\n'; sleep infinity";
    let file = write(
        node,
        "colour",
        &pod("colour", json!({"terminationGracePeriodSeconds": 1, "containers": [shell("main", script)]})),
    );
    ok(node, &format!("systemk run --detach {file}"));
    wait_lines(node, "systemk logs colour", "\n");
    assert_eq!(ok(node, "systemk logs colour"), "a \u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7} é\n");
    let shown = ok(node, "script -qefc 'systemk logs colour' /dev/null </dev/null");
    assert!(!shown.contains(['\u{1b}', '\u{7}']) && shown.contains("red") && shown.contains('é'), "{shown:?}");
    ok(node, "systemk rm colour");
}

fn what_cannot_be_shown(systemd: Systemd) {
    let node = installed(systemd, "cli-logs-not");
    fails(&node, "systemk logs web", 1, &["systemk: there is no pod web: this node has no pods\n"]);
    let mut web = polite("web");
    web["spec"]["initContainers"] = json!([shell("first", "echo first")]);
    web["spec"]["containers"].as_array_mut().unwrap().push(shell("side", "echo side; sleep infinity"));
    node.apply("web.json", &web.to_string()).unwrap();
    let mut refused = polite("refused");
    refused["spec"]["containers"][0]["tty"] = json!(true);
    node.apply("refused.json", &refused.to_string()).unwrap();
    node.wait_log("web", "main", "up").unwrap();
    node.wait_status("refused", "a refusal", |s| s["phase"] == "Failed").unwrap();

    let said = exec(&node, "systemk logs web");
    assert_eq!((said.code, said.stdout.as_str()), (0, "up\n"));
    assert_eq!(said.stderr, "systemk: container main of main, side, first; -c chooses another\n");
    wait_lines(&node, "systemk logs web -c side", "side\n");
    assert_eq!(ok(&node, "systemk logs -c first web"), "first\n");
    fails(&node, "systemk logs web -c sid", 1, &["systemk: pod web has no container sid; it has main, side, first\n"]);
    fails(
        &node,
        "systemk logs wbe",
        1,
        &["systemk: there is no pod wbe in the namespace default; did you mean web?\n"],
    );
    fails(&node, "systemk logs queue", 1, &["there is no pod queue in the namespace default; 'systemk ps' lists"]);
    fails(
        &node,
        "systemk logs refused",
        1,
        &["the container main of pod refused has not been started yet: ", "spec.containers[0].tty"],
    );
    fails(
        &node,
        "systemk logs --since yesterday web",
        2,
        &["--since must be an age such as 90s, 5m or 1h30m, or a time such as"],
    );
    fails(&node, "systemk logs --tail many web", 2, &["invalid value 'many' for '--tail <LINES>'"]);
    fails(&node, "systemk logs -f --previous web", 2, &["--previous is the output of an attempt that has ended"]);
    fails(
        &node,
        "systemk logs -n shop web",
        1,
        &["there is no pod web in the namespace shop; there is one with -n default"],
    );
    // A reader that has enough.
    assert_eq!(ok(&node, "systemk logs -f web 2>/dev/null | head -1"), "up\n");
}
