//! Pods of host binaries: what works when the loop works.

use e2e::agent::Node;
use e2e::sandbox::Systemd;

const TWO_SHELLS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: while}
spec:
  volumes: [{name: shared, emptyDir: {}}]
  containers:
  - name: writer
    image: /bin/bash
    command: [/bin/bash, -c, "while true; do echo tick >> /data/log; sleep 0.2; done"]
    volumeMounts: [{name: shared, mountPath: /data}]
  - name: reader
    image: /bin/bash
    command: [/bin/bash, -c, "while true; do [ -s /look/log ] && echo read $(head -1 /look/log); sleep 0.2; done"]
    volumeMounts: [{name: shared, mountPath: /look, readOnly: true}]
"#;

fn two_shells_share_an_empty_dir(systemd: Systemd) {
    let node = Node::start(systemd, "while").unwrap();
    node.apply("while.yaml", TWO_SHELLS).unwrap();
    node.wait_ready("while").unwrap();
    node.wait_log("while", "reader", "read tick").unwrap();
    node.remove("while.yaml").unwrap();
    node.wait_gone("while").unwrap();
    let left = node
        .sandbox
        .sh("ls /run/systemk/pods /var/lib/systemk/pods; ls /run/systemd/system | grep -c systemk. || true")
        .unwrap();
    assert!(left.trim_end().ends_with('0'), "{left}");
}

#[test]
fn two_shells_share_an_empty_dir_on_252() {
    two_shells_share_an_empty_dir(Systemd::V252);
}

#[test]
fn two_shells_share_an_empty_dir_on_257() {
    two_shells_share_an_empty_dir(Systemd::V257);
}
