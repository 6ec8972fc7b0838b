use std::collections::BTreeMap;
use std::fs;

use plan::admission::PortHistory;
use plan::inputs::NativeRoot;
use plan::vendor::SpecifierFacts;
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
        read_only_host: None,
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
