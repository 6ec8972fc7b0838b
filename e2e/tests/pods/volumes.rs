//! What volumes hold, and when they change.

use std::time::{Duration, Instant};

use e2e::agent::Node;
use e2e::eventually::wait_until;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::{apply, output, pod, shell, succeeded, with};

on_both! { empty_dirs files host_paths }

fn container(name: &str, script: &str, mounts: Value) -> Value {
    with(shell(name, script), json!({"volumeMounts": mounts}))
}

fn map(name: &str, data: Value) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}).to_string()
}

pub(super) fn empty_dirs(systemd: Systemd) {
    let node = Node::start(systemd, "empty-dirs").unwrap();
    let volumes = json!([{"name": "disk", "emptyDir": {}}, {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "free", "emptyDir": {"medium": "Memory"}}]);
    let mounts = json!([{"name": "disk", "mountPath": "/disk"}, {"name": "ram", "mountPath": "/ram"}, {"name": "free", "mountPath": "/free"}]);
    let fill = "stat -c '%a %u:%g' /disk /ram /free; stat -f -c %T /ram /free; ls -A /disk /ram | grep -v :; \
        head -c 900000 /dev/zero > /ram/a && echo fits; head -c 900000 /dev/zero 2>/dev/null > /ram/b || echo full; \
        echo from main > /disk/said; rm /ram/a /ram/b; echo from main > /ram/said; echo written; sleep infinity";
    let read = "until [ -s /ram/said ]; do sleep 0.05; done; cat /disk/said /ram/said; sleep infinity";
    let spec = json!({"volumes": volumes, "containers": [container("main", fill, mounts.clone()), container("other", read, mounts)]});
    apply(&node, "empty", spec);
    node.wait_log("empty", "main", "written").unwrap();
    let log = node.log("empty", "main").unwrap();
    let lines: Vec<&str> = log.lines().filter(|l| !l.is_empty() && !l.contains("No space left")).collect();
    let expected = ["777 0:0", "777 0:0", "777 0:0", "tmpfs", "tmpfs", "fits", "full", "written"];
    assert_eq!(lines, expected, "{log}");
    node.wait_log("empty", "other", "from main\nfrom main").unwrap();
    let mounted = || node.sandbox.sh("grep -c ' /run/systemk/' /proc/self/mounts || true").unwrap().trim().to_owned();
    assert_eq!(mounted(), "1");
    // A restart of a container neither empties a volume nor mounts it again.
    let unit = node.unit("empty", "other").unwrap();
    node.sandbox.run(&["systemctl", "kill", "--signal=KILL", &unit]).unwrap();
    node.wait_status("empty", "a restart", |s| s["containerStatuses"][1]["restartCount"] == 1).unwrap();
    node.wait_ready("empty").unwrap();
    node.wait_log("empty", "other", "from main\nfrom main").unwrap();
    assert_eq!(mounted(), "1");
    node.remove("empty.json").unwrap();
    node.wait_gone("empty").unwrap();
    assert_eq!(mounted(), "0");
    assert_eq!(node.sandbox.sh("find /run/systemk/pods /var/lib/systemk/pods -mindepth 1").unwrap(), "");
}

const LIST: &str = "cd /v && find -L . -type f ! -path './..*' -printf '%m %P=' -exec cat {} \\; -printf '\\n' | sort; ls -Am | head -1";

fn files_of(node: &Node, name: &str, volume: Value) -> String {
    let mounts = json!([{"name": "v", "mountPath": "/v"}]);
    let volume = with(json!({"name": "v"}), volume);
    let spec = json!({"restartPolicy": "Never", "volumes": [volume], "containers": [container("main", LIST, mounts)]});
    let mut manifest: Value = serde_json::from_str(&pod(name, spec)).unwrap();
    manifest["metadata"]["labels"] = json!({"app": "web", "tier": "x"});
    manifest["metadata"]["annotations"] = json!({"note": "two\nlines \"quoted\""});
    node.apply(&format!("{name}.json"), &manifest.to_string()).unwrap();
    let log = succeeded(node, name);
    let mut lines: Vec<&str> = log.lines().collect();
    // The last line shows the volume's own entries: ..data and a version first.
    let entries = lines.pop().unwrap_or_default();
    assert!(entries.starts_with("..2") && entries.contains("..data"), "{log}");
    lines.join("\n")
}

