//! `kubectl logs`: every option, through the API server and the node's kubelet API, as of a kubelet.

use e2e::agent::SOON;
use e2e::command::Output;
use e2e::eventually::wait_until;
use e2e::member::Member;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::access::{Asker, register};
use super::{script, shell};

on_both! { which_lines follow_and_previous nothing_to_show }

fn logs(member: &Member, arguments: &[&str]) -> Output {
    let all = [&["logs", "-n", &member.name][..], arguments].concat();
    member.kubectl().output(&all).unwrap()
}

#[track_caller]
fn shows(member: &Member, arguments: &[&str], expected: &str) {
    let said = logs(member, arguments);
    assert_eq!((said.code, said.stdout.as_str()), (0, expected), "{arguments:?}: {}", said.stderr);
}

#[track_caller]
fn fails(member: &Member, arguments: &[&str], expected: &str) {
    let said = logs(member, arguments);
    assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{arguments:?}");
    assert!(said.stderr.contains(expected), "{arguments:?}: {}", said.stderr);
}

#[track_caller]
fn wait_shows(member: &Member, arguments: &[&str], expected: &str) {
    let found = wait_until(expected, SOON, || (logs(member, arguments).stdout == expected).then_some(()));
    found.unwrap_or_else(|error| panic!("{arguments:?}: {error}: {:?}", logs(member, arguments)));
}

/// With a directory of the host at `/go`, by which a test tells it to go on.
fn told(mut spec: Value) -> Value {
    spec["containers"][0]["volumeMounts"] = json!([{"name": "go", "mountPath": "/go"}]);
    spec["volumes"] = json!([{"name": "go", "hostPath": {"path": "/mnt/go", "type": "DirectoryOrCreate"}}]);
    spec
}

