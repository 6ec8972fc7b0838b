//! Requests and limits. The sandbox's cgroup2 has no controllers, so here limits are told about, not enforced; what the
//! units say where there are some is in `plan/tests/cases`.

use e2e::agent::Node;
use e2e::sandbox::Systemd;
use serde_json::json;

use super::{apply, main_pid};

on_both! { limits }

pub(super) fn limits(systemd: Systemd) {
    let node = Node::start(systemd, "limits").unwrap();
    let container = |requests, limits| {
        json!({"containers": [{"name": "main", "image": "/bin/sleep", "args": ["infinity"],
            "resources": {"requests": requests, "limits": limits}}]})
    };
    let both = json!({"cpu": "500m", "memory": "64Mi"});
    apply(&node, "guaranteed", container(both.clone(), both));
    apply(&node, "burstable", container(json!({"cpu": "100m"}), json!({"memory": "1Gi"})));
    apply(&node, "best-effort", container(json!({}), json!({})));
    let expected = [
        ("guaranteed", "Guaranteed", "-997", "kubepods-pod"),
        ("burstable", "Burstable", "", "kubepods-burstable-pod"),
        ("best-effort", "BestEffort", "1000", "kubepods-besteffort-pod"),
    ];
    for (name, class, score, slice) in expected {
        let report = node.wait_ready(name).unwrap();
        assert_eq!(report["pod"]["status"]["qosClass"], class);
        let unit = node.unit(name, "main").unwrap();
        let loaded = node.property(&unit, "OOMScoreAdjust").unwrap();
        let real = node.sandbox.read_file(format!("/proc/{}/oom_score_adj", main_pid(&node, name, "main"))).unwrap();
        // A sandbox may not let even its PID 1 go below what it began with.
        assert!(loaded.starts_with('-') || loaded == real.trim(), "{name}: {real}");
        assert!(score.is_empty() || score == loaded, "{name}: {loaded}");
        assert!(node.property(&unit, "Slice").unwrap().starts_with(slice), "{name}");
        let events = report["events"].as_array().unwrap();
        let warned = |what: &str| {
            events.iter().any(|e| e["type"] == "Warning" && e["message"].as_str().is_some_and(|m| m.contains(what)))
        };
        assert_eq!(warned("memory"), name != "best-effort", "{name}: {events:#?}");
        assert_eq!(warned("cpu"), name != "best-effort", "{name}: {events:#?}");
        assert_eq!(node.property(&unit, "MemoryMax").unwrap(), "infinity", "{name}");
        assert_eq!(node.property(&unit, "CPUQuotaPerSecUSec").unwrap(), "infinity", "{name}");
    }
}
