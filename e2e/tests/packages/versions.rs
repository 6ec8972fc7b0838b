//! One version of a package per node.

use e2e::agent::Node;
use e2e::scenarios::Scenario;

use super::support::*;

pub(super) const ALL: &[Scenario] = scenarios![versions, a_package_stays_while_a_pod_that_stops_uses_it];

fn versions(node: &Node) {
    ready(node, "old", "image: sk-versions=1.0-1");
    says(node, "old", "sk-versions: 1.0-1\n");
    // What is there will do for a bare name, even with Always while another pod uses it.
    ready(node, "bare", "image: sk-versions, imagePullPolicy: Always");
    says(node, "bare", "sk-versions: 1.0-1\n");
    event(node, "bare", "Warning", "ImageUnverified", "sk-versions 2.0-1 is available; 1.0-1 stays");
    gone(node, "bare");

    apply(node, "new", &pod("new", "image: 'sk-versions:2.0'"));
    waits(node, "new", "ErrImagePull", &["sk-versions 1.0-1 is in use by pod default/old", "maxSurge: 0"]);
    gone(node, "old");
    node.wait_ready("new").unwrap();
    says(node, "new", "sk-versions: 2.0-1\n");
    gone(node, "new");
    // Down again only because it is asked for.
    ready(node, "old", "image: 'sk-versions:1.0'");
    says(node, "old", "sk-versions: 1.0-1\n");
    gone(node, "old");
    ready(node, "newest", "image: sk-versions, imagePullPolicy: Always");
    says(node, "newest", "sk-versions: 2.0-1\n");
    apply(node, "none", &pod("none", "image: 'sk-versions=3*'"));
    waits(node, "none", "ErrImagePull", &["no version of sk-versions matches", "2.0-1, 1.0-1"]);
    gone(node, "none");
    gone(node, "newest");
}

/// An agent that begins knows who uses what before it installs anything, also of pods that nothing wants any more.
fn a_package_stays_while_a_pod_that_stops_uses_it(node: &Node) {
    let shell = "command: [/bin/sh, -c, 'trap : TERM; while :; do sleep 0.2; done']";
    let grace = "terminationGracePeriodSeconds: 120,";
    let old = format!("image: sk-versions=1.0-1, {shell}");
    let leaving = pod_with("leaving", "", "", &old).replace("terminationGracePeriodSeconds: 5,", grace);
    apply(node, "leaving", &leaving);
    node.wait_ready("leaving").unwrap();
    sh(node, "systemctl stop systemk; rm /etc/systemk/manifests/leaving.yaml");
    node.sandbox.write_file("/etc/systemk/manifests/coming.yaml", pod("coming", "image: sk-versions=2.0-1")).unwrap();
    node.start_agent().unwrap();
    waits(node, "coming", "ErrImagePull", &["sk-versions 1.0-1 is in use by pod default/leaving"]);
    assert_eq!(sh(node, "dpkg-query -W sk-versions"), "sk-versions\t1.0-1");
    sh(node, "systemctl kill --signal=KILL 'systemk.default.leaving.*'");
    node.wait_ready("coming").unwrap();
    gone(node, "coming");
}
