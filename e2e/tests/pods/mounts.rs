//! Where volumes appear, and that none of it is left on the host.

use std::collections::BTreeSet;

use e2e::agent::Node;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::{output, shell, with};

on_both! { mount_points }

/// Everything below the host directories that containers see, less what the node itself writes.
fn host(node: &Node) -> BTreeSet<String> {
    let script = "find /etc /usr /opt /srv /var /data /bin/ /lib/ -xdev \\( -path /var/log/journal -o -path /var/lib/systemk \
        -o -path /etc/systemk -o -path /var/cache/ldconfig -o -path /var/lib/systemd -o -path /var/tmp \\) -prune \
        -o -print 2>/dev/null | sort";
    node.sandbox.sh(script).unwrap().lines().map(str::to_owned).collect()
}

/// Mounts a new emptyDir at each path, and checks that all can be written and nothing else there is hidden.
fn mounted(node: &Node, name: &str, paths: &[&str], check: &str) -> String {
    let volumes: Vec<Value> = (0..paths.len()).map(|i| json!({"name": format!("v{i}"), "emptyDir": {}})).collect();
    let mounts: Vec<Value> =
        paths.iter().enumerate().map(|(i, path)| json!({"name": format!("v{i}"), "mountPath": path})).collect();
    let write: String =
        paths.iter().map(|p| format!("echo 'in {p}' > '{p}/mine' || echo 'cannot write {p}'\n")).collect();
    let read: String =
        paths.iter().map(|p| format!("[ \"$(cat '{p}/mine')\" = 'in {p}' ] || echo 'wrong in {p}'\n")).collect();
    let container = with(shell("main", &format!("{write}{read}{check}")), json!({"volumeMounts": mounts}));
    output(node, name, json!({"restartPolicy": "Never", "volumes": volumes, "containers": [container]}))
}

pub(super) fn mount_points(systemd: Systemd) {
    let node = Node::start(systemd, "mount-points").unwrap();
    node.sandbox
        .sh("mkdir -p /opt/there /srv/www/old /data; echo x > /opt/there/hidden; echo y > /opt/beside")
        .unwrap();
    let before = host(&node);
    let whole = |name: &str, paths: &[&str], check: &str| mounted(&node, name, paths, check);
    assert_eq!(
        whole(
            "etc",
            &["/etc/new", "/etc/more/deep"],
            "head -c4 /etc/passwd; echo; touch /etc/x 2>&1 | grep -o Read-only || echo writable"
        ),
        "root\nRead-only\n"
    );
    assert_eq!(
        whole("usr", &["/usr/share/x/y", "/usr/local/z"], "[ -x /usr/bin/env ] && [ -d /usr/share/doc ] && echo ok"),
        "ok\n"
    );
    assert_eq!(whole("opt", &["/opt/there", "/opt/new"], "cat /opt/beside; ls /opt/there"), "y\nmine\n");
    assert_eq!(whole("srv", &["/srv", "/srv/deep/er"], "ls /srv; ls /srv/deep"), "deep\nmine\ner\n");
    assert_eq!(
        whole("nested", &["/data/sub", "/data", "/data/sub/subsub"], "ls /data; ls /data/sub"),
        "mine\nsub\nmine\nsubsub\n"
    );
    assert_eq!(
        whole("mixed", &["/srv/www/new", "/srv/other", "/srv/www/old"], "ls /srv /srv/www | tr '\\n' ' '"),
        "/srv: other www  /srv/www: new old\n"
    );
    let private =
        ["/tmp", "/var/tmp", "/home", "/root", "/home/user", "/var/lib/app", "/var/log/app", "/run/app", "/mnt/a"];
    assert_eq!(whole("private", &private, "ls /tmp"), "mine\n");
    assert_eq!(
        whole("whole", &["/opt", "/var"], "ls /opt /var | tr '\\n' ' '"),
        "/opt: mine  /var: mine\n".replace("/var: mine", "/var: mine tmp")
    );
    assert_eq!(whole("merged", &["/lib/app"], "[ -x /bin/ls ] && echo ok"), "ok\n");
    assert_eq!(
        whole(
            "odd",
            &["/data/with space", "/data/%n", "/data/$HOME", "/data/co:lon", "/data/back\\slash", "/data/ü"],
            ""
        ),
        ""
    );
    assert_eq!(whole("dev", &["/dev/shm"], "ls /dev/shm"), "mine\n");
    read_only(&node);
    let after = host(&node);
    let none: Vec<&String> = Vec::new();
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), none, "appeared on the host");
    assert_eq!(before.difference(&after).collect::<Vec<_>>(), none, "vanished from the host");
}

fn read_only(node: &Node) {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "v"}});
    node.apply("m.json", &map.to_string()).unwrap();
    let volumes = json!([{"name": "e", "emptyDir": {}}, {"name": "m", "configMap": {"name": "m"}}, {"name": "h", "hostPath": {"path": "/opt"}}]);
    let mounts = json!([{"name": "e", "mountPath": "/rw"}, {"name": "e", "mountPath": "/ro", "readOnly": true},
        {"name": "e", "mountPath": "/etc/fresh", "readOnly": true}, {"name": "m", "mountPath": "/etc/map"},
        {"name": "h", "mountPath": "/host", "readOnly": true}]);
    let script = "echo x > /rw/f; for d in /ro /etc/fresh /etc/map /host; do touch $d/new 2>/dev/null && echo \"$d is writable\"; done; \
        cat /ro/f /etc/fresh/f /etc/map/k";
    let container = with(shell("main", script), json!({"volumeMounts": mounts}));
    let log =
        output(node, "read-only", json!({"restartPolicy": "Never", "volumes": volumes, "containers": [container]}));
    assert_eq!(log, "x\nx\nv\n");
}
