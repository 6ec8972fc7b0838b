use std::collections::BTreeMap;
use std::fs;

use plan::admission::PortHistory;
use plan::history::{ContainerHistory, Exit};
use plan::inputs::NativeRoot;
use plan::vendor::SpecifierFacts;
use serde_json::json;
use tempfile::TempDir;

use super::*;

/// A node with one pod's directories on /run and on disk.
fn node() -> (TempDir, NodeFacts) {
    let dir = tempfile::tempdir().unwrap();
    let below = |name: &str| dir.path().join(name).display().to_string();
    let facts = NodeFacts {
        node_name: String::new(),
        internal_ips: Vec::new(),
        external_ips: Vec::new(),
        systemd_version: 252,
        run_root: below("run"),
        state_root: below("state"),
        unit_dir: below("units"),
        slice_root: "kubepods".to_owned(),
        binary: String::new(),
        root_entries: BTreeMap::new(),
        views: BTreeMap::new(),
        native_root: NativeRoot::Default,
        etc_run_targets: Vec::new(),
        specifiers: SpecifierFacts::default(),
        controllers: Vec::new(),
        allowed_dirs: Vec::new(),
        cpu_milli: 0,
        memory_bytes: 0,
    };
    fs::create_dir_all(dir.path().join("run/pods/u")).unwrap();
    fs::create_dir_all(dir.path().join("state/pods/u/containers/a")).unwrap();
    (dir, facts)
}

/// The kernel gives an error for it: it is not put aside.
fn make_unreadable(dir: &TempDir) {
    let file = dir.path().join("run/pods/u/history.json");
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("history.json", &file).unwrap();
}

#[test]
fn another_pods_history_is_only_read_and_may_be_unreadable() {
    let (dir, facts) = node();
    assert_eq!(word_of(&facts, "u", Ports::Unknown), (rebuild::rebuild(&facts, "u"), Ports::Unknown));
    assert!(dir.path().join("state/pods/u/containers/a").exists(), "its own look removes that");
    let saved = PodHistory { uid: "u".to_owned(), ports: Some(PortHistory::default()), ..PodHistory::default() };
    history::save(&facts, &saved).unwrap();
    let (read, known) = word_of(&facts, "u", Ports::Unknown);
    assert_eq!((read.ports, known), (saved.ports, Ports::Unknown));
    make_unreadable(&dir);
    assert_eq!(word_of(&facts, "u", Ports::Unknown), (PodHistory::default(), Ports::Held));
}

#[test]
fn a_pod_that_is_left_alone_holds_its_ports_until_it_has_ended_for_good() {
    let (dir, facts) = node();
    let reported = |policy: &str| {
        let spec = json!({"restartPolicy": policy, "containers": [{"name": "a", "ports": [{"containerPort": 80}]}]});
        let report = json!({
            "pod": {"metadata": {"name": "web"}, "spec": spec}, "source": "", "stopping": false,
            "units": [], "events": [], "invocations": [],
        });
        fs::write(dir.path().join("run/pods/u/status.json"), report.to_string()).unwrap();
    };
    let holds = || alone(&facts, "u").map(|c| (c.pod, c.standing, c.claims.len()));
    let web = Some(("default/web".to_owned(), Standing::Holds, 1));
    reported("Never");
    assert_eq!(holds(), None, "one that was never admitted");
    let ended = ContainerHistory { attempt: Some(0), exit: Some(Exit::default()), ..ContainerHistory::default() };
    let (namespace, name) = ("default".to_owned(), "web".to_owned());
    let containers = BTreeMap::from([("a".to_owned(), ended)]);
    history::save(&facts, &PodHistory { uid: "u".to_owned(), namespace, name, containers, ..PodHistory::default() })
        .unwrap();
    assert_eq!(holds(), None, "it has ended");
    reported("Always");
    assert_eq!(holds(), web, "it is started again");
    make_unreadable(&dir);
    assert_eq!(holds(), web, "nothing says that it has ended");
}
