use proptest::prelude::*;

use super::*;
use crate::fields::fixtures::{facts, pod};

fn field(pod: &Pod, place: FieldUse, path: &str) -> Result<String, String> {
    let selector = ObjectFieldSelector { api_version: None, field_path: path.to_owned() };
    field_value(pod, &facts(), place, &selector)
}

const POD: &str = r#"
metadata:
  name: web
  uid: 1-2
  labels: { app: web, a.b/c: "x" }
  annotations: { Example.com/Note: "two\nlines \"q\"", z: é }
spec:
  serviceAccountName: robot
  containers:
  - name: a
    resources: { limits: { cpu: 1500m, memory: 1Gi, ephemeral-storage: 3G }, requests: { memory: 1M } }
  - { name: b }
  initContainers:
  - name: first
    resources: { requests: { cpu: 100m } }
"#;

#[test]
fn fields_of_a_variable() {
    let mut pod = pod(POD);
    for (path, expected) in [
        ("metadata.name", "web"),
        ("metadata.namespace", "default"),
        ("metadata.uid", "1-2"),
        ("metadata.labels['app']", "web"),
        ("metadata.labels['a.b/c']", "x"),
        ("metadata.labels['missing']", ""),
        ("metadata.annotations['Example.com/Note']", "two\nlines \"q\""),
        ("spec.nodeName", "node1"),
        ("spec.serviceAccountName", "robot"),
        ("status.podIP", "192.0.2.7"),
        ("status.podIPs", "192.0.2.7,2001:db8::7"),
        ("status.hostIP", "10.0.0.5"),
        ("status.hostIPs", "10.0.0.5,10.0.0.6"),
    ] {
        assert_eq!(field(&pod, FieldUse::Variable, path).as_deref(), Ok(expected), "{path}");
    }
    if let Some(spec) = &mut pod.spec {
        spec.host_network = Some(true);
    }
    assert_eq!(field(&pod, FieldUse::Variable, "status.podIP").as_deref(), Ok("10.0.0.5"));
}

#[test]
fn fields_that_are_not_offered() {
    let pod = pod(POD);
    for (place, path) in [
        (FieldUse::Variable, "metadata.labels"),
        (FieldUse::Variable, "spec.containers"),
        (FieldUse::Variable, "metadata.labels['']"),
        (FieldUse::Variable, "metadata.labels['a b']"),
        (FieldUse::Variable, "spec.x['a']"),
        (FieldUse::Variable, ""),
        (FieldUse::File, "status.podIP"),
        (FieldUse::File, "spec.nodeName"),
    ] {
        assert!(field(&pod, place, path).is_err(), "{path}");
    }
    let other = ObjectFieldSelector { api_version: Some("v2".to_owned()), field_path: "metadata.name".to_owned() };
    assert_eq!(field_value(&pod, &facts(), FieldUse::Variable, &other), Err("unsupported pod version: v2".to_owned()));
}

#[test]
fn maps_are_sorted_lines_with_gos_quoting() {
    let pod = pod(POD);
    assert_eq!(field(&pod, FieldUse::File, "metadata.labels").as_deref(), Ok("a.b/c=\"x\"\napp=\"web\""));
    assert_eq!(
        field(&pod, FieldUse::File, "metadata.annotations").as_deref(),
        Ok("Example.com/Note=\"two\\nlines \\\"q\\\"\"\nz=\"é\"")
    );
    // Printed by Go 1.26's strconv.Quote.
    for (text, quoted) in [
        ("\x07\x08\x0c\n\r\t\x0b\\\"'", r#""\a\b\f\n\r\t\v\\\"'""#),
        ("\x00\x1b\x7f ~", r#""\x00\x1b\x7f ~""#),
        ("\u{80}\u{a0}\u{ad}\u{200b}\u{feff}\u{e000}", r#""\u0080\u00a0\u00ad\u200b\ufeff\ue000""#),
        ("\u{301}é漢😀", "\"\u{301}é漢😀\""),
        ("\u{e0001}\u{10ffff}", r#""\U000e0001\U0010ffff""#),
    ] {
        assert_eq!(quote(text), quoted);
    }
}

#[test]
fn resources_round_up_and_fall_back_to_the_node() {
    let pod = pod(POD);
    let containers = &pod.spec.as_ref().unwrap().containers;
    let value = |own: usize, container: &str, resource: &str, divisor: &str| {
        let selector = ResourceFieldSelector {
            container_name: (!container.is_empty()).then(|| container.to_owned()),
            divisor: (!divisor.is_empty())
                .then(|| k8s_openapi::apimachinery::pkg::api::resource::Quantity(divisor.to_owned())),
            resource: resource.to_owned(),
        };
        resource_value(&pod, &facts(), containers.get(own), &selector)
    };
    for (own, container, resource, divisor, expected) in [
        (0, "", "limits.cpu", "", "2"),
        (0, "", "limits.cpu", "0", "2"),
        (0, "", "limits.cpu", "1m", "1500"),
        (0, "", "limits.memory", "1Mi", "1024"),
        (0, "", "limits.ephemeral-storage", "1G", "3"),
        (0, "", "requests.memory", "1k", "1000"),
        (0, "", "requests.cpu", "1m", "1500"),
        (1, "", "limits.cpu", "", "4"),
        (1, "", "limits.memory", "1Gi", "8"),
        (1, "", "requests.cpu", "1m", "0"),
        (1, "a", "limits.cpu", "1m", "1500"),
        (9, "first", "requests.cpu", "1m", "100"),
    ] {
        assert_eq!(value(own, container, resource, divisor).as_deref(), Ok(expected), "{container} {resource}");
    }
    for (own, container, resource, divisor) in [
        (0, "nobody", "limits.cpu", ""),
        (9, "", "limits.cpu", ""),
        (0, "", "limits.hugepages-2Mi", ""),
        (0, "", "cpu", ""),
        (0, "", "limits.cpu", "1k"),
        (0, "", "limits.memory", "3"),
        (0, "", "limits.memory", "-1"),
        (0, "", "limits.memory", "x"),
    ] {
        assert!(value(own, container, resource, divisor).is_err(), "{resource} {divisor}");
    }
}

proptest! {
    #[test]
    fn no_path_panics(path in "\\PC*", key in "(metadata\\.(labels|annotations))?\\[?'?\\PC*'?\\]?", text in any::<String>()) {
        let pod = pod(POD);
        for path in [path, key] {
            for place in [FieldUse::Variable, FieldUse::File] {
                let known = ["metadata.", "spec.", "status."].iter().any(|start| path.starts_with(start));
                prop_assert!(field(&pod, place, &path).is_err() || known);
            }
        }
        let quoted = quote(&text);
        prop_assert!(!quoted.contains('\n') && quoted.starts_with('"') && quoted.ends_with('"'));
    }
}
