//! The directory of manifests: what may stand in it, and what becomes of changes and mistakes.

use e2e::agent::Node;
use e2e::eventually::wait_until;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::{apply, first, shell};

on_both! { changes_of_manifests mistakes }

fn stays(script: &str) -> Value {
    json!({"terminationGracePeriodSeconds": 3, "containers": [shell("main", script)]})
}

fn uid(node: &Node, name: &str) -> String {
    node.wait_ready(name).unwrap()["pod"]["metadata"]["uid"].as_str().unwrap().to_owned()
}

const TWO: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: left}
spec: {containers: [{name: main, image: /bin/sleep, args: [infinity]}]}
---
# nothing in this one
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: right, namespace: other}
  spec: {containers: [{name: main, image: /bin/sleep, args: [infinity]}]}
"#;

pub(super) fn changes_of_manifests(systemd: Systemd) {
    let node = Node::start(systemd, "manifests").unwrap();
    node.apply("two.yaml", TWO).unwrap();
    apply(&node, "still", stays("sleep infinity"));
    node.wait_ready("left").unwrap();
    let right = node.wait_ready("right").unwrap();
    assert_eq!(right["pod"]["metadata"]["namespace"], "other");
    let (left, still) = (uid(&node, "left"), uid(&node, "still"));

    // A changed pod is another pod, which starts when the old one is gone.
    let out = |name: &str| {
        json!({"terminationGracePeriodSeconds": 5, "volumes": [{"name": "o", "hostPath": {"path": "/mnt/log", "type": "DirectoryOrCreate"}}],
            "containers": [{"name": "main", "image": "/bin/bash", "volumeMounts": [{"name": "o", "mountPath": "/o"}],
                "command": ["/bin/bash", "-c",
                    format!("trap 'sleep 0.5; echo {name} ended >> /o/l; exit' TERM; echo {name} began >> /o/l; sleep infinity & wait")]}]})
    };
    apply(&node, "changed", out("first"));
    let old = uid(&node, "changed");
    wait_until("the first", e2e::agent::SOON, || node.sandbox.sh("grep began /mnt/log/l").ok()).unwrap();
    apply(&node, "changed", out("second"));
    wait_until("the second", e2e::agent::SOON, || node.sandbox.sh("grep second /mnt/log/l").ok()).unwrap();
    // Asked for after that: a report that is read first may still be the old one's.
    assert_ne!(uid(&node, "changed"), old);
    assert_eq!(node.sandbox.sh("cat /mnt/log/l").unwrap(), "first began\nfirst ended\nsecond began\n");

    // Half a file is no reason to stop what the whole one said.
    let half = &TWO[..TWO.len() / 2];
    node.apply("two.yaml", &format!("{half}\n  broken: [")).unwrap();
    wait_log(&node, "two.yaml");
    assert_eq!(uid(&node, "left"), left);
    node.apply("two.yaml", TWO.split("---").next().unwrap()).unwrap();
    node.wait_gone("right").unwrap();
    assert_eq!(uid(&node, "left"), left);
    node.remove("two.yaml").unwrap();
    node.wait_gone("left").unwrap();
    assert_eq!(uid(&node, "still"), still);
}

fn agent_log(node: &Node) -> String {
    node.sandbox.sh("journalctl -u systemk --no-pager -o cat").unwrap()
}

fn wait_log(node: &Node, text: &str) {
    let found = wait_until(text, e2e::agent::SOON, || agent_log(node).contains(text).then_some(()));
    found.unwrap_or_else(|e| panic!("{e}\n{}", agent_log(node)));
}

