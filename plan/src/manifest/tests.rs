use proptest::prelude::*;
use serde_json::json;

use super::*;

fn yaml(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

fn errors(text: &str) -> String {
    let refusals = parse(&yaml(text), "node").unwrap_err();
    refusals.iter().map(|refusal| format!("{refusal}\n")).collect()
}

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: c, image: i}]}}";

#[test]
fn a_small_pod_gets_the_api_servers_defaults() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  hostNetwork: true
  volumes: [{name: scratch}, {name: s, secret: {secretName: x}}]
  containers:
  - name: c
    image: nginx
    ports: [{containerPort: 80}]
    resources: {limits: {cpu: 1, memory: 64Mi}}
    livenessProbe: {httpGet: {port: 80}}
";
    let manifest = parse(&yaml(text), "node").unwrap();
    assert_eq!(manifest.warnings, []);
    let spec = manifest.pods[0].spec.as_ref().unwrap();
    assert_eq!(manifest.pods[0].metadata.namespace.as_deref(), Some("default"));
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
    assert_eq!(spec.termination_grace_period_seconds, Some(30));
    assert!(spec.volumes.as_ref().unwrap()[0].empty_dir.is_some());
    let container = &spec.containers[0];
    let port = &container.ports.as_ref().unwrap()[0];
    assert_eq!((port.protocol.as_deref(), port.host_port), (Some("TCP"), Some(80)));
    assert_eq!(container.resources.as_ref().unwrap().requests.as_ref().unwrap()["cpu"].0, "1");
    assert_eq!(container.liveness_probe.as_ref().unwrap().period_seconds, Some(10));
    assert_eq!(container.image_pull_policy, None);
}

#[test]
fn every_problem_has_its_path() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: Web, namespace: ../etc, labels: {'a b': x}}
spec:
  terminationGracePeriodSeconds: -1
  restartPolicy: Sometimes
  volumes:
  - {name: v, hostPath: {path: relative}, emptyDir: {}}
  - {name: v, configMap: {name: m, defaultMode: 4096, items: [{key: k, path: ../x}]}}
  containers:
  - name: -c
    ports: [{containerPort: 0}]
    volumeMounts: [{name: none, mountPath: rel}, {name: v, mountPath: /a}, {name: v, mountPath: /a/}]
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}
---
{apiVersion: v1, kind: Pod, metadata: {generateName: d-}, spec: {containers: []}}
";
    insta::assert_snapshot!(errors(text));
}

#[test]
fn ports_of_the_host_are_for_one_container() {
    let pod = |spec: &str| errors(&format!("{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{{spec}}}}}"));
    let two = |one: &str, other: &str| {
        format!("containers: [{{name: a, image: i, ports: [{{{one}}}]}}, {{name: b, image: i, ports: [{{{other}}}]}}]")
    };
    let host = "containerPort: 80, hostPort: 80";
    let twice = "spec.containers[1].ports[0].hostPort: 80 is there twice: a port of the host is for one container";
    assert!(pod(&two(host, host)).contains(twice));
    let shared = "containerPort: 80";
    assert!(pod(&format!("hostNetwork: true, {}", two(shared, shared))).contains(twice));
    let parses = |spec: &str| {
        parse(&yaml(&format!("{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{{spec}}}}}")), "n").is_ok()
    };
    assert!(parses(&two(shared, shared)));
    assert!(parses(&two(host, &format!("{host}, hostIP: 127.0.0.1"))));
    assert!(parses(&two(host, &format!("{host}, protocol: UDP"))));
    let other = pod(
        "hostNetwork: true, containers: [{name: a, image: i, ports: [{containerPort: 80, hostPort: 81, hostIP: here}]}]",
    );
    assert!(other.contains("spec.containers[0].ports[0].hostPort: must be the containerPort"), "{other}");
    assert!(other.contains("spec.containers[0].ports[0].hostIP: must be an IP address"), "{other}");
}

#[test]
fn every_wrong_type_is_found() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {a: 1}}
spec:
  hostNetwork: 'yes'
  containers:
  - {name: c, image: i, args: [a, 1], env: [{name: A, value: true}]}
  - {name: 7, image: i}
";
    insta::assert_snapshot!(errors(text));
}

