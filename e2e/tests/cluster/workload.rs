//! What the controllers make pods of, and the pods.

use e2e::agent::SOON;
use e2e::eventually::wait_until;
use e2e::member::Member;
use serde_json::{Value, json};

/// What the scheduler needs to put a pod on these nodes and nowhere else.
pub(super) fn on_nodes(members: &[&Member], mut spec: Value) -> Value {
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    spec["tolerations"] = json!([{"key": "virtual-kubelet.io/provider", "operator": "Exists"}]);
    spec["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": names}]}
    ]}}});
    spec["terminationGracePeriodSeconds"] = json!(2);
    spec
}

/// A Deployment, a DaemonSet or a StatefulSet of pods with the label `app: NAME`; `more` is the rest of its spec.
pub(super) fn workload(kind: &str, name: &str, pod: Value, more: Value) -> String {
    let labels = json!({"app": name});
    let mut spec =
        json!({"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
}

/// Creates or changes objects in the namespace of a member.
pub(super) fn apply(member: &Member, manifest: &str) {
    let arguments = ["apply", "-n", &member.name, "-f", "-"];
    member.kubectl().output_with(SOON, &arguments, manifest).unwrap().ok().unwrap();
}

/// What kubectl says of that namespace.
pub(super) fn kubectl(member: &Member, arguments: &[&str]) -> String {
    member.kubectl().run(&[arguments, &["-n", &member.name][..]].concat()).unwrap()
}

/// The pods of an app.
pub(super) fn pods(member: &Member, app: &str) -> Vec<Value> {
    let list = member.kubectl().find(&["pods", "-n", &member.name, "-l", &format!("app={app}")]).unwrap();
    list.and_then(|list| list["items"].as_array().cloned()).unwrap_or_default()
}

fn running(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
}

/// Waits until all pods of an app run and are as `is` wants them; gives them.
pub(super) fn wait_all(member: &Member, app: &str, count: usize, is: impl Fn(&Value) -> bool) -> Vec<Value> {
    let found = wait_until(&format!("{count} pods of {app}"), member.patience.max(2 * SOON), || {
        let all = pods(member, app);
        (all.len() == count && all.iter().all(|pod| running(pod) && is(pod))).then_some(all)
    });
    found.unwrap_or_else(|error| panic!("{error}: {:#?}", pods(member, app)))
}

/// Waits until `kubectl logs` shows this, and no more, of a pod, deployment or job.
pub(super) fn wait_log(member: &Member, of: &[&str], log: &str) {
    let shown = || member.kubectl().run(&[&["logs", "-n", &member.name], of].concat()).unwrap_or_default();
    wait_until(&format!("the log of {of:?}"), SOON, || (shown() == log).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {:?}", shown()));
}
