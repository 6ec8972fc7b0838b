//! Strings that would like to become directives: a pod is refused with the path of the field, or runs, and its unit says
//! what the plan wrote and nothing else, also after a reload and a restart by systemd itself.

use std::collections::BTreeMap;

use e2e::agent::{Node, SOON};
use e2e::eventually::wait_until;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::{environment, proc_words};

on_both! { hostile_strings }

const PODS: usize = 40;

const PIECES: [&str; 30] = [
    "\n[Service]\nExecStartPre=/bin/touch /tmp/PWN1\n",
    "\r\nUser=0",
    "\nExecStopPost=+/bin/touch /run/PWN2",
    "%n",
    "%h%%",
    "$HOME",
    "${PATH}",
    "\"",
    "'",
    "\\",
    "\\x0aUser=0",
    "\\n",
    ";",
    " ; /bin/touch /tmp/PWN3 ;",
    "`touch /run/PWN4`",
    "$(touch /tmp/PWN5)",
    "\u{202e}abc\u{202c}",
    " ",
    "\t",
    ":",
    "#",
    "=",
    "-",
    "+!@|",
    "\u{1b}[31m",
    "é\u{fffd}\u{10ffff}",
    "a",
    "/",
    "../",
    "\u{0}",
];

/// Seeds are the pods' numbers: a failure comes again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    /// A few pieces; a NUL, which ends everything, only where it is asked for.
    fn string(&mut self, nul: bool) -> String {
        let pieces = if nul { PIECES.len() } else { PIECES.len() - 1 };
        let count = 1 + self.below(4);
        (0..count).map(|_| PIECES[self.below(pieces)]).collect()
    }
}

struct Hostile {
    name: String,
    field: &'static str,
    args: Vec<String>,
    value: String,
    manifest: String,
}

fn hostile(number: usize) -> Hostile {
    let mut random = Random(number as u64 + 1);
    let args = vec![random.string(false), random.string(false)];
    let value = random.string(false);
    let name = format!("hostile-{number}");
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": {"note": random.string(true)}},
        "spec": {"terminationGracePeriodSeconds": 0,
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/mnt/h"}}],
            "containers": [{"name": "main", "image": "/bin/bash", "workingDir": "/", "env": [{"name": "X", "value": value}],
                "command": ["/bin/bash", "-c", "sleep infinity & wait", "sh", args[0], args[1]],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "h", "mountPath": "/h"}]}]}});
    let long = "x".repeat(128 * 1024);
    let string = if random.below(8) == 0 { long } else { random.string(true) };
    let fields: [(&str, String); 12] = [
        ("/spec/containers/0/volumeMounts/0/mountPath", format!("/data/{string}")),
        ("/spec/containers/0/volumeMounts/1/mountPath", format!("/etc/{string}")),
        ("/spec/volumes/1/hostPath/path", format!("/mnt/{string}")),
        ("/spec/containers/0/workingDir", format!("/{string}")),
        ("/spec/containers/0/env/0/name", string.clone()),
        ("/spec/containers/0/env/0/value", string.clone()),
        ("/spec/containers/0/command/5", string.clone()),
        ("/spec/containers/0/image", format!("/{string}")),
        ("/spec/containers/0/name", string.clone()),
        ("/spec/volumes/0/name", string.clone()),
        ("/metadata/namespace", string.clone()),
        ("/metadata/annotations/note", string),
    ];
    let (field, text) = fields[number % fields.len()].clone();
    *pod.pointer_mut(field).unwrap() = Value::String(text.clone());
    let value = if field.ends_with("/value") { text.clone() } else { value };
    let args = if field.ends_with("/5") { vec![args[0].clone(), text] } else { args };
    Hostile { name, field, args, value, manifest: pod.to_string() }
}

fn agent_log(node: &Node) -> String {
    node.sandbox.run(&["journalctl", "-u", "systemk", "--no-pager", "-o", "cat", "-a"]).unwrap()
}

