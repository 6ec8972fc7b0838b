//! The patch that makes the API server say what this node says of a pod, and nothing of what others say of it.
//!
//! Upstream: `pkg/kubelet/status/status_manager.go` (mergePodStatus), `pkg/util/pod/pod.go` (PatchPodStatus): a strategic
//! merge patch of `pods/status` with the uid as precondition.

use k8s_openapi::api::core::v1::{ContainerState, PodStatus};
use serde_json::{Map, Value, json};

use super::conditions::is_own;
use super::phase::Phase;

/// What a node writes of a status beside the conditions. `qosClass` is the API server's own.
const FIELDS: [&str; 10] = [
    "phase",
    "reason",
    "message",
    "startTime",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "initContainerStatuses",
    "containerStatuses",
];

/// Lists that a strategic merge patch would merge with what is there.
const MERGED: [&str; 2] = ["hostIPs", "podIPs"];

/// The strategic merge patch that turns `known`, the API server's status, into `ours`; None: it says all of it already.
///
/// A terminal phase is never taken back, and with it stay its reason and message: who said that the pod has failed (an
/// eviction, a taint) may have been somebody else. Conditions that are not ours are not in the patch, so they stay.
pub fn patch(uid: &str, known: &PodStatus, ours: &PodStatus) -> Option<Value> {
    let (known_fields, our_fields) = (object(&told(known))?, object(&told(ours))?);
    let mut changed = Map::new();
    let over = known.phase.as_deref().and_then(Phase::parse).filter(|p| p.is_terminal());
    for field in FIELDS {
        if over.is_some() && matches!(field, "phase" | "reason" | "message") {
            continue;
        }
        match (known_fields.get(field), our_fields.get(field)) {
            (known, ours) if known == ours => {}
            (Some(_), None) => {
                changed.insert(field.to_owned(), Value::Null);
            }
            (Some(_), Some(Value::Array(ours))) if MERGED.contains(&field) => {
                let replaced = [json!({"$patch": "replace"})].into_iter().chain(ours.iter().cloned());
                changed.insert(field.to_owned(), replaced.collect());
            }
            (_, Some(ours)) => {
                changed.insert(field.to_owned(), ours.clone());
            }
            (None, None) => {}
        }
    }
    let conditions = conditions(known, ours);
    if !conditions.is_empty() {
        changed.insert("conditions".to_owned(), Value::Array(conditions));
    }
    if changed.is_empty() && known.observed_generation >= ours.observed_generation {
        return None;
    }
    if let Some(generation) = ours.observed_generation {
        changed.insert("observedGeneration".to_owned(), json!(generation));
    }
    Some(json!({"metadata": {"uid": uid}, "status": changed}))
}

/// The API server writes a state that nothing is known of as `{}`, and means the same as without it.
fn told(status: &PodStatus) -> PodStatus {
    let mut status = status.clone();
    let kinds = [&mut status.init_container_statuses, &mut status.container_statuses];
    for container in kinds.into_iter().flatten().flatten() {
        for state in [&mut container.state, &mut container.last_state] {
            state.take_if(|state| *state == ContainerState::default());
        }
    }
    status
}

fn object(status: &PodStatus) -> Option<Map<String, Value>> {
    match serde_json::to_value(status).ok()? {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}

/// Those of ours that say something new; they are merged by type.
fn conditions(known: &PodStatus, ours: &PodStatus) -> Vec<Value> {
    let known = known.conditions.as_deref().unwrap_or_default();
    let ours = ours.conditions.iter().flatten().filter(|c| is_own(c));
    let new = ours.filter(|c| !known.contains(c));
    let value = |condition| {
        let mut value = serde_json::to_value(condition).ok()?;
        let fields = value.as_object_mut()?;
        // What is not said any more would stay in a merge.
        for gone in ["reason", "message"] {
            fields.entry(gone).or_insert(Value::Null);
        }
        Some(value)
    };
    new.filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, PodCondition, PodIP};

    use super::*;

    fn condition(kind: &str, status: &str) -> PodCondition {
        PodCondition { type_: kind.into(), status: status.into(), ..PodCondition::default() }
    }

    #[test]
    fn a_state_of_which_nothing_is_known_is_nothing_new() {
        let status = |last_state| {
            let main = ContainerStatus { name: "main".into(), last_state, ..ContainerStatus::default() };
            PodStatus { container_statuses: Some(vec![main]), ..PodStatus::default() }
        };
        // As the API server has it.
        let known = status(Some(ContainerState::default()));
        assert_eq!(patch("u", &known, &status(None)), None);
        let ended =
            ContainerState { terminated: Some(ContainerStateTerminated::default()), ..ContainerState::default() };
        let news = patch("u", &known, &status(Some(ended))).unwrap();
        assert!(news["status"]["containerStatuses"][0]["lastState"]["terminated"].is_object(), "{news}");
    }

    fn running() -> PodStatus {
        PodStatus {
            phase: Some("Running".into()),
            pod_ips: Some(vec![PodIP { ip: "10.0.0.1".into() }]),
            conditions: Some(vec![condition("x.io/gate", "True"), condition("Ready", "True")]),
            container_statuses: Some(vec![ContainerStatus { name: "a".into(), ..ContainerStatus::default() }]),
            observed_generation: Some(2),
            ..PodStatus::default()
        }
    }

    #[test]
    fn nothing_new_is_no_patch() {
        assert_eq!(patch("u", &running(), &running()), None);
        let foreign = PodStatus { qos_class: Some("Guaranteed".into()), ..running() };
        assert_eq!(patch("u", &foreign, &running()), None, "what others own stays");
    }

    #[test]
    fn what_differs_is_all_that_is_in_it() {
        let pending = PodStatus {
            phase: Some("Pending".into()),
            message: Some("waits".into()),
            conditions: Some(vec![condition("Ready", "False")]),
            observed_generation: Some(1),
            ..running()
        };
        let expected = json!({"metadata": {"uid": "u"}, "status": {
            "phase": "Running",
            "message": null,
            "observedGeneration": 2,
            "conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null}],
        }});
        assert_eq!(patch("u", &pending, &running()), Some(expected));
        let generation = PodStatus { observed_generation: Some(1), ..running() };
        let expected = json!({"metadata": {"uid": "u"}, "status": {"observedGeneration": 2}});
        assert_eq!(patch("u", &generation, &running()), Some(expected));
    }

    #[test]
    fn an_address_is_replaced_where_a_merge_would_add_it() {
        let moved = PodStatus { pod_ips: Some(vec![PodIP { ip: "10.0.0.9".into() }]), ..running() };
        let patch_of = |known: &PodStatus| patch("u", known, &running()).map(|p| p["status"]["podIPs"].clone());
        assert_eq!(patch_of(&moved), Some(json!([{"$patch": "replace"}, {"ip": "10.0.0.1"}])));
        let unset = PodStatus { pod_ips: None, ..running() };
        assert_eq!(patch_of(&unset), Some(json!([{"ip": "10.0.0.1"}])));
    }

    #[test]
    fn a_pod_that_is_over_stays_over() {
        let evicted = PodStatus { phase: Some("Failed".into()), reason: Some("Evicted".into()), ..running() };
        assert_eq!(patch("u", &evicted, &running()), None);
    }
}
