//! What the tests of the groups share.

use k8s_openapi::api::core::v1::Pod;

use crate::inputs::{NativeRoot, NodeFacts};
use crate::vendor::SpecifierFacts;

/// A pod from YAML.
pub(crate) fn pod(yaml: &str) -> Pod {
    serde_saphyr::from_str(yaml).unwrap()
}

/// Four cores, 8 GiB, two internal and two external addresses.
pub(crate) fn facts() -> NodeFacts {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    NodeFacts {
        node_name: "node1".to_owned(),
        internal_ips: owned(&["10.0.0.5", "10.0.0.6"]),
        external_ips: owned(&["192.0.2.7", "2001:db8::7"]),
        systemd_version: 252,
        run_root: "/run/systemk".to_owned(),
        state_root: "/var/lib/systemk".to_owned(),
        unit_dir: "/run/systemd/system".to_owned(),
        slice_root: "kubepods".to_owned(),
        binary: "/usr/bin/systemk".to_owned(),
        root_entries: Default::default(),
        views: ["/usr", "/etc", "/opt", "/srv"].map(|top| (top.to_owned(), format!("/run/systemk/host{top}"))).into(),
        native_root: NativeRoot::Default,
        etc_run_targets: Vec::new(),
        specifiers: SpecifierFacts::default(),
        controllers: owned(&["cpu", "memory", "pids"]),
        allowed_dirs: Vec::new(),
        cpu_milli: 4000,
        memory_bytes: 8 << 30,
    }
}
