//! `systemk rm`: what it takes away, what it leaves alone, and that it waits.

use std::time::Instant;

use e2e::agent::Node;
use e2e::sandbox::Systemd;
use serde_json::json;

use super::support::*;

on_both! { pods_are_removed }

fn pods_are_removed(systemd: Systemd) {
    let node = installed(systemd, "cli-rm");
    fails(&node, "systemk rm", 2, &["<POD>...", "Usage: systemk rm"]);
    fails(&node, "systemk rm web", 1, &["systemk: there is no pod web: this node has no pods\n"]);

    node.apply("listed.json", &polite("listed").to_string()).unwrap();
    for name in ["web", "second", "third", "fourth"] {
        let file = write(&node, name, &polite(name));
        ok(&node, &format!("systemk run --detach {file}"));
    }
    let mut other = polite("other");
    other["metadata"]["namespace"] = json!("shop");
    let other = write(&node, "other", &other);
    holds(
        &ok(&node, &format!("systemk run --detach {other}")),
        &["'systemk logs -f -n shop other'", "'systemk rm -n shop other'"],
    );
    for name in ["listed", "web", "second", "third", "fourth", "other"] {
        node.wait_log(name, "main", "up").unwrap();
    }

    // Those that there are go, as with kubectl; the rest is named.
    let some = exec(&node, "systemk rm fourth wbe");
    assert_eq!((some.code, some.stdout.as_str()), (1, "pod fourth is gone\n"));
    holds(&some.stderr, &["there is no pod wbe in the namespace default; did you mean web?\n"]);
    let stays = "systemk: pod listed is from /etc/systemk/manifests/listed.json: remove that file, or the pod from it, and the agent stops it\n";
    fails(&node, "systemk rm listed", 1, &[stays]);
    fails(&node, "systemk rm other", 1, &["there is no pod other in the namespace default; there is one with -n shop"]);
    fails(&node, "setpriv --reuid 65534 systemk rm web", 1, &["run this command as root"]);
    assert_eq!(names(&node), ["listed", "second", "third", "web", "other"]);

    // A second over SIGTERM, for all at once.
    let begun = Instant::now();
    assert_eq!(ok(&node, "systemk rm web second web"), "pod web is gone\npod second is gone\n");
    let took = begun.elapsed().as_secs_f64();
    assert!((1.0..4.5).contains(&took), "{took} s");
    assert_eq!(names(&node), ["listed", "third", "other"]);
    let said = "journalctl -q -o cat --no-pager _SYSTEMD_UNIT=$(journalctl -q -F _SYSTEMD_UNIT | grep '[.]web[.]main')";
    assert_eq!(ok(&node, said), "up\nbye\n");
    assert_eq!(ok(&node, "ls /var/lib/systemk/manifests"), "default_third.json\nshop_other.json\n");

    assert_eq!(ok(&node, "systemk rm -n shop other; systemk rm third"), "pod other is gone\npod third is gone\n");
    fails(
        &node,
        "systemk rm third",
        1,
        &["systemk: there is no pod third in the namespace default; 'systemk ps' lists those that there are\n"],
    );
    ok(&node, "rm /etc/systemk/manifests/listed.json");
    node.wait_gone("listed").unwrap();
    super::run::nothing_is_left(&node);
    an_edited_pod_that_stops(&node);
}

/// What stops because it was edited would come again as it is now: it is taken out as well.
fn an_edited_pod_that_stops(node: &Node) {
    let mut web = polite("web");
    web["metadata"]["uid"] = json!("22222222-2222-3333-4444-555555555555");
    let file = write(node, "web", &web);
    ok(node, &format!("systemk run --detach {file}"));
    node.wait_log("web", "main", "up").unwrap();
    web["metadata"]["labels"] = json!({"edited": "yes"});
    write(node, "web", &web);
    ok(node, &format!("systemk run --detach {file}"));
    assert_eq!(ok(node, "systemk rm web"), "pod web is gone\n");
    super::run::nothing_is_left(node);
}