/// Some(None): it runs. Some(why): it was refused, or the kernel refused it. None: not known yet.
fn outcome(pod: &Hostile, reports: &[Value], log: &str) -> Option<Option<String>> {
    let Some(report) = reports.iter().find(|r| r["pod"]["metadata"]["name"] == pod.name.as_str()) else {
        return log.lines().find(|l| l.contains(&format!("{}.json", pod.name))).map(|l| Some(l.to_owned()));
    };
    let status = &report["pod"]["status"];
    let container = &status["containerStatuses"][0];
    let (waiting, last) = (&container["state"]["waiting"], &container["lastState"]["terminated"]);
    match status["phase"].as_str()? {
        "Running" if container["ready"] == true => Some(None),
        "Failed" if status["reason"] == "Unsupported" => Some(Some(status["message"].to_string())),
        _ if waiting["reason"] == "InvalidImageName" => Some(Some(waiting["message"].to_string())),
        // What the kernel refuses: too long an argument, a working directory below a file.
        _ if last["reason"] == "StartError" => Some(Some(last["message"].to_string())),
        _ => None,
    }
}

/// Those that run; each of the others was refused in a way that says where.
fn running<'p>(node: &Node, pods: &'p [Hostile]) -> Vec<&'p Hostile> {
    let all = wait_until("an outcome for every pod", 2 * SOON, || {
        let (reports, log) = (node.reports(), agent_log(node));
        pods.iter().map(|p| outcome(p, &reports, &log)).collect::<Option<Vec<_>>>()
    });
    let all = all.unwrap_or_else(|e| {
        let (reports, log) = (node.reports(), agent_log(node));
        let unknown = pods.iter().filter(|p| outcome(p, &reports, &log).is_none());
        panic!("{e}: {:?}\n{log}", unknown.map(|p| (p.field, &p.manifest)).collect::<Vec<_>>())
    });
    let said = ["spec.", "metadata.", "image", "exec", "working directory", "environment"];
    for (pod, why) in pods.iter().zip(&all) {
        let clear = why.as_ref().is_none_or(|why| said.iter().any(|w| why.contains(w)));
        assert!(clear, "{}: {}: {why:?}", pod.name, pod.field);
    }
    pods.iter().zip(&all).filter(|(_, why)| why.is_none()).map(|(pod, _)| pod).collect()
}

/// `"source":"target"` of a unit file, read as systemd.syntax(7) and systemd.exec(5) have it.
fn pair(text: &str) -> (String, String, bool) {
    let mut sides = vec![String::new()];
    let (mut quoted, mut chars) = (false, text.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            ':' if !quoted => sides.push(String::new()),
            '\\' => sides.last_mut().unwrap().push(chars.next().unwrap()),
            '%' => {
                assert_eq!(chars.next(), Some('%'), "a specifier in {text}");
                sides.last_mut().unwrap().push('%');
            }
            c => sides.last_mut().unwrap().push(c),
        }
    }
    let optional = sides[0].starts_with('-');
    (sides[0].trim_start_matches('-').to_owned(), sides[1].clone(), optional)
}

fn object_path(unit: &str) -> String {
    let escaped = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("_{b:02x}") };
    format!("/org/freedesktop/systemd1/unit/{}", unit.bytes().map(escaped).collect::<String>())
}

const PROPERTIES: [&str; 12] = [
    "BindPaths",
    "BindReadOnlyPaths",
    "Environment",
    "User",
    "Group",
    "WorkingDirectory",
    "RootDirectory",
    "ExecStartPre",
    "ExecStart",
    "ExecStop",
    "ExecStopPost",
    "StandardInputFileDescriptorName",
];

/// What systemd has loaded.
fn loaded(node: &Node, unit: &str) -> BTreeMap<&'static str, Value> {
    let path = object_path(unit);
    let get = [
        "busctl",
        "--json=short",
        "get-property",
        "org.freedesktop.systemd1",
        &path,
        "org.freedesktop.systemd1.Service",
    ];
    let text = node.sandbox.run(&[&get[..], &PROPERTIES].concat()).unwrap();
    let values = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["data"].clone());
    PROPERTIES.into_iter().zip(values).collect()
}

