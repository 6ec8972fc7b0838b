//! The pod's quality-of-service class, and which process the kernel kills first for it (`qos/qos.go`, `qos/policy.go`).

use std::fmt;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use serde::{Deserialize, Serialize};

use super::totals::{Amounts, aggregate, is_sidecar, limits, pod_level, pod_level_requests, requests};
use crate::pod::containers;
use crate::quantity::Quantity;

/// Kubernetes' quality-of-service class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QosClass {
    /// Requests and limits of cpu and memory are set and equal everywhere.
    Guaranteed,
    /// Anything between.
    Burstable,
    /// Nothing is set.
    BestEffort,
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        })
    }
}

/// `ComputePodQOS`: of `spec.resources` where it is set, else of all containers and init containers.
pub fn qos_class(pod: &Pod) -> QosClass {
    if let Some(own) = pod_level(pod) {
        return requirements_qos(&pod_level_requests(pod, own), &limits(Some(own)));
    }
    let mut class = None;
    for container in containers(pod) {
        let resources = container.resources.as_ref();
        let of_container = requirements_qos(&requests(resources), &limits(resources));
        match class {
            None => class = Some(of_container),
            Some(before) if before != of_container => return QosClass::Burstable,
            Some(_) => {}
        }
    }
    class.unwrap_or(QosClass::BestEffort)
}

/// `requirementsQOS`.
fn requirements_qos(requests: &Amounts, limits: &Amounts) -> QosClass {
    let of = |name: &str| {
        let [request, limit] = [requests, limits].map(|list| list.get(name).copied().unwrap_or(Quantity::ZERO));
        match (request == limit, request.is_zero()) {
            (false, _) => QosClass::Burstable,
            (true, true) => QosClass::BestEffort,
            (true, false) => QosClass::Guaranteed,
        }
    };
    let (cpu, memory) = (of("cpu"), of("memory"));
    if cpu == memory { cpu } else { QosClass::Burstable }
}

/// `GetContainerOOMScoreAdjust`.
pub(super) fn oom_score_adjust(pod: &Pod, container: &Container, memory_capacity: i64) -> i32 {
    const GUARANTEED: i64 = -997;
    let Some(spec) = &pod.spec else { return 1000 };
    if spec.priority_class_name.as_deref() == Some("system-node-critical") {
        return GUARANTEED as i32;
    }
    match qos_class(pod) {
        QosClass::Guaranteed => return GUARANTEED as i32,
        QosClass::BestEffort => return 1000,
        QosClass::Burstable => {}
    }
    let request = |container: &Container| memory_request(container).max(0);
    let unclaimed = unclaimed_memory_per_container(pod, spec);
    let capacity = i128::from(memory_capacity.max(1));
    let score = |memory: i64| 1000 - 1000 * (i128::from(memory) + i128::from(unclaimed)) / capacity;
    let mut adjust = score(request(container));
    if is_sidecar(container) {
        // A sidecar is not to be killed before the containers that it serves.
        let least = spec.containers.iter().map(request).min().unwrap_or(0);
        adjust = adjust.min(score(least));
    }
    // Above every guaranteed pod and below every best-effort one.
    adjust.clamp(i128::from(1000 + GUARANTEED), 999) as i32
}

/// What `spec.resources` requests beyond the containers' requests, in equal parts.
fn unclaimed_memory_per_container(pod: &Pod, spec: &PodSpec) -> i64 {
    let Some(own) = pod_level(pod) else { return 0 };
    let memory = |amounts: &Amounts| amounts.get("memory").map_or(0, |amount| amount.value());
    let of_containers = memory(&aggregate(spec, requests));
    let rest = memory(&pod_level_requests(pod, own)).saturating_sub(of_containers).max(0);
    let count = spec.containers.len() + spec.init_containers.as_ref().map_or(0, Vec::len);
    rest / (count.max(1) as i64)
}

fn memory_request(container: &Container) -> i64 {
    requests(container.resources.as_ref()).get("memory").map_or(0, |amount| amount.value())
}
