//! Images that cannot be had, and those that come by URL.

use std::process::Command;

use e2e::agent::Node;
use e2e::apt_repo::AptRepo;
use e2e::sandbox::Running;
use e2e::scenarios::Scenario;

use super::support::*;

pub(super) const ALL: &[Scenario] = scenarios![names_that_apt_would_misread, never, present];
pub(super) const ALONE: &[Scenario] = scenarios![
    no_such_package,
    by_url,
    the_package_file_is_gone,
    a_lock_of_another,
    a_package_goes_under_its_container,
    the_agent_goes_during_an_installation,
    a_recovery_holds_up_installations_only
];

/// Alone, as others' installations would come between its tries.
fn no_such_package(node: &Node) {
    apply(node, "unknown", &pod("unknown", "image: sk-no-such-package"));
    waits(node, "unknown", "ErrImagePull", &["no package is called sk-no-such-package"]);
    waits(node, "unknown", "ImagePullBackOff", &["Back-off pulling image", "no package is called sk-no-such-package"]);
    // The second try comes after ten seconds, the third after twenty more.
    let failures = |report: &serde_json::Value| {
        let events = report["events"].as_array().cloned().unwrap_or_default();
        let failed = events.iter().find(|e| e["reason"] == "Failed").cloned().unwrap_or_default();
        (failed["count"].as_i64().unwrap_or(0), failed["lastMs"].as_i64().unwrap_or(0))
    };
    let (_, first) = failures(&node.report("unknown").unwrap());
    let again = e2e::eventually::wait_until("the second try", node.patience, || {
        node.report("unknown").map(|r| failures(&r)).filter(|(count, _)| *count == 2)
    });
    let waited = again.unwrap().1 - first;
    assert!((10_000..16_000).contains(&waited), "{waited} ms");
    gone(node, "unknown");
}

fn names_that_apt_would_misread(node: &Node) {
    for (name, image, reason, part) in [
        ("minus", "bash-", "ErrImagePull", "no package is called bash-"),
        ("dot", "tzdat.", "ErrImagePull", "no package is called tzdat."),
        ("gplus", "g++-", "ErrImagePull", "no package is called g++-"),
        ("option", "'-oDPkg::x'", "InvalidImageName", "-oDPkg::x"),
        ("slash", "a/b", "InvalidImageName", "docker.io/a/b"),
        ("http", "'http://localhost/a_1_all.deb'", "InvalidImageName", "https"),
        ("oci", "docker.io/library/nginx:1.27", "ErrImagePull", "OCI image"),
    ] {
        apply(node, name, &pod(name, &format!("image: {image}, command: [sleep, infinity]")));
        waits(node, name, reason, &[part]);
        gone(node, name);
    }
    sh(node, "dpkg -s bash | grep -q 'install ok installed'");
}

fn never(node: &Node) {
    apply(node, "never", &pod("never", "image: sk-never, imagePullPolicy: Never"));
    waits(node, "never", "ErrImageNeverPull", &["sk-never", "imagePullPolicy is Never"]);
    ready(node, "never-there", "image: sk-exit, imagePullPolicy: Never");
}

fn present(node: &Node) {
    ready(node, "present", "image: sk-exit, imagePullPolicy: IfNotPresent");
    event(node, "present", "Normal", "Pulled", "already present");
}

/// A package file over HTTPS, with the right hash, a wrong one and none.
fn by_url(node: &Node) {
    let repo = AptRepo::build().unwrap();
    let server = repo.serve_https(&node.sandbox).unwrap();
    let file = AptRepo::deb("sk-versions", "1.0-1");
    let sum = Command::new("sha256sum").arg(repo.directory().join(&file)).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap().split(' ').next().unwrap().to_owned();
    let url = server.url(&file);
    apply(node, "wrong", &pod("wrong", &format!("image: '{url}#sha256={}'", "0".repeat(64))));
    waits(node, "wrong", "ErrImagePull", &["Hash Sum mismatch"]);
    gone(node, "wrong");
    ready(node, "right", &format!("image: '{url}#sha256={sum}'"));
    says(node, "right", "sk-versions: 1.0-1\n");
    // The agent is another one after a restart, and it still knows what the URL gave.
    sh(node, "systemctl restart systemk");
    let report = node.wait_ready("right").unwrap();
    assert_eq!(report["pod"]["status"]["containerStatuses"][0]["imageID"], "package://sk-versions=1.0-1");
    gone(node, "right");
    ready(node, "bare-url", &format!("image: '{}'", server.url(&AptRepo::deb("sk-versions", "2.0-1"))));
    says(node, "bare-url", "sk-versions: 2.0-1\n");
    event(node, "bare-url", "Warning", "ImageUnverified", "has no #sha256=");
    assert_eq!(sh(node, "find /tmp /var/tmp /var/lib/systemk -name '*.deb'"), "");
    gone(node, "bare-url");
    apply(node, "missing", &pod("missing", &format!("image: '{}'", server.url("sk-none_1_all.deb"))));
    waits(node, "missing", "ErrImagePull", &["downloading https://localhost"]);
    gone(node, "missing");
}