fn which_lines(systemd: Systemd) {
    let member = Member::join(systemd, "logs").unwrap();
    register(&member);
    // The two lines are more than a second apart, as kubectl's --since-time counts whole ones.
    let mut spec = script("echo one; sleep 1.2; echo two; logger aside; sleep infinity");
    spec["initContainers"] = json!([shell("first", "echo of init")]);
    spec["containers"].as_array_mut().unwrap().push(shell("side", "echo of side; sleep infinity"));
    member.run("web", spec).unwrap();
    member.wait_running("web").unwrap();
    let main = ["web", "-c", "main"];
    wait_until("all lines", SOON, || logs(&member, &main).stdout.contains("aside\n").then_some(())).unwrap();
    wait_shows(&member, &["web", "-c", "side"], "of side\n");
    shows(&member, &["web", "-c", "first"], "of init\n");
    // What comes through syslog is another stream: one may overtake the other.
    let all = logs(&member, &main).stdout;
    assert!(["one\ntwo\naside\n", "one\naside\ntwo\n"].contains(&all.as_str()), "{all:?}");
    let last = all.lines().last().unwrap().to_owned() + "\n";
    let with = |arguments: &[&'static str]| [&main[..], arguments].concat();
    shows(&member, &with(&["--tail", "1"]), &last);
    shows(&member, &with(&["--tail", "0"]), "");
    shows(&member, &with(&["--tail", "99"]), &all);
    shows(&member, &with(&["--limit-bytes", "3"]), "one");
    shows(&member, &with(&["--since", "1h"]), &all);
    shows(&member, &with(&["--since", "1h", "--tail", "1"]), &last);
    shows(&member, &with(&["--since-time", "2100-01-01T00:00:00Z"]), "");
    let everything = logs(&member, &["web", "--all-containers"]).stdout;
    for line in ["of init\n", "one\n", "two\n", "of side\n"] {
        assert!(everything.contains(line), "{everything}");
    }
    let stamped = logs(&member, &with(&["--timestamps"])).stdout;
    let stamp = stamped.lines().find_map(|line| line.strip_suffix(" two")).unwrap();
    assert!(stamp.len() == 30 && stamp.ends_with('Z') && stamp.contains('.'), "{stamped}");
    let since = logs(&member, &["web", "-c", "main", "--since-time", stamp]).stdout;
    assert!(since.contains("two\n") && !since.contains("one"), "{since}");

    streams_and_legacy(&member);
    a_long_log(&member);
}

/// What the API server passes on only with feature gates, or not at all.
fn streams_and_legacy(member: &Member) {
    let api_server = Asker::of_api_server(member);
    let of = |query: &str| api_server.get(&format!("/containerLogs/{}/web/main?{query}", member.name));
    assert_eq!(of("stream=Stdout"), (200, "one\ntwo\n".to_owned()));
    assert_eq!(of("stream=Stderr"), (200, "aside\n".to_owned()));
    assert_eq!(of("stream=Stdout&tailLines=1"), (200, "two\n".to_owned()));
    assert_eq!(of("tail=all&tailLines=1&stream=Stdout"), (200, "one\ntwo\n".to_owned()));
    assert_eq!(of("tail=1&stream=Stdout"), (200, "two\n".to_owned()));
    assert_eq!(of("sinceSeconds=0").0, 422);
    assert_eq!(
        of("tailLines=-1"),
        (422, "Invalid request: tailLines: Invalid value: -1: must be greater than or equal to 0".to_owned())
    );
    assert_eq!(of("limitBytes=0").0, 422);
    assert_eq!(of("sinceSeconds=5&sinceTime=2026-01-01T00:00:00Z").0, 422);
    assert_eq!(of("tailLines=many").0, 400);
    assert_eq!(of(&format!("x={}", "a".repeat(8000))).0, 400);
}

fn a_long_log(member: &Member) {
    // 50,000 lines of 100 bytes: nobody has all of it in memory.
    let line = "x".repeat(93);
    member
        .run("long", script(&format!("for i in {{10000..59999}}; do echo $i {line}; done; echo over; sleep infinity")))
        .unwrap();
    member.wait_running("long").unwrap();
    let follower = member.kubectl().start(&["logs", "-f", "-n", &member.name, "long"]).unwrap();
    let whole = || follower.stdout().unwrap().ends_with("over\n").then_some(());
    wait_until("the last line", SOON, whole).unwrap();
    let expected: String = (10000..60000).map(|i| format!("{i} {line}\n")).collect::<String>() + "over\n";
    assert!(follower.stdout().unwrap() == expected, "what was followed is not what was written");
    assert!(logs(member, &["long"]).stdout == expected, "what was read is not what was written");

    // With its client goes the journalctl that reads for it.
    let readers = || member.sandbox.sh("pgrep -c '^journalctl' || true").unwrap().trim().to_owned();
    assert_eq!(readers(), "1");
    drop(follower);
    wait_until("no reader", SOON, || (readers() == "0").then_some(())).unwrap();
}

fn follow_and_previous(systemd: Systemd) {
    let member = Member::join(systemd, "follow").unwrap();
    register(&member);
    let attempts = "n=$(($(cat /go/count 2>/dev/null || echo 0) + 1)); echo $n >/go/count; echo attempt $n; \
                    until [ -e /go/end.$n ]; do sleep 0.05; done; echo end of $n; exit 1";
    member.run("steps", told(script(attempts))).unwrap();
    member.wait_running("steps").unwrap();
    wait_shows(&member, &["steps"], "attempt 1\n");
    fails(&member, &["-p", "steps"], "previous terminated container \"main\" in pod \"steps\" not found");
    let follower = member.kubectl().start(&["logs", "-f", "-n", &member.name, "steps"]).unwrap();
    let tail =
        member.kubectl().start(&["logs", "-f", "--tail=0", "--timestamps", "-n", &member.name, "steps"]).unwrap();
    wait_until("the first line", SOON, || (follower.stdout().unwrap() == "attempt 1\n").then_some(())).unwrap();
    let readers = || member.sandbox.sh("pgrep -c '^journalctl' || true").unwrap().trim().to_owned();
    wait_until("two readers", SOON, || (readers() == "2").then_some(())).unwrap();
    member.sandbox.sh("touch /mnt/go/end.1").unwrap();
    let said = follower.ended(SOON).unwrap();
    assert_eq!((said.code, said.stdout.as_str()), (0, "attempt 1\nend of 1\n"), "{}", said.stderr);
    let said = tail.ended(SOON).unwrap();
    assert!(said.code == 0 && said.stdout.ends_with("Z end of 1\n") && said.stdout.lines().count() == 1, "{said:?}");

    wait_shows(&member, &["steps"], "attempt 2\n");
    shows(&member, &["--previous", "steps"], "attempt 1\nend of 1\n");
    shows(&member, &["-p", "--tail=1", "steps"], "end of 1\n");
    // Between two attempts both are the one that has ended.
    member.sandbox.sh("touch /mnt/go/end.2").unwrap();
    let waits = |status: &Value| status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    member.wait_pod("steps", "the back-off", waits).unwrap();
    for arguments in [&["steps"][..], &["-p", "steps"], &["-f", "steps"]] {
        shows(&member, arguments, "attempt 2\nend of 2\n");
    }
    // The agent's end is the followers', not the log's.
    member.run("calm", script("echo calm; sleep infinity")).unwrap();
    member.wait_running("calm").unwrap();
    member.sandbox.run(&["systemctl", "restart", "systemk"]).unwrap();
    wait_shows(&member, &["calm"], "calm\n");

    // A pod that is deleted takes its followers along.
    let follower = member.kubectl().start(&["logs", "-f", "-n", &member.name, "calm"]).unwrap();
    wait_until("the line", SOON, || (follower.stdout().unwrap() == "calm\n").then_some(())).unwrap();
    member.kubectl().run(&["delete", "pod", "calm", "-n", &member.name, "--wait=false"]).unwrap();
    assert_eq!(follower.ended(SOON).unwrap().code, 0);
}

fn nothing_to_show(systemd: Systemd) {
    let member = Member::join(systemd, "nologs").unwrap();
    register(&member);
    let mut waits = script("true");
    waits["volumes"] = json!([{"name": "m", "configMap": {"name": "none"}}]);
    waits["containers"][0]["volumeMounts"] = json!([{"name": "m", "mountPath": "/m"}]);
    waits["initContainers"] = json!([shell("first", "true")]);
    member.run("waits", waits).unwrap();
    let init = |status: &Value| status["initContainerStatuses"][0]["state"]["waiting"]["reason"].is_string();
    let pod = member.wait_pod("waits", "the pod to wait", init).unwrap();
    let reason = pod["status"]["initContainerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap();
    fails(
        &member,
        &["waits", "-c", "main"],
        "container \"main\" in pod \"waits\" is waiting to start: PodInitializing",
    );
    let text = format!("container \"first\" in pod \"waits\" is waiting to start: {reason}");
    fails(&member, &["waits", "-c", "first"], &text);
    fails(&member, &["waits", "-c", "none"], "container none is not valid for pod waits");

    // As the node itself says it.
    let api_server = Asker::of_api_server(&member);
    let of = |path: &str| api_server.get(path);
    let namespace = &member.name;
    let gone = of(&format!("/containerLogs/{namespace}/gone/main"));
    assert_eq!(gone, (404, "pod \"gone\" does not exist".to_owned()));
    let none = of(&format!("/containerLogs/{namespace}/waits/none"));
    assert_eq!(none, (404, "container \"none\" not found in pod \"waits\"".to_owned()));
    // Names that are none, on their way to a journalctl: there is no such pod, and that is all.
    for name in ["--follow", "..", "%2e%2e%2f", "a%0ab", "%1b%5b31m", "_SYSTEMD_UNIT=x", "%00", "+"] {
        let (code, text) = of(&format!("/containerLogs/{namespace}/{name}/{name}"));
        assert!(code == 404 && !text.chars().any(char::is_control), "{name}: {code} {text:?}");
    }
    assert_eq!(of("/containerLogs/a/b").0, 404);
    assert_eq!(of("/containerLogs/a/%ff/c").0, 400);
}