/// Manifests that are refused as a whole: what is written, and what the log names.
fn malformed() -> Vec<(&'static str, String, &'static str)> {
    let spec = |more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: bad}}\nspec: {{containers: [{{name: main, image: /bin/true{more}}}]}}\n"
        )
    };
    vec![
        ("yaml", "a: [".to_owned(), "yaml.yaml"),
        ("text", "just words".to_owned(), "must be an object"),
        ("binary", "\u{0}\u{1}\u{7f}".to_owned(), "binary.yaml"),
        ("kind", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}".to_owned(), "Deployment"),
        ("version", "apiVersion: v2\nkind: Pod\nmetadata: {name: x}".to_owned(), "apiVersion must be v1"),
        ("no-spec", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}".to_owned(), "spec: is required"),
        ("no-name", "apiVersion: v1\nkind: Pod\nmetadata: {}\nspec: {containers: [{name: a, image: /bin/true}]}".to_owned(), "metadata.name: is required"),
        ("name", spec("").replace("bad", "../../etc"), "metadata.name"),
        ("no-image", spec("").replace(", image: /bin/true", ""), "spec.containers[0].image"),
        ("type", spec(", args: 7"), "args"),
        ("number", spec(", ports: [{containerPort: 99999999999999999999}]"), "containerPort"),
        ("port", spec(", ports: [{containerPort: 70000}]"), "spec.containers[0].ports[0].containerPort"),
        ("policy", spec("").replace("spec: {", "spec: {restartPolicy: Sometimes, "), "spec.restartPolicy"),
        ("grace", spec("").replace("spec: {", "spec: {terminationGracePeriodSeconds: -1, "), "spec.terminationGracePeriodSeconds"),
        ("user", spec(", securityContext: {runAsUser: 4294967295}"), "spec.containers[0].securityContext.runAsUser"),
        ("volume", spec(", volumeMounts: [{name: none, mountPath: /x}]"), "spec.containers[0].volumeMounts[0].name"),
        ("dots", spec(", volumeMounts: [{name: v, mountPath: /x/../../etc}]").replace("spec: {", "spec: {volumes: [{name: v, emptyDir: {}}], "), "spec.containers[0].volumeMounts[0].mountPath"),
        ("host-dots", spec("").replace("spec: {", "spec: {volumes: [{name: v, hostPath: {path: /a/../../etc}}], "), "spec.volumes[0].hostPath.path"),
        ("item-dots", spec("").replace("spec: {", "spec: {volumes: [{name: v, configMap: {name: m, items: [{key: k, path: ../x}]}}], "), "spec.volumes[0].configMap.items[0].path"),
        ("key", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {../../etc/passwd: x}".to_owned(), "data"),
        ("twice", spec("").replace("containers: [", "containers: [{name: main, image: /bin/true}, "), "main is there twice"),
        ("deep", format!("a: {}", "[".repeat(20000)), "deep.yaml"),
        ("bomb", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f]\n".to_owned(), "bomb.yaml"),
    ]
}

/// Pods that are read and cannot run as written: fields, and the path that the status names.
fn unsupported() -> Vec<(&'static str, Value, &'static str)> {
    let plain = json!({"name": "main", "image": "/bin/sleep", "args": ["infinity"]});
    let container = |more: Value| json!({"containers": [super::with(plain.clone(), more)]});
    let spec = |more: Value| super::with(container(json!({})), more);
    let mount = |path: &str| {
        let mounts = json!({"volumeMounts": [{"name": "v", "mountPath": path}]});
        super::with(container(mounts), json!({"volumes": [{"name": "v", "emptyDir": {}}]}))
    };
    let volume = |source: Value| spec(json!({"volumes": [super::with(json!({"name": "v"}), source)]}));
    vec![
        (
            "liveness",
            container(json!({"livenessProbe": {"exec": {"command": ["true"]}}})),
            "spec.containers[0].livenessProbe",
        ),
        (
            "lifecycle",
            container(json!({"lifecycle": {"preStop": {"exec": {"command": ["true"]}}}})),
            "spec.containers[0].lifecycle",
        ),
        ("tty", container(json!({"tty": true})), "spec.containers[0].tty"),
        ("aliases", spec(json!({"hostAliases": [{"ip": "10.0.0.9", "hostnames": ["x"]}]})), "spec.hostAliases"),
        (
            "seccomp",
            container(json!({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}})),
            "spec.containers[0].securityContext.seccompProfile",
        ),
        (
            "capability",
            container(json!({"securityContext": {"capabilities": {"add": ["CAP_FLY"]}}})),
            "spec.containers[0].securityContext.capabilities.add[0]",
        ),
        (
            "claim",
            volume(json!({"persistentVolumeClaim": {"claimName": "c"}})),
            "spec.volumes[0].persistentVolumeClaim",
        ),
        ("nfs", volume(json!({"nfs": {"server": "s", "path": "/p"}})), "spec.volumes[0].nfs"),
        ("slash", mount("/"), "spec.containers[0].volumeMounts[0].mountPath"),
        ("slashes", mount("//"), "spec.containers[0].volumeMounts[0].mountPath"),
        ("run", mount("/run"), "spec.containers[0].volumeMounts[0].mountPath"),
        ("var-run", mount("/var/run"), "spec.containers[0].volumeMounts[0].mountPath"),
        ("ours", mount("/var/run/.systemk/exit"), "spec.containers[0].volumeMounts[0].mountPath"),
        ("proc", mount("/proc/nothing"), "spec.containers[0].volumeMounts[0].mountPath"),
        (
            "newline",
            mount("/a\n[Service]\nExecStartPre=/bin/touch /tmp/PWNED"),
            "spec.containers[0].volumeMounts[0].mountPath",
        ),
        ("cwd", container(json!({"workingDir": "relative"})), "spec.containers[0].workingDir"),
        (
            "quantity",
            container(json!({"resources": {"limits": {"memory": "a lot"}}})),
            "spec.containers[0].resources.limits",
        ),
        (
            "size",
            volume(json!({"emptyDir": {"medium": "Memory", "sizeLimit": "-1"}})),
            "spec.volumes[0].emptyDir.sizeLimit",
        ),
        ("pages", volume(json!({"emptyDir": {"medium": "HugePages"}})), "spec.volumes[0].emptyDir.medium"),
    ]
}

