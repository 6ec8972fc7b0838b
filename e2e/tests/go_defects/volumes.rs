//! Sections 1.7 and 1.8: volumes and identities.

use e2e::agent::Node;
use e2e::scenarios::Scenario;

use super::shell;
use crate::packages::support::*;

pub(super) const ALL: &[Scenario] = scenarios![
    s1_7_an_empty_dir_is_open,
    s1_7_files_have_their_mode_and_the_packages_user_reads_them,
    s1_7_host_path_elsewhere_and_read_only,
    s1_7_projected_sources_together,
    s1_7_a_missing_config_map_waits,
    s1_8_one_containers_user_is_not_the_others,
    s1_8_a_group_without_a_user,
    measured_a_downward_api_volume,
    measured_a_removed_key_goes,
];

fn s1_7_an_empty_dir_is_open(node: &Node) {
    let spec = "volumes: [{name: v, emptyDir: {}}], securityContext: {runAsUser: 4242},";
    let script = "stat -c %a /v && touch /v/x && stat -c %u /v/x; exec sleep infinity";
    let container =
        format!("image: /bin/bash, command: [bash, -c, '{script}'], volumeMounts: [{{name: v, mountPath: /v}}]");
    apply(node, "empty-dir", &pod_with("empty-dir", "", spec, &container));
    says(node, "empty-dir", "777\n4242\n");
}

fn s1_7_files_have_their_mode_and_the_packages_user_reads_them(node: &Node) {
    let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: modes}, data: {key: value}}\n---\n";
    let spec = "volumes: [{name: m, configMap: {name: modes}}, {name: n, configMap: {name: modes, defaultMode: 256}}],";
    let script = "id -un; stat -Lc %a /m/key /n/key; cat /m/key; echo; cat /n/key; ! touch /m/key; exec sleep infinity";
    let mounts = "[{name: m, mountPath: /m}, {name: n, mountPath: /n}]";
    let container = format!("image: sk-dirs, command: [bash, -c, '{script}'], volumeMounts: {mounts}");
    apply(node, "modes", &format!("{map}{}", pod_with("modes", "", spec, &container)));
    says(node, "modes", "sk-dirs\n644\n400\nvalue\n");
    says(node, "modes", "/n/key: Permission denied");
}

fn s1_7_host_path_elsewhere_and_read_only(node: &Node) {
    sh(node, "mkdir -p /srv/there && echo here >/srv/there/file");
    let spec = "volumes: [{name: h, hostPath: {path: /srv/there}}, {name: m, hostPath: {path: /srv/missing, type: Directory}}],";
    let script = "cat /mnt/x/file; touch /mnt/x/y || echo refused; touch /mnt/w/z; exec sleep infinity";
    let mounts = "[{name: h, mountPath: /mnt/x, readOnly: true}, {name: h, mountPath: /mnt/w}]";
    let container = format!("image: /bin/bash, command: [bash, -c, '{script}'], volumeMounts: {mounts}");
    let unmissed = spec.replace(", {name: m, hostPath: {path: /srv/missing, type: Directory}}", "");
    apply(node, "host-path", &pod_with("host-path", "", &unmissed, &container));
    says(node, "host-path", "here\n");
    says(node, "host-path", "refused\n");
    node.wait_ready("host-path").unwrap();
    sh(node, "test -e /srv/there/z -a ! -e /srv/there/y");
    apply(node, "host-path-missing", &pod_with("host-path-missing", "", spec, &container));
    node.wait_status("host-path-missing", "to wait", |status| status.to_string().contains("/srv/missing")).unwrap();
}

fn s1_7_projected_sources_together(node: &Node) {
    let objects = "{apiVersion: v1, kind: ConfigMap, metadata: {name: pm}, data: {map: from-map}}\n---\n\
                   {apiVersion: v1, kind: Secret, metadata: {name: ps}, stringData: {secret: from-secret}}\n---\n";
    let sources = "[{configMap: {name: pm}}, {secret: {name: ps}}, \
                   {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]";
    let spec = format!("volumes: [{{name: p, projected: {{sources: {sources}}}}}],");
    let script = "cat /p/map /p/secret /p/name; echo; exec sleep infinity";
    let container =
        format!("image: /bin/bash, command: [bash, -c, '{script}'], volumeMounts: [{{name: p, mountPath: /p}}]");
    apply(node, "projected", &format!("{objects}{}", pod_with("projected", "", &spec, &container)));
    says(node, "projected", "from-mapfrom-secretprojected\n");
}

fn s1_7_a_missing_config_map_waits(node: &Node) {
    let spec = "volumes: [{name: m, configMap: {name: later}}],";
    let container = "image: /bin/bash, command: [bash, -c, 'cat /m/key; echo; exec sleep infinity'], volumeMounts: [{name: m, mountPath: /m}]";
    apply(node, "waiting", &pod_with("waiting", "", spec, container));
    node.wait_status("waiting", "to wait for it", |status| {
        status["phase"] == "Pending" && status.to_string().contains("later")
    })
    .unwrap();
    node.apply("later.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: later}, data: {key: came}}\n")
        .unwrap();
    says(node, "waiting", "came");
    node.wait_ready("waiting").unwrap();
}

fn s1_8_one_containers_user_is_not_the_others(node: &Node) {
    let print = "command: [bash, -c, 'id -u; exec sleep infinity']";
    let rest = format!(
        "image: /bin/bash, {print}, securityContext: {{runAsUser: 4001}}}}, {{name: d, image: /bin/bash, {print}"
    );
    apply(node, "users", &pod("users", &rest));
    says(node, "users", "4001\n");
    assert_eq!(node.wait_log("users", "d", "\n").unwrap(), "0\n");
}

fn s1_8_a_group_without_a_user(node: &Node) {
    let spec = "securityContext: {runAsGroup: 4003},";
    apply(node, "group", &shell("group", spec, "id -u; id -g; exec sleep infinity"));
    says(node, "group", "0\n4003\n");
}

fn measured_a_downward_api_volume(node: &Node) {
    let spec = "volumes: [{name: d, downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}],";
    let container = "image: /bin/bash, command: [bash, -c, 'cat /d/name; echo; exec sleep infinity'], volumeMounts: [{name: d, mountPath: /d}]";
    apply(node, "downward", &pod_with("downward", "", spec, container));
    says(node, "downward", "downward\n");
}

fn measured_a_removed_key_goes(node: &Node) {
    let map = |data: &str| format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: keys}}, data: {{{data}}}}}\n");
    node.apply("keys-map.yaml", &map("a: '1', b: '2'")).unwrap();
    let spec = "volumes: [{name: k, configMap: {name: keys}}],";
    let script = "while :; do echo $(ls /k)=$(cat /k/*); sleep 0.2; done";
    let container =
        format!("image: /bin/bash, command: [bash, -c, '{script}'], volumeMounts: [{{name: k, mountPath: /k}}]");
    apply(node, "keys", &pod_with("keys", "", spec, &container));
    says(node, "keys", "a b=12\n");
    node.apply("keys-map.yaml", &map("a: '3'")).unwrap();
    says(node, "keys", "a=3\n");
}
