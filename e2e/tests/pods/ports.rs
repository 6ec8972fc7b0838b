//! Ports of the host: real programs that listen, and who may.

use e2e::agent::{Node, SOON};
use e2e::eventually::wait_until;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::{apply, first, pod, with};
use crate::robust::support::kill_agent;

on_both! {
    a_taken_port_is_waited_for
    what_could_not_be_read_is_edited
    a_line_for_one_port
    ports_of_the_scheduler
}

/// Answers every connection with a name. Its shell ends when a file says so, or once it is stopped and another file does.
fn listens(name: &str, address: &str, port: u16) -> Value {
    let script = format!(
        r#"trap 'until [ -e /o/{name}.go ]; do sleep 0.05; done; exit 0' TERM
perl -MIO::Socket::INET -e '
    my $s = IO::Socket::INET->new(Listen => 5, LocalAddr => "{address}", LocalPort => {port}, ReuseAddr => 1) or die "taken: $!";
    while (my $c = $s->accept) {{ print $c "I am {name}\n"; close $c }}' || exit 7 &
until [ -e /o/{name}.end ] || ! kill -0 $!; do sleep 0.05; done"#
    );
    json!({"terminationGracePeriodSeconds": 125,
        "volumes": [{"name": "o", "hostPath": {"path": "/mnt/o", "type": "DirectoryOrCreate"}}],
        "containers": [{"name": "main", "image": "/bin/bash", "command": ["/bin/bash", "-c", script],
            "volumeMounts": [{"name": "o", "mountPath": "/o"}]}]})
}

/// The pod of [`listens`], with what it says of its port.
fn says(mut spec: Value, port: Value) -> Value {
    spec["containers"][0]["ports"] = json!([port]);
    spec
}

fn web(name: &str) -> Value {
    says(listens(name, "0.0.0.0", 8080), json!({"containerPort": 8080}))
}

/// Who answers at a port.
fn wait_answer(node: &Node, address: &str, port: u16, name: &str) {
    let ask = format!("cat </dev/tcp/{address}/{port}");
    let answer = || node.sandbox.run(&["bash", "-c", &ask]).ok().filter(|text| text.contains(&format!("I am {name}")));
    wait_until(&format!("{name} at {address}:{port}"), SOON, answer).unwrap();
}

fn waits_for(node: &Node, name: &str, other: &str) {
    let message = format!("port 8080/TCP is taken by pod default/{other}");
    let report = node.wait_status(name, &message, |s| first(s)["state"]["waiting"]["message"] == message).unwrap();
    assert_eq!(report["pod"]["status"]["phase"], "Pending");
    assert_eq!(first(&report["pod"]["status"])["state"]["waiting"]["reason"], "ContainerCreating");
    let told = report["events"].as_array().unwrap().iter().any(|e| {
        (&e["type"], &e["reason"], &e["message"]) == (&json!("Warning"), &json!("NodePorts"), &json!(message))
    });
    assert!(told, "{:#}", report["events"]);
    assert!(report["units"].as_array().unwrap().is_empty(), "{report:#}");
}