pub(super) fn files(systemd: Systemd) {
    let node = Node::start(systemd, "files").unwrap();
    node.apply("m.json", &map("m", json!({"a": "1", "b.conf": "2", "c": "3"}))).unwrap();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"token": "t"}});
    node.apply("s.json", &secret.to_string()).unwrap();
    let lists = |name, volume| files_of(&node, name, volume);
    assert_eq!(lists("whole", json!({"configMap": {"name": "m"}})), "644 a=1\n644 b.conf=2\n644 c=3");
    let items = json!([{"key": "a", "path": "deep/er/x", "mode": 256}, {"key": "c", "path": "y"}]);
    let items = json!({"configMap": {"name": "m", "defaultMode": 416, "items": items}});
    assert_eq!(lists("items", items), "400 deep/er/x=1\n640 y=3");
    assert_eq!(lists("secret", json!({"secret": {"secretName": "s", "defaultMode": 256}})), "400 token=t");
    assert_eq!(lists("optional", json!({"configMap": {"name": "absent", "optional": true}})), "");
    let sources = json!([{"configMap": {"name": "m", "items": [{"key": "a", "path": "conf/a"}]}}, {"secret": {"name": "s"}},
        {"downwardAPI": {"items": [{"path": "pod/name", "fieldRef": {"fieldPath": "metadata.name"}}]}}]);
    let projected = json!({"projected": {"defaultMode": 292, "sources": sources}});
    assert_eq!(lists("projected", projected), "444 conf/a=1\n444 pod/name=projected\n444 token=t");
    let items = json!([{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "note", "fieldRef": {"fieldPath": "metadata.annotations['note']"}},
        {"path": "cpu", "mode": 384, "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu"}}]);
    let log = lists("downward", json!({"downwardAPI": {"items": items}}));
    assert!(log.contains("644 labels=app=\"web\"\ntier=\"x\"") || log.contains("app=\"web\""), "{log}");
    assert!(log.contains("600 cpu=") && log.contains("two") && log.contains("lines \"quoted\""), "{log}");
    a_missing_map(&node);
    live_update(&node);
}

fn a_missing_map(node: &Node) {
    let volumes = json!([{"name": "v", "configMap": {"name": "later"}}]);
    let mounts = json!([{"name": "v", "mountPath": "/v"}]);
    apply(
        node,
        "later",
        json!({"restartPolicy": "Never", "volumes": volumes, "containers": [container("main", "cat /v/k", mounts)]}),
    );
    node.wait_waiting("later", "ContainerCreating", &["later"]).unwrap();
    node.apply("map-later.json", &map("later", json!({"k": "came"}))).unwrap();
    assert_eq!(succeeded(node, "later"), "came\n");
}

/// A running container sees a change within two seconds, all of it at once.
fn live_update(node: &Node) {
    node.apply("live-map.json", &map("live", json!({"a": "old", "b": "old", "gone": "x"}))).unwrap();
    let volumes = json!([{"name": "v", "configMap": {"name": "live"}}]);
    let mounts = json!([{"name": "v", "mountPath": "/v"}]);
    let watch = "while :; do cd /v/..data/ 2>/dev/null && s=\"$(cat a)-$(cat b) $(ls | tr '\\n' ' ')\"; \
        [ \"$s\" = \"$last\" ] || echo \"saw $s\"; last=$s; sleep 0.02; done";
    apply(node, "live", json!({"volumes": volumes, "containers": [container("main", watch, mounts)]}));
    node.wait_log("live", "main", "saw old-old").unwrap();
    let begun = Instant::now();
    node.apply("live-map.json", &map("live", json!({"a": "new", "b": "new", "more": "x"}))).unwrap();
    let seen = || node.log("live", "main").ok().filter(|log| log.contains("saw new-new"));
    let log = wait_until("the new files", Duration::from_secs(5), seen).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(log.contains("saw new-new a b more") && !log.contains("old-new") && !log.contains("new-old"), "{log}");
    let unit = node.unit("live", "main").unwrap();
    let top = format!("ls -A /proc/{}/root/v", node.property(&unit, "MainPID").unwrap());
    let names = wait_until("the removed key to vanish", Duration::from_secs(2), || {
        node.sandbox.sh(&top).ok().filter(|names| !names.contains("gone"))
    });
    assert!(names.unwrap().contains("more"));
    // An object that goes away leaves a running pod alone.
    node.remove("live-map.json").unwrap();
    node.wait_status("live", "still to run", |s| s["phase"] == "Running").unwrap();
    assert!(node.sandbox.sh(&top).unwrap().contains("more"));
}

