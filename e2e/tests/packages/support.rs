//! Pods in a line, and what one waits for most.

use e2e::agent::Node;
use serde_json::Value;

/// A pod of one container `c`; `container` is the rest of it, as YAML in braces is written.
pub(crate) fn pod(name: &str, container: &str) -> String {
    pod_with(name, "", "", container)
}

/// The same with annotations and with more of a spec, each as YAML in braces is written, the spec with a comma at its end.
pub(crate) fn pod_with(name: &str, annotations: &str, spec: &str, container: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, annotations: {{{annotations}}}}}, \
         spec: {{{spec} terminationGracePeriodSeconds: 5, containers: [{{name: c, {container}}}]}}}}\n"
    )
}

/// Writes a pod's manifest, in a file of the pod's name.
pub(crate) fn apply(node: &Node, name: &str, manifest: &str) {
    node.apply(&format!("{name}.yaml"), manifest).unwrap();
}

/// Runs a pod of one container until it is ready.
pub(crate) fn ready(node: &Node, name: &str, container: &str) -> Value {
    apply(node, name, &pod(name, container));
    node.wait_ready(name).unwrap()
}

/// Removes a pod and waits until nothing is left of it.
pub(crate) fn gone(node: &Node, name: &str) {
    node.remove(&format!("{name}.yaml")).unwrap();
    node.wait_gone(name).unwrap();
}

/// Waits until the container waits for that reason with a message that has each of `parts`; gives the message.
pub(crate) fn waits(node: &Node, name: &str, reason: &str, parts: &[&str]) -> String {
    let report = node.wait_waiting(name, reason, parts).unwrap();
    let waiting = &report["pod"]["status"]["containerStatuses"][0]["state"]["waiting"];
    waiting["message"].as_str().unwrap_or_default().to_owned()
}

/// Waits until the pod is refused with a message that has each of `parts`.
pub(crate) fn refused(node: &Node, name: &str, parts: &[&str]) {
    node.wait_status(name, &format!("a refusal {parts:?}"), |status| {
        let message = status["message"].as_str().unwrap_or_default();
        status["phase"] == "Failed" && status["reason"] == "Unsupported" && parts.iter().all(|p| message.contains(p))
    })
    .unwrap();
}

/// Waits until the container has ended with that code and the pod with that phase.
pub(crate) fn ends(node: &Node, name: &str, phase: &str, code: i64) -> Value {
    node.wait_status(name, &format!("{phase} with {code}"), |status| {
        status["phase"] == phase && status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == code
    })
    .unwrap()
}

/// Waits for an event of the pod.
pub(crate) fn event(node: &Node, name: &str, kind: &str, reason: &str, part: &str) {
    let has = |report: &Value| {
        report["events"].as_array().into_iter().flatten().any(|event| {
            event["type"] == kind
                && event["reason"] == reason
                && event["message"].as_str().is_some_and(|message| message.contains(part))
        })
    };
    let found = e2e::eventually::wait_until(part, node.patience, || node.report(name).filter(has).map(drop));
    assert!(found.is_ok(), "no {kind} event {reason} with {part:?}: {:#}", node.report(name).unwrap_or_default());
}

/// Waits for a line of the container `c`.
pub(crate) fn says(node: &Node, name: &str, text: &str) -> String {
    node.wait_log(name, "c", text).unwrap()
}

/// A property of the container's unit.
pub(crate) fn property(node: &Node, name: &str, property: &str) -> String {
    node.property(&node.unit(name, "c").unwrap(), property).unwrap()
}

/// What a shell in the node says; the script must succeed.
pub(crate) fn sh(node: &Node, script: &str) -> String {
    node.sandbox.sh(script).unwrap().trim().to_owned()
}

/// Makes `[(name, function)]` of functions.
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => { &[$((stringify!($name), $name)),+] };
}
pub(crate) use scenarios;