#[test]
fn unknown_fields_are_told_with_their_path() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: web, clustrName: x}
spec:
  replicas: 3
  containers:
  - {name: c, image: i, imagePolicy: Always, resources: {limit: {cpu: 1}}, nothing: null}
status: {phase: Running}
";
    let manifest = parse(&yaml(text), "node").unwrap();
    let paths: Vec<&str> = manifest.warnings.iter().map(|note| note.path.as_str()).collect();
    insta::assert_snapshot!(paths.join("\n"));
}

#[test]
fn a_changed_pod_is_another_pod() {
    let uid = |text: &str, node| parse(&yaml(text), node).unwrap().pods[0].metadata.uid.clone().unwrap();
    let first = uid(POD, "node");
    assert_eq!(first, uid(POD, "node"));
    assert_ne!(first, uid(POD, "other"));
    assert_ne!(first, uid(&POD.replace("image: i", "image: j"), "node"));
    assert_ne!(first, uid(&POD.replace("name: web", "name: web, labels: {a: b}"), "node"));
    assert_eq!(uid(&POD.replace("name: web", "name: web, uid: Mine-1"), "node"), "Mine-1");
    assert!(parse(&yaml(&POD.replace("name: web", "name: web, uid: ../x")), "node").is_err());
    // It must not change between versions of systemk: pods would be stopped by an upgrade.
    insta::assert_snapshot!(first);
}

#[test]
fn lists_config_maps_and_secrets() {
    let text = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: m}, data: {a: b}}
- {apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: YQ==, b: Yg==}, stringData: {b: c}}
---
{apiVersion: v1, kind: PodList, items: [{apiVersion: v1, metadata: {name: p}, spec: {containers: [{name: c, image: i}]}}]}
";
    let manifest = parse(&yaml(text), "node").unwrap();
    assert_eq!((manifest.pods.len(), manifest.config_maps.len()), (1, 1));
    let secret = &manifest.secrets[0];
    assert_eq!(secret.data.as_ref().unwrap()["b"].0, b"c");
    assert_eq!(secret.string_data, None);
    assert!(errors("{apiVersion: v1, kind: ConfigMap, metadata: {name: m}, data: {../a: b}}").contains("data[../a]"));
    let secret = |fields: &str| errors(&format!("{{apiVersion: v1, kind: Secret, metadata: {{name: m}}, {fields}}}"));
    let told = "data.a: is not base64; plain text goes into stringData\n";
    for fields in ["data: {a: '*'}", "data: {a: 4711}", "data: {a: [4711]}"] {
        let text = secret(fields);
        assert!(text.contains("data.a") && text.ends_with("plain text goes into stringData\n"), "{text}");
        assert!(!text.contains("4711"), "{text}");
    }
    assert!(secret("data: {a: '*'}").ends_with(told));
    for fields in ["stringData: {a: 4711}", "stringData: 4711", "data: '4711'"] {
        let text = secret(fields);
        assert!(text.contains("must be") && !text.contains("4711"), "{text}");
    }
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop_oneof!["Pod", "List", "Secret", "ConfigMap", "v1", "web"].prop_map(Value::from),
    ];
    let key = prop_oneof![
        prop_oneof![
            "kind",
            "apiVersion",
            "metadata",
            "name",
            "namespace",
            "spec",
            "containers",
            "volumes",
            "items",
            "data",
            "stringData",
            "image",
            "resources",
            "limits",
            "ports",
            "env",
            "volumeMounts",
            "labels"
        ],
        ".{0,4}",
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn never_panics(document in anything(), spec in anything(), containers in anything()) {
        drop(parse(std::slice::from_ref(&document), "node"));
        for kind in ["Pod", "ConfigMap", "Secret", "List"] {
            drop(parse(&[json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec,
                "data": document, "items": [containers]})], "node"));
        }
        drop(parse(&[json!({"apiVersion": "v1", "kind": "Pod", "metadata": document,
            "spec": {"containers": containers, "volumes": spec}})], "node"));
    }
}

#[test]
fn depth_is_bounded() {
    let mut value = json!(1);
    for _ in 0..200 {
        value = json!([value]);
    }
    assert!(parse(&[json!({"apiVersion": "v1", "kind": "Pod", "metadata": value})], "node").is_err());
}
