//! A node that has lost all it knew, as by a reboot: what ran is started again and counts, what had ended stays ended.

use e2e::agent::SOON;
use e2e::eventually::wait_until;
use e2e::member::Member;
use e2e::sandbox::Systemd;
use serde_json::json;

use super::script;

on_both! { records_are_lost }

fn records_are_lost(systemd: Systemd) {
    let member = Member::join(systemd, "lost").unwrap();
    member.run("serves", script("sleep infinity")).unwrap();
    let once = |text: &str| {
        let mut spec = script(text);
        spec["restartPolicy"] = json!("Never");
        spec
    };
    member.run("done", once("echo once")).unwrap();
    member.run("cut", once("sleep infinity")).unwrap();
    for name in ["serves", "cut"] {
        member.wait_running(name).unwrap();
    }
    let done = member.wait_pod("done", "its end", |s| s["phase"] == "Succeeded").unwrap();

    member.sandbox.run(&["systemctl", "stop", "systemk"]).unwrap();
    member
        .sandbox
        .sh("systemctl stop 'systemk.*.service'; rm -rf /run/systemk/pods /run/systemd/system/systemk.*")
        .unwrap();
    member.start_agent().unwrap();

    let serves = member.wait_pod("serves", "a restart", |s| s["containerStatuses"][0]["restartCount"] == 1).unwrap();
    let last = &serves["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["reason"], &last["exitCode"]), (&json!("ContainerStatusUnknown"), &json!(137)), "{last:#}");
    member.wait_running("serves").unwrap();
    let cut = member.wait_pod("cut", "its end", |s| s["phase"] == "Failed").unwrap();
    assert_eq!(cut["status"]["containerStatuses"][0]["restartCount"], 0);
    // By now it would have run again.
    let ran = || member.sandbox.sh("journalctl --no-pager -o cat | grep -c '^once$'").unwrap();
    wait_until("the pod to be known again", SOON, || member.report("done")).unwrap();
    let now = member.pod("done").unwrap().unwrap();
    assert_eq!(now["status"]["phase"], "Succeeded");
    assert_eq!(now["status"]["containerStatuses"], done["status"]["containerStatuses"]);
    assert_eq!(ran().trim(), "1");
}
