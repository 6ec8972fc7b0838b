use k8s_openapi::ByteString;
use proptest::prelude::*;

use super::*;
use crate::blocked::Blocked;
use crate::fields::fixtures::{facts, pod};
use crate::note::Refusal;

fn gathered() -> Gathered {
    let map = |data: &[(&str, &str)]| ConfigMap {
        data: Some(data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()),
        ..ConfigMap::default()
    };
    let secret = |data: &[(&str, &[u8])]| Secret {
        data: Some(data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.to_vec()))).collect()),
        ..Secret::default()
    };
    Gathered {
        config_maps: [
            ("cm".to_owned(), map(&[("A", "1"), ("with-dash.dot", "2"), ("nul", "x\0y")])),
            ("odd".to_owned(), map(&[("a=b", "1"), ("ok", "2"), ("", "3")])),
        ]
        .into(),
        secrets: [("s".to_owned(), secret(&[("A", b"s3cret"), ("bin", b"\xff\xfe"), ("B", b"two")]))].into(),
        ..Gathered::default()
    }
}

/// The outcome for a container whose YAML is `fields`.
fn outcome(fields: &str) -> EnvOutcome {
    let indented = fields.replace('\n', "\n    ");
    let pod = pod(&format!("metadata: {{name: p, namespace: ns}}\nspec:\n  containers:\n  - name: c\n    {indented}"));
    let gathered = gathered();
    let facts = facts();
    environment(EnvInput {
        pod: &pod,
        container: &pod.spec.as_ref().unwrap().containers[0],
        path: "spec.containers[0]".to_owned(),
        gathered: &gathered,
        facts: &facts,
        defaults: vec![EnvVar::new("PATH", "/usr/bin"), EnvVar::new("HOME", "/root")],
    })
}

/// `NAME=value` of everything after the defaults and the node's own three.
fn own(fields: &str) -> Vec<String> {
    let vars = outcome(fields).unwrap().vars;
    vars.iter().skip(5).map(|var| format!("{}={}", var.name, var.value)).collect()
}

fn refusals(fields: &str) -> Vec<Refusal> {
    match outcome(fields) {
        Err(Unplannable::Refused(refusals)) => refusals,
        other => panic!("{other:?}"),
    }
}