fn uid(report: &Value) -> String {
    report["pod"]["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn touch(node: &Node, file: &str) {
    node.sandbox.run(&["touch", &format!("/mnt/o/{file}")]).unwrap();
}

/// Kills the agent and waits until the next one has had its first word on a pod.
fn restart_agent(node: &Node, pod: &str) {
    let said = |report: &Value| report["events"].as_array().unwrap().iter().filter_map(|e| e["lastMs"].as_i64()).max();
    let before = said(&node.report(pod).unwrap());
    node.sandbox.run(&["systemctl", "kill", "-s", "KILL", "systemk"]).unwrap();
    let again = || node.report(pod).filter(|report| said(report) > before);
    wait_until("the agent's word on the pod", SOON, again).unwrap();
}

pub(super) fn a_taken_port_is_waited_for(systemd: Systemd) {
    let node = Node::start(systemd, "ports").unwrap();
    apply(&node, "web", web("web"));
    wait_answer(&node, "127.0.0.1", 8080, "web");
    let web_uid = uid(&node.wait_ready("web").unwrap());
    apply(&node, "later", web("later"));
    waits_for(&node, "later", "web");
    // Another port, and the same of another protocol, are free.
    apply(&node, "free", says(listens("free", "0.0.0.0", 8081), json!({"containerPort": 8081})));
    apply(&node, "udp", says(super::once("sleep infinity"), json!({"containerPort": 8080, "protocol": "UDP"})));
    node.wait_ready("free").unwrap();
    node.wait_ready("udp").unwrap();

    // Whoever the next agent looks at first: what runs keeps its port.
    restart_agent(&node, "later");
    waits_for(&node, "later", "web");
    wait_answer(&node, "127.0.0.1", 8080, "web");
    let report = node.wait_ready("web").unwrap();
    assert_eq!((uid(&report), &first(&report["pod"]["status"])["restartCount"]), (web_uid.clone(), &json!(0)));

    // Also while its manifest cannot be read.
    node.apply("web.json", "{").unwrap();
    restart_agent(&node, "later");
    waits_for(&node, "later", "web");
    apply(&node, "web", web("web"));
    let report = node.wait_ready("web").unwrap();
    assert_eq!((uid(&report), &first(&report["pod"]["status"])["restartCount"]), (web_uid.clone(), &json!(0)));

    // An edit is a stop and a start: it neither clashes with itself nor loses its place.
    apply(&node, "web", with(web("web"), json!({"terminationGracePeriodSeconds": 126})));
    let stops = || node.reports().into_iter().find(|r| uid(r) == web_uid && r["stopping"] == true);
    wait_until("the old one to stop", SOON, stops).unwrap();
    wait_answer(&node, "127.0.0.1", 8080, "web");
    waits_for(&node, "later", "web");
    touch(&node, "web.go");
    let edited = |_: &Value| node.report("web").is_some_and(|r| uid(&r) != web_uid);
    node.wait_status("web", "the edited one", |s| edited(s) && s["phase"] == "Running").unwrap();
    wait_answer(&node, "127.0.0.1", 8080, "web");
    waits_for(&node, "later", "web");

    // Its end is the other's beginning.
    node.remove("web.json").unwrap();
    node.wait_ready("later").unwrap();
    wait_answer(&node, "127.0.0.1", 8080, "later");
    assert_eq!(first(&node.report("later").unwrap()["pod"]["status"])["restartCount"], 0);
}

/// The agent that sees the edits has never seen what the files said before: what ran is stopped at once, and not beside the new
/// one; that one, and who was edited while it waited, have their places in line.
pub(super) fn what_could_not_be_read_is_edited(systemd: Systemd) {
    let node = Node::start(systemd, "unread").unwrap();
    apply(&node, "web", web("web"));
    wait_answer(&node, "127.0.0.1", 8080, "web");
    let web_uid = uid(&node.wait_ready("web").unwrap());
    for name in ["later", "last"] {
        apply(&node, name, web(name));
        waits_for(&node, name, "web");
    }
    let later_uid = uid(&node.report("later").unwrap());
    node.apply("web.json", "{").unwrap();
    node.apply("later.json", "{").unwrap();
    kill_agent(&node);
    wait_answer(&node, "127.0.0.1", 8080, "web");
    let grace = json!({"terminationGracePeriodSeconds": 126});
    apply(&node, "later", with(web("later"), grace.clone()));
    apply(&node, "web", with(web("web"), grace));
    let stops = || node.reports().into_iter().find(|r| uid(r) == web_uid && r["stopping"] == true);
    wait_until("the old one to stop", SOON, stops).unwrap();
    touch(&node, "web.go");
    let is_new = |name: &str, old: &str| node.report(name).is_some_and(|r| uid(&r) != old);
    node.wait_status("web", "the edited one", |s| is_new("web", &web_uid) && s["phase"] == "Running").unwrap();
    wait_answer(&node, "127.0.0.1", 8080, "web");
    waits_for(&node, "later", "web");
    waits_for(&node, "last", "web");

    node.remove("web.json").unwrap();
    node.wait_status("later", "its turn", |s| is_new("later", &later_uid) && s["phase"] == "Running").unwrap();
    wait_answer(&node, "127.0.0.1", 8080, "later");
    waits_for(&node, "last", "later");
    assert_eq!(first(&node.report("later").unwrap()["pod"]["status"])["restartCount"], 0);
}

pub(super) fn a_line_for_one_port(systemd: Systemd) {
    let node = Node::start(systemd, "portline").unwrap();
    node.sandbox.run(&["mkdir", "-p", "/mnt/o"]).unwrap();
    ["a.go", "b.go", "c.go"].iter().for_each(|file| touch(&node, file));
    // Written in any order, they came at once: the name decides.
    let manifests = |names: &[&str]| {
        let once = |name: &&str| pod(name, with(web(name), json!({"restartPolicy": "Never"})));
        names.iter().map(once).collect::<Vec<_>>().join("\n---\n")
    };
    node.apply("all.yaml", &manifests(&["c", "a", "b"])).unwrap();
    wait_answer(&node, "127.0.0.1", 8080, "a");
    waits_for(&node, "b", "a");
    waits_for(&node, "c", "a");

    // One that has ended is still there and holds nothing.
    touch(&node, "a.end");
    node.wait_status("a", "its end", |s| s["phase"] == "Succeeded").unwrap();
    wait_answer(&node, "127.0.0.1", 8080, "b");
    waits_for(&node, "c", "b");
    restart_agent(&node, "c");
    waits_for(&node, "c", "b");
    assert_eq!(node.report("a").unwrap()["pod"]["status"]["phase"], "Succeeded");

    // Its manifest goes while no agent is there: it has its port to the end all the same.
    node.sandbox.run(&["rm", "/mnt/o/b.go"]).unwrap();
    node.sandbox.run(&["systemctl", "stop", "systemk"]).unwrap();
    node.apply("all.yaml", &manifests(&["c", "a"])).unwrap();
    node.start_agent().unwrap();
    wait_until("b to stop", SOON, || node.report("b").filter(|r| r["stopping"] == true)).unwrap();
    waits_for(&node, "c", "b");
    wait_answer(&node, "127.0.0.1", 8080, "b");
    touch(&node, "b.go");
    wait_answer(&node, "127.0.0.1", 8080, "c");
    node.wait_gone("b").unwrap();
    assert_eq!(first(&node.wait_ready("c").unwrap()["pod"]["status"])["restartCount"], 0);
}

pub(super) fn ports_of_the_scheduler(systemd: Systemd) {
    let node = Node::start(systemd, "hostports").unwrap();
    let at = |name: &str, address: &str| {
        says(listens(name, address, 80), json!({"containerPort": 80, "hostPort": 80, "hostIP": address}))
    };
    apply(&node, "one", at("one", "127.0.0.1"));
    wait_answer(&node, "127.0.0.1", 80, "one");
    apply(&node, "two", at("two", "127.0.0.2"));
    wait_answer(&node, "127.0.0.2", 80, "two");
    // hostNetwork claims every address.
    let all = || with(says(listens("all", "0.0.0.0", 80), json!({"containerPort": 80})), json!({"hostNetwork": true}));
    apply(&node, "all", all());
    let rejected = |s: &Value| s["phase"] == "Failed" && s["reason"] == "NodePorts";
    let report = node.wait_status("all", "a rejection", rejected).unwrap();
    let event = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports: 80/TCP is taken by pod default/one";
    assert_eq!(report["pod"]["status"]["message"], format!("Pod was rejected: {event}"));
    let told = report["events"].as_array().unwrap().iter().any(|e| e["type"] == "Warning" && e["message"] == event);
    assert!(told, "{:#}", report["events"]);

    // Rejected is rejected, whatever becomes of the others and of the agent.
    restart_agent(&node, "all");
    for name in ["one", "two"] {
        touch(&node, &format!("{name}.go"));
        node.remove(&format!("{name}.json")).unwrap();
        node.wait_gone(name).unwrap();
    }
    let report = node.wait_status("all", "still a rejection", rejected).unwrap();
    assert!(report["units"].as_array().unwrap().is_empty(), "{report:#}");
    // A new pod is another matter.
    apply(&node, "all", with(all(), json!({"terminationGracePeriodSeconds": 124})));
    wait_answer(&node, "127.0.0.2", 80, "all");
}