pub(super) fn host_paths(systemd: Systemd) {
    let node = Node::start(systemd, "host-paths").unwrap();
    node.sandbox
        .sh("mkdir -p /mnt/dir && echo there > /mnt/dir/f && echo plain > /mnt/file && ln -s dir /mnt/link")
        .unwrap();
    let kinds = [
        ("plain", "/mnt/dir", "", "cat /v/f"),
        ("dir", "/mnt/dir", "Directory", "cat /v/f"),
        ("file", "/mnt/file", "File", "cat /v"),
        ("link", "/mnt/link", "Directory", "cat /v/f"),
        ("socket", "/run/systemd/private", "Socket", "[ -S /v ] && echo socket"),
        ("new-dir", "/mnt/new/dir", "DirectoryOrCreate", "echo made > /v/f; cat /v/f"),
        ("new-file", "/mnt/new-file", "FileOrCreate", "echo made > /v; cat /v"),
    ];
    let spec = |path: &str, kind: &str, script: &str| {
        json!({"restartPolicy": "Never", "volumes": [{"name": "v", "hostPath": {"path": path, "type": kind}}],
            "containers": [container("main", script, json!([{"name": "v", "mountPath": "/v"}]))]})
    };
    for (name, path, kind, script) in kinds {
        let expected = match name {
            "file" => "plain\n",
            "socket" => "socket\n",
            "new-dir" | "new-file" => "made\n",
            _ => "there\n",
        };
        assert_eq!(output(&node, name, spec(path, kind, script)), expected, "{name}");
    }
    assert_eq!(
        node.sandbox.sh("cat /mnt/new/dir/f /mnt/new-file; stat -c %a /mnt/new/dir /mnt/new-file").unwrap(),
        "made\nmade\n755\n644\n"
    );
    for (name, path, kind) in
        [("not-dir", "/mnt/file", "Directory"), ("not-file", "/mnt/dir", "File"), ("no-dir", "/mnt/no", "Directory")]
    {
        apply(&node, name, spec(path, kind, "true"));
        node.wait_waiting(name, "ContainerCreating", &["hostPath type check failed"]).unwrap();
    }
    node.sandbox.sh("mkdir /mnt/no").unwrap();
    assert_eq!(succeeded(&node, "no-dir"), "", "a pod whose hostPath appears later starts");
    not_outside_the_allowed_directories(&node, spec);
}

/// A symlink below an allowed directory is followed as far as it stays below one.
fn not_outside_the_allowed_directories(node: &Node, spec: impl Fn(&str, &str, &str) -> Value) {
    let script = "systemctl stop systemk; mkdir -p /srv/open/real /etc/closed; ln -s real /srv/open/in; ln -s /etc/closed /srv/open/out
        echo SYSTEMK_DIR=/srv/open > /etc/systemk.env";
    node.sandbox.sh(script).unwrap();
    node.start_agent().unwrap();
    assert_eq!(
        output(node, "in-dir", spec("/srv/open/in/x/y", "DirectoryOrCreate", "echo made > /v/f; cat /v/f")),
        "made\n"
    );
    assert_eq!(output(node, "in-file", spec("/srv/open/in/file", "FileOrCreate", "echo made > /v; cat /v")), "made\n");
    assert_eq!(node.sandbox.sh("cat /srv/open/real/x/y/f /srv/open/real/file").unwrap(), "made\nmade\n");
    for (name, kind) in [("out-dir", "DirectoryOrCreate"), ("out-file", "FileOrCreate")] {
        apply(node, name, spec("/srv/open/out/x", kind, "true"));
        let refused = |s: &Value| s["message"].as_str().is_some_and(|m| m.contains("leads to /etc/closed/x"));
        node.wait_status(name, "the refusal", refused).unwrap();
    }
    assert_eq!(node.sandbox.sh("ls /etc/closed").unwrap(), "");
}