/// Everything of the loaded unit is what its file says.
fn agrees_with_its_file(node: &Node, pod: &Hostile, unit: &str) {
    let text = node.sandbox.read_file(format!("/run/systemd/system/{unit}")).unwrap();
    let loaded = loaded(node, unit);
    for name in ["BindPaths", "BindReadOnlyPaths"] {
        let mut written: Vec<_> = text.lines().filter_map(|l| l.strip_prefix(&format!("{name}="))).map(pair).collect();
        let list = loaded[name].as_array().unwrap().iter();
        let word = |v: &Value| v.as_str().unwrap().to_owned();
        let mut found: Vec<_> = list.map(|b| (word(&b[0]), word(&b[1]), b[2] == true)).collect();
        written.sort();
        found.sort();
        assert_eq!(found, written, "{} {}: {name}", pod.name, pod.field);
    }
    for name in ["Environment", "ExecStartPre", "ExecStop"] {
        assert_eq!(loaded[name], json!([]), "{} {}: {name}", pod.name, pod.field);
    }
    for name in ["User", "Group", "WorkingDirectory"] {
        assert_eq!(loaded[name], "", "{} {}: {name}", pod.name, pod.field);
    }
    let program = "/run/.systemk/systemk";
    let line = |name: &str| (loaded[name].as_array().unwrap().len(), loaded[name][0][1].clone());
    assert_eq!(line("ExecStart"), (1, json!([program, "init", "start.0"])), "{}", pod.name);
    assert_eq!(line("ExecStopPost"), (1, json!([program, "exit-hook", "/run/.systemk/exit"])), "{}", pod.name);
}

/// The program got the strings as they were written.
fn got_its_strings(node: &Node, pod: &Hostile) {
    let words = proc_words(node, &pod.name, "main", "cmdline");
    assert_eq!(words[4..], pod.args, "{} {}", pod.name, pod.field);
    assert!(environment(node, &pod.name, "main").values().any(|v| *v == pod.value), "{} {}", pod.name, pod.field);
}

pub(super) fn hostile_strings(systemd: Systemd) {
    let node = Node::start(systemd, "hostile").unwrap();
    node.sandbox.sh("mkdir /mnt/h").unwrap();
    let pods: Vec<Hostile> = (0..PODS).map(hostile).collect();
    for pod in &pods {
        node.apply(&format!("{}.json", pod.name), &pod.manifest).unwrap();
    }
    let running = running(&node, &pods);
    assert!(running.len() > PODS / 6, "only {} run", running.len());
    let units: Vec<String> = running.iter().map(|p| node.unit(&p.name, "main").unwrap()).collect();
    for (pod, unit) in running.iter().zip(&units) {
        agrees_with_its_file(&node, pod, unit);
        got_its_strings(&node, pod);
    }
    assert!(!agent_log(&node).contains("panicked"));
    // Without the agent, which would take a restart for an end.
    node.sandbox.run(&["systemctl", "stop", "systemk"]).unwrap();
    node.sandbox.run(&["systemctl", "daemon-reload"]).unwrap();
    let words: Vec<&str> = units.iter().map(String::as_str).collect();
    node.sandbox.run(&[&["systemctl", "restart"], &words[..]].concat()).unwrap();
    for (pod, unit) in running.iter().zip(&units) {
        agrees_with_its_file(&node, pod, unit);
        assert_eq!(node.property(unit, "ActiveState").unwrap(), "active", "{}", pod.name);
    }
    assert_eq!(node.sandbox.sh("ls /tmp/PWN* /run/PWN* 2>/dev/null || true").unwrap(), "");
    let inside =
        "for p in $(pgrep -x sleep); do ls /proc/$p/root/tmp/PWN* /proc/$p/root/run/PWN* 2>/dev/null || true; done";
    assert_eq!(node.sandbox.sh(inside).unwrap(), "");
}