/// The lists name a file that is there no more, and then is again: the pod says so, and its back-off tries once more.
fn the_package_file_is_gone(node: &Node) {
    sh(node, "dpkg --purge sk-nounit; apt-get clean; mv /srv/systemk-repo/sk-nounit_*.deb /srv");
    apply(node, "no-file", &pod("no-file", "image: sk-nounit, command: [sk-nounit]"));
    waits(node, "no-file", "ErrImagePull", &["sk-nounit", "/srv/systemk-repo"]);
    ready(node, "no-file-beside", "image: sk-exit");
    sh(node, "mv /srv/sk-nounit_*.deb /srv/systemk-repo");
    node.wait_ready("no-file").unwrap();
    assert_eq!(sh(node, "dpkg --audit"), "");
    gone(node, "no-file");
    gone(node, "no-file-beside");
}

/// Another package manager is at work: the pod says whom it waits for, others go on, and so does it afterwards.
fn a_lock_of_another(node: &Node) {
    sh(node, "dpkg -r sk-nounit");
    let holder = hold_dpkgs_lock(node);
    apply(node, "locked", &pod("locked", "image: sk-nounit, command: [sk-nounit]"));
    waits(node, "locked", "ContainerCreating", &["waiting for the package manager's lock", "lock-frontend", "perl"]);
    ready(node, "beside", "image: sk-exit");
    drop(holder);
    node.wait_ready("locked").unwrap();
    gone(node, "locked");
    gone(node, "beside");
}

/// Another package manager's, until it is dropped.
fn hold_dpkgs_lock(node: &Node) -> Running {
    let hold = "open F, '+>>', '/var/lib/dpkg/lock-frontend' or die; \
                my $lock = pack('ssx4qqlx4', 1, 0, 0, 0, 0); fcntl(F, 6, $lock) or die $!; $| = 1; print 'held'; sleep 1000";
    let holder = node.sandbox.spawn(&["perl", "-e", hold]).unwrap();
    e2e::eventually::wait_until("the lock", e2e::agent::SOON, || holder.stdout().ok().filter(|text| text == "held"))
        .unwrap();
    holder
}

/// What runs goes on.
fn a_package_goes_under_its_container(node: &Node) {
    ready(node, "stays", "image: sk-othername");
    let pid = property(node, "stays", "MainPID");
    sh(node, "dpkg -r sk-othername; systemctl restart systemk");
    // Another pod is looked at after the restart, so that this one was, too.
    ready(node, "stays-other", "image: sk-exit");
    node.wait_ready("stays").unwrap();
    assert_eq!(property(node, "stays", "MainPID"), pid);
    gone(node, "stays");
    gone(node, "stays-other");
}

/// apt goes on alone; the next agent waits for it, puts right what failed, and tries again.
fn the_agent_goes_during_an_installation(node: &Node) {
    apply(node, "cut", &pod("cut", "image: sk-badpostinst, command: [sk-badpostinst]"));
    waits(node, "cut", "ContainerCreating", &["installing sk-badpostinst"]);
    sh(node, "systemctl kill --signal=KILL --kill-whom=main systemk");
    waits(node, "cut", "ErrImagePull", &["sk-badpostinst: giving up"]);
    assert_eq!(sh(node, "dpkg --audit"), "");
    gone(node, "cut");
}

/// What a killed agent's installation left is put right before the next one begins; the agent is ready before.
fn a_recovery_holds_up_installations_only(node: &Node) {
    sh(node, "systemctl stop systemk; dpkg -r sk-nounit");
    let marker = r#"{"version": 1, "wanted": "sk-nounit 1.0-1", "new": ["sk-nounit"], "enabled": {}}"#;
    node.sandbox.write_file("/var/lib/systemk/packages/installing.json", marker).unwrap();
    let holder = hold_dpkgs_lock(node);
    node.start_agent().unwrap();
    ready(node, "present", "image: sk-exit");
    apply(node, "waiting", &pod("waiting", "image: sk-nounit, command: [sk-nounit]"));
    waits(node, "waiting", "ContainerCreating", &["waiting for another package's installation"]);
    sh(node, "test -e /var/lib/systemk/packages/installing.json");
    drop(holder);
    node.wait_ready("waiting").unwrap();
    sh(node, "journalctl -u systemk -o cat | grep 'the installation of sk-nounit 1.0-1 was cleaned up'");
    gone(node, "waiting");
    gone(node, "present");
}