fn blocked(fields: &str) -> String {
    match outcome(fields) {
        Err(Unplannable::Blocked(Blocked { reason, message })) => {
            assert_eq!(reason, "CreateContainerConfigError");
            message
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults_and_the_node_come_first_and_can_be_overridden_in_place() {
    let all = |fields: &str| -> Vec<String> {
        outcome(fields).unwrap().vars.iter().map(|var| format!("{}={}", var.name, var.value)).collect()
    };
    let expected = [
        "PATH=/usr/bin",
        "HOME=/root",
        "HOSTNAME=node1",
        "SYSTEMK_NODE_INTERNAL_IP=10.0.0.5",
        "SYSTEMK_NODE_EXTERNAL_IP=192.0.2.7",
    ];
    assert_eq!(all("image: x"), expected);
    let overridden = all("env: [{name: HOME, value: /srv}, {name: URL, value: '$(SYSTEMK_NODE_EXTERNAL_IP):$(HOME)'}]");
    assert_eq!(overridden[1], "HOME=/srv");
    assert_eq!(overridden[5], "URL=192.0.2.7:/srv");
}

#[test]
fn env_from_then_env_each_seeing_what_is_before_it() {
    assert_eq!(
        own(
            "envFrom: [{secretRef: {name: s}, prefix: 'S_'}, {configMapRef: {name: odd}}, {configMapRef: {name: none, optional: true}}]\n\
             env: [{name: early, value: '$(late) $$(ok)'}, {name: late, value: '$(ok)$(S_B)'}, {name: ok, value: new}, {name: '1 odd-name', value: ''}]"
        ),
        ["S_A=s3cret", "S_B=two", "ok=new", "early=$(late) $(ok)", "late=2two", "1 odd-name="]
    );
}

#[test]
fn keys_that_cannot_be_variables_leave_one_note_for_each_source() {
    let outcome =
        outcome("envFrom: [{configMapRef: {name: odd}}, {secretRef: {name: s}}, {configMapRef: {name: cm}}]").unwrap();
    let notes: Vec<String> = outcome.notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        [
            "spec.containers[0].envFrom[0].configMapRef: keys that cannot be environment variables are left out: \
             \"\" (is not a variable's name), \"a=b\" (is not a variable's name) (warning)",
            "spec.containers[0].envFrom[1].secretRef: keys that cannot be environment variables are left out: \
             \"bin\" (its value is not UTF-8) (warning)",
            "spec.containers[0].envFrom[2].configMapRef: keys that cannot be environment variables are left out: \
             \"nul\" (its value holds a NUL byte) (warning)",
        ]
    );
}

#[test]
fn references() {
    assert_eq!(
        own("env:\n\
             - {name: A, valueFrom: {configMapKeyRef: {name: cm, key: A}}}\n\
             - {name: B, valueFrom: {secretKeyRef: {name: s, key: A}}}\n\
             - {name: C, valueFrom: {configMapKeyRef: {name: none, key: A, optional: true}}}\n\
             - {name: D, valueFrom: {secretKeyRef: {name: s, key: none, optional: true}}}\n\
             - {name: E, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}\n\
             - {name: F, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}\n\
             - {name: G, value: '$(A)$(C)'}"),
        ["A=1", "B=s3cret", "E=ns", "F=4", "G=1$(C)"]
    );
}

#[test]
fn what_is_missing_blocks_with_the_kubelets_words() {
    for (fields, message) in [
        ("envFrom: [{configMapRef: {name: none}}]", "configmap \"none\" not found"),
        ("envFrom: [{secretRef: {name: none, optional: false}}]", "secret \"none\" not found"),
        ("env: [{name: A, valueFrom: {configMapKeyRef: {name: none, key: k}}}]", "configmap \"none\" not found"),
        (
            "env: [{name: A, valueFrom: {configMapKeyRef: {name: cm, key: k}}}]",
            "couldn't find key k in ConfigMap ns/cm",
        ),
        ("env: [{name: A, valueFrom: {secretKeyRef: {name: none, key: k}}}]", "secret \"none\" not found"),
        ("env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]", "couldn't find key k in Secret ns/s"),
        ("env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: bin}}}]", "A: key bin of Secret s is not UTF-8"),
        (
            "env: [{name: A, valueFrom: {configMapKeyRef: {name: cm, key: nul}}}]",
            "A: key nul of ConfigMap cm: its value holds a NUL byte (3 bytes)",
        ),
    ] {
        assert_eq!(blocked(fields), message, "{fields}");
    }
}

#[test]
fn what_the_pod_says_wrongly_is_refused_at_its_path_all_of_it() {
    let fields = "envFrom: [{}, {configMapRef: {name: cm}, secretRef: {name: s}}, {prefix: 'a=', secretRef: {name: none}}]\n\
        env:\n\
        - {name: '', value: x}\n\
        - {name: 'a=b', value: x}\n\
        - {name: N, value: \"a\\0b\"}\n\
        - {name: F, valueFrom: {fileKeyRef: {volumeName: v, path: p, key: k}}}\n\
        - {name: G, valueFrom: {}}\n\
        - {name: H, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n\
        - {name: I, valueFrom: {fieldRef: {fieldPath: status.phase}}}\n\
        - {name: J, valueFrom: {resourceFieldRef: {resource: limits.gpu}}}\n\
        - {name: É, value: x}";
    let paths: Vec<String> = refusals(fields).into_iter().map(|refusal| refusal.path).collect();
    let expected = [
        "envFrom[0]",
        "envFrom[1]",
        "envFrom[2].prefix",
        "env[0].name",
        "env[1].name",
        "env[2].value",
        "env[3].valueFrom.fileKeyRef",
        "env[4].valueFrom",
        "env[5].valueFrom",
        "env[6].valueFrom.fieldRef.fieldPath",
        "env[7].valueFrom.resourceFieldRef",
        "env[8].name",
    ];
    assert_eq!(paths, expected.map(|path| format!("spec.containers[0].{path}")));
}

#[test]
fn too_large_is_refused_with_the_size_and_never_the_value() {
    let largest = "x".repeat(MAX_VARIABLE_BYTES - 3);
    assert_eq!(own(&format!("env: [{{name: A, value: {largest}}}]")).len(), 1);
    let [refusal] = <[Refusal; 1]>::try_from(refusals(&format!("env: [{{name: A, value: {largest}x}}]"))).unwrap();
    assert_eq!(refusal.text, "A: NAME=value is larger than 128 KiB (131070 bytes)");
    let entries: Vec<String> =
        (0..17).map(|index| format!("{{name: A{index:02}, value: {}}}", &largest[2..])).collect();
    let [refusal] = <[Refusal; 1]>::try_from(refusals(&format!("env: [{}]", entries.join(", ")))).unwrap();
    assert!(refusal.path == "spec.containers[0].env" && !refusal.text.contains("xx"), "{refusal}");
    let shown = format!("{:?}", outcome("env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: A}}}]"));
    assert!(!shown.contains("s3cret"), "{shown}");
}

proptest! {
    #[test]
    fn every_name_is_set_once_and_nothing_panics(
        entries in prop::collection::vec((any::<String>(), any::<String>()), 0..8),
        prefix in any::<Option<String>>(),
    ) {
        let container = Container {
            env: Some(
                entries
                    .into_iter()
                    .map(|(name, value)| PodEnvVar { name, value: Some(value), value_from: None })
                    .collect(),
            ),
            env_from: Some(vec![EnvFromSource {
                prefix,
                config_map_ref: Some(k8s_openapi::api::core::v1::ConfigMapEnvSource {
                    name: "odd".to_owned(),
                    optional: None,
                }),
                secret_ref: None,
            }]),
            ..Container::default()
        };
        let (pod, gathered, facts) = (Pod::default(), gathered(), facts());
        let input = EnvInput {
            pod: &pod,
            container: &container,
            path: "c".to_owned(),
            gathered: &gathered,
            facts: &facts,
            defaults: Vec::new(),
        };
        if let Ok(environment) = environment(input) {
            let names: std::collections::BTreeSet<&str> =
                environment.vars.iter().map(|var| var.name.as_str()).collect();
            prop_assert_eq!(names.len(), environment.vars.len());
            prop_assert!(environment.vars.iter().all(|var| unusable(&var.name, &var.value).is_none()));
        }
    }
}

#[test]
fn too_many_services_hold_the_pod_up_and_do_not_refuse_it() {
    let address =
        crate::inputs::ServiceAddress { cluster_ip: "10.0.0.1".to_owned(), ports: vec![Default::default(); 1] };
    let services = (0..9000).map(|number| (format!("a-service-of-the-namespace-{number}"), address.clone()));
    let services = services.collect::<BTreeMap<_, _>>().into();
    let cluster = crate::inputs::ClusterFacts { services, ..Default::default() };
    let gathered = Gathered { cluster: Some(cluster), ..Gathered::default() };
    let facts = facts();
    let outcome = |links: bool| {
        let pod = pod(&format!(
            "{{metadata: {{name: p}}, spec: {{enableServiceLinks: {links}, containers: [{{name: c}}]}}}}"
        ));
        let (container, path) = (&pod.spec.as_ref().unwrap().containers[0], String::new());
        environment(EnvInput { pod: &pod, container, path, gathered: &gathered, facts: &facts, defaults: Vec::new() })
    };
    assert_eq!(outcome(false).unwrap().vars.iter().filter(|var| var.name.starts_with("KUBERNETES_")).count(), 8);
    match outcome(true) {
        Err(Unplannable::Blocked(Blocked { reason, message })) => {
            assert_eq!(reason, CREATE_CONTAINER_CONFIG_ERROR);
            assert!(message.contains("enableServiceLinks: false"), "{message}");
        }
        other => panic!("{:?}", other.map(|environment| environment.vars.len())),
    }
}
