//! As whom a package runs, and what is its own then.

use e2e::agent::Node;
use e2e::scenarios::Scenario;

use super::support::*;

pub(super) const ALL: &[Scenario] = scenarios![dirs, dynamic];

/// The user comes with the package, so the first of these runs before anybody knows that user.
fn dirs(node: &Node) {
    let by_name = "securityContext: {windowsOptions: {runAsUserName: sk-dirs}},";
    sh(node, "! getent passwd sk-dirs");
    let manifest = pod_with("dirs-name", "", by_name, "image: sk-dirs, command: [sh, -c, id; exec sleep infinity]");
    apply(node, "dirs-name", &manifest);
    node.wait_ready("dirs-name").unwrap();
    let group = sh(node, "id -g sk-dirs");
    says(node, "dirs-name", &format!("uid=64990(sk-dirs) gid={group}(sk-dirs) groups={group}(sk-dirs)\n"));

    ready(node, "dirs", "image: sk-dirs");
    let log = says(node, "dirs", "sk-dirs: /var/log/sk-dirs sk-dirs 755 lines: 1\n");
    for line in [
        "sk-dirs\n",
        "sk-dirs: /run/sk-dirs sk-dirs 755 lines: 1\n",
        "sk-dirs: /var/lib/sk-dirs sk-dirs 750 lines: 1\n",
        "sk-dirs: /var/cache/sk-dirs sk-dirs 755 lines: 1\n",
    ] {
        assert!(log.contains(line), "{line}{log}");
    }
    gone(node, "dirs");
    sh(node, "test ! -e /run/sk-dirs");
    for kept in ["lib", "cache", "log"] {
        assert_eq!(sh(node, &format!("wc -l </var/{kept}/sk-dirs/written")), "1", "{kept}");
    }
    // Its own user by name is its own unit, unchanged.
    apply(node, "dirs", &pod_with("dirs", "", by_name, "image: sk-dirs"));
    node.wait_ready("dirs").unwrap();
    let log = says(node, "dirs", "sk-dirs: /var/log/sk-dirs sk-dirs 755 lines: 2\n");
    assert!(log.contains("sk-dirs: /run/sk-dirs sk-dirs 755 lines: 1\n"), "{log}");

    let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: dirs}, data: {key: value}}\n---\n";
    let volume = "volumes: [{name: map, configMap: {name: dirs}}, {name: scratch, emptyDir: {}}],";
    let container = "image: sk-dirs, command: [sh, -c, 'id -un; cat /etc/sk-dirs/key; echo; echo x >/scratch/y && cat /scratch/y; sleep infinity'], \
                     volumeMounts: [{name: map, mountPath: /etc/sk-dirs}, {name: scratch, mountPath: /scratch}]";
    apply(node, "dirs-map", &format!("{map}{}", pod_with("dirs-map", "", volume, container)));
    node.wait_ready("dirs-map").unwrap();
    says(node, "dirs-map", "sk-dirs\nvalue\nx\n");
    sh(node, "test ! -e /etc/sk-dirs");

    let container = "image: sk-dirs, command: [sh, -c, 'id -u; touch /run/sk-dirs/x && echo wrote; sleep infinity'], securityContext: {runAsUser: 64500}";
    apply(node, "dirs-other", &pod("dirs-other", container));
    node.wait_ready("dirs-other").unwrap();
    says(node, "dirs-other", "64500\nwrote\n");
    event(node, "dirs-other", "Warning", "PodNote", "/var/lib/sk-dirs");
    // What the host's service has there stays its own.
    assert_eq!(sh(node, "stat -c %U /var/lib/sk-dirs /var/lib/sk-dirs/written"), "sk-dirs\nsk-dirs");
}

fn dynamic(node: &Node) {
    ready(node, "dynamic", "image: sk-dynamic");
    says(node, "dynamic", "state /var/lib/sk-dynamic\n");
    let pid = property(node, "dynamic", "MainPID");
    let uid: u32 = sh(node, &format!("stat -c %u /proc/{pid}")).parse().unwrap();
    assert!((61184..=65519).contains(&uid), "{uid}");
    sh(node, "test -s /var/lib/private/sk-dynamic/written");
    apply(node, "dynamic-user", &pod("dynamic-user", "image: sk-dynamic, securityContext: {runAsUser: 1}"));
    refused(node, "dynamic-user", &["DynamicUser"]);
}
