//! What happens while the agent is not there.

use e2e::agent::Node;
use e2e::scenarios::Scenario;

use super::shell;
use crate::packages::support::*;

pub(super) const ALONE: &[Scenario] =
    scenarios![s1_9_a_pod_removed_while_the_agent_was_down, s1_13_updates_after_a_restart_and_after_anothers_end];

fn s1_9_a_pod_removed_while_the_agent_was_down(node: &Node) {
    let sleep = "exec sleep infinity";
    apply(node, "down", &shell("down", "", sleep));
    apply(node, "stays", &shell("stays", "", sleep));
    node.wait_ready("down").unwrap();
    node.wait_ready("stays").unwrap();
    let (down, stays) = (property(node, "down", "MainPID"), property(node, "stays", "MainPID"));
    sh(node, "systemctl stop systemk");
    node.remove("down.yaml").unwrap();
    node.start_agent().unwrap();
    node.wait_gone("down").unwrap();
    sh(node, &format!("test ! -e /proc/{down}"));
    node.wait_ready("stays").unwrap();
    assert_eq!(property(node, "stays", "MainPID"), stays);
    gone(node, "stays");
}

fn s1_13_updates_after_a_restart_and_after_anothers_end(node: &Node) {
    let map = |value: &str| {
        format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: shared}}, data: {{k: {value}}}}}\n")
    };
    node.apply("shared-map.yaml", &map("first")).unwrap();
    let spec = "volumes: [{name: m, configMap: {name: shared}}],";
    let script = "while :; do cat /m/k; echo; sleep 0.2; done";
    let container =
        format!("image: /bin/bash, command: [bash, -c, '{script}'], volumeMounts: [{{name: m, mountPath: /m}}]");
    for name in ["reads", "ends"] {
        apply(node, name, &pod_with(name, "", spec, &container));
        says(node, name, "first\n");
    }
    gone(node, "ends");
    node.apply("shared-map.yaml", &map("second")).unwrap();
    says(node, "reads", "second\n");
    sh(node, "systemctl restart systemk");
    node.apply("shared-map.yaml", &map("third")).unwrap();
    says(node, "reads", "third\n");
    gone(node, "reads");
}