fn images(node: &Node) {
    let cases = [
        "a/b",
        "UPPER CASE",
        "ftp://x/y",
        "../bin/sh",
        "/bin/../bin/sh",
        "x@sha256:1",
        "-y",
        "name-",
        "http://h/x.deb",
    ];
    for (index, image) in cases.iter().enumerate() {
        let name = format!("image-{index}");
        apply(node, &name, json!({"containers": [{"name": "main", "image": image}]}));
    }
    for (index, image) in cases.iter().enumerate() {
        let invalid = |s: &Value| {
            matches!(
                first(s)["state"]["waiting"]["reason"].as_str(),
                Some("InvalidImageName" | "ErrImagePull" | "ImagePullBackOff")
            )
        };
        node.wait_status(&format!("image-{index}"), image, invalid).unwrap();
    }
}

pub(super) fn mistakes(systemd: Systemd) {
    let node = Node::start(systemd, "mistakes").unwrap();
    apply(&node, "fine", stays("sleep infinity"));
    let fine = uid(&node, "fine");
    for (name, text, _) in malformed() {
        node.apply(&format!("{name}.yaml"), &text).unwrap();
    }
    for (name, spec, _) in unsupported() {
        apply(&node, name, spec);
    }
    let many = json!({"hostAliases": [{"ip": "10.0.0.9", "hostnames": ["x"]}], "dnsPolicy": "None",
        "containers": [{"name": "main", "image": "/bin/true", "tty": true, "workingDir": "x"}]});
    apply(&node, "many", many);
    node.apply("unknown.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: unknown}\nspec: {imaginary: 1, containers: [{name: main, image: /bin/sleep, args: [infinity]}]}").unwrap();
    for (name, _, text) in malformed() {
        wait_log(&node, &format!("{name}.yaml"));
        wait_log(&node, text);
    }
    for (name, _, path) in unsupported() {
        let report = node.wait_status(name, path, |s| s["phase"] == "Failed").unwrap();
        let status = &report["pod"]["status"];
        assert_eq!(status["reason"], "Unsupported", "{name}: {status:#}");
        assert!(status["message"].as_str().is_some_and(|m| m.contains(path)), "{name}: {status:#}");
    }
    let report = node.wait_status("many", "all reasons", |s| s["phase"] == "Failed").unwrap();
    let message = report["pod"]["status"]["message"].as_str().unwrap();
    for path in ["spec.hostAliases", "spec.dnsPolicy", "spec.containers[0].tty", "spec.containers[0].workingDir"] {
        assert!(message.contains(path), "{path}: {message}");
    }
    images(&node);
    let log = agent_log(&node);
    assert!(!log.contains("panicked"), "{log}");
    assert!(log.contains("imaginary"), "an unknown field is named: {log}");
    assert_eq!(uid(&node, "fine"), fine);
    assert_eq!(first(&node.report("fine").unwrap()["pod"]["status"])["restartCount"], 0);
    assert_eq!(node.property("systemk.service", "NRestarts").unwrap(), "0");
}
