//! Requests and limits as unit settings, and the pod's quality-of-service class, as the kubelet computes them
//! (`kuberuntime_container_linux.go`, `cm/helpers_linux.go`, `qos/policy.go`, component-helpers' `resource/helpers.go`).
//!
//! A missing request is the limit: the API server fills that in, a manifest that never saw one does not have it. Nothing
//! here looks at what the node has left; that is admission's.

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::inputs::NodeFacts;
use crate::note::{Note, Refusal};
use crate::pod::containers;
use crate::quantity::Quantity;

mod checks;
mod class;
mod totals;

use class::oom_score_adjust;
pub use class::{QosClass, qos_class};
use totals::{Amounts, limits, pod_level, requests};
pub use totals::{PodTotals, pod_totals};

/// Settings of one cgroup. What is None is not written, so systemd's default holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupLimits {
    /// `CPUWeight=`, 1 ..= 10000.
    pub cpu_weight: Option<u64>,
    /// `CPUQuotaPerSecUSec=` (`CPUQuota=` in percent is this / 10,000), with systemd's default period of 100 ms.
    pub cpu_quota_us_per_s: Option<u64>,
    /// `MemoryMax=` in bytes.
    pub memory_max: Option<u64>,
    /// `MemorySwapMax=` in bytes: 0 wherever memory is limited, as with the kubelet's `NoSwap`.
    pub memory_swap_max: Option<u64>,
    /// `TasksMax=`; the kubelet's `podPidsLimit` has no field in a pod, so nothing sets it yet.
    pub tasks_max: Option<u64>,
}

/// One container's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerResources {
    /// The unit's cgroup.
    pub limits: CgroupLimits,
    /// `OOMScoreAdjust=`; PID 1 applies it, so a negative one needs no capability.
    pub oom_score_adjust: i32,
    /// What is not enforced, and what was left out.
    pub notes: Vec<Note>,
    /// Why the pod cannot run.
    pub refusals: Vec<Refusal>,
}

/// The pod slice's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodResources {
    /// The pod's class: which slice its own stands below.
    pub qos: QosClass,
    /// The slice's cgroup.
    pub limits: CgroupLimits,
    /// What is not enforced.
    pub notes: Vec<Note>,
    /// Why the pod cannot run: `spec.resources` only. A container's own reasons are in its [`ContainerResources`].
    pub refusals: Vec<Refusal>,
}

/// One container's settings. `path` is its field path: `spec.containers[0]`.
pub fn container_resources(pod: &Pod, container: &Container, path: &str, facts: &NodeFacts) -> ContainerResources {
    let mut checked = checks::Checked::default();
    if let Some(resources) = &container.resources {
        checked.requirements(resources, &format!("{path}.resources"), checks::Level::Container);
    }
    if container.resize_policy.as_ref().is_some_and(|policies| !policies.is_empty()) {
        checked.ignored(format!("{path}.resizePolicy"), "a running container is not resized yet");
    }
    let requests = requests(container.resources.as_ref());
    let limits = limits(container.resources.as_ref());
    let of_pod = self::limits(pod_level(pod));
    // A container without a limit of its own has the pod's (`getCPULimit`, `getMemoryLimit`).
    let limit = |name: &str| amount(&limits, name).or_else(|| amount(&of_pod, name));
    let shares = requests.get("cpu").copied().or_else(|| limit("cpu")).unwrap_or(Quantity::ZERO);
    let mut settings = CgroupLimits {
        cpu_weight: Some(cpu_weight(shares)),
        cpu_quota_us_per_s: limit("cpu").map(cpu_quota),
        memory_max: limit("memory").map(bytes),
        ..CgroupLimits::default()
    };
    checked.drop_unenforceable(&mut settings, &requests, &format!("{path}.resources"), facts);
    ContainerResources {
        limits: settings,
        oom_score_adjust: oom_score_adjust(pod, container, facts.memory_bytes),
        notes: checked.notes,
        refusals: checked.refusals,
    }
}

/// The pod slice's settings: `ResourceConfigForPod`.
pub fn pod_resources(pod: &Pod, facts: &NodeFacts) -> PodResources {
    let mut checked = checks::Checked::default();
    let own = pod_level(pod);
    if let Some(resources) = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref()) {
        checked.requirements(resources, "spec.resources", checks::Level::Pod);
    }
    checked.overhead(pod.spec.as_ref().and_then(|spec| spec.overhead.as_ref()));
    let qos = qos_class(pod);
    let totals = pod_totals(pod);
    let every_container_limits =
        |name: &str| containers(pod).all(|container| amount(&limits(container.resources.as_ref()), name).is_some());
    let own_limits = limits(own);
    let limit = |name: &str| {
        let declared = match qos {
            QosClass::Guaranteed => true,
            QosClass::Burstable => amount(&own_limits, name).is_some() || every_container_limits(name),
            QosClass::BestEffort => false,
        };
        amount(&totals.limits, name).filter(|_| declared)
    };
    let shares = match qos {
        QosClass::Guaranteed | QosClass::Burstable => totals.requests.get("cpu").copied().unwrap_or(Quantity::ZERO),
        QosClass::BestEffort => Quantity::ZERO,
    };
    let mut settings = CgroupLimits {
        cpu_weight: Some(cpu_weight(shares)),
        cpu_quota_us_per_s: limit("cpu").map(cpu_quota),
        memory_max: limit("memory").map(bytes),
        ..CgroupLimits::default()
    };
    // Each container says so itself where the limits are the containers'.
    let mut own_notes = checks::Checked::default();
    own_notes.drop_unenforceable(&mut settings, &requests(own), "spec.resources", facts);
    if own.is_some() {
        checked.notes.append(&mut own_notes.notes);
    }
    PodResources { qos, limits: settings, notes: checked.notes, refusals: checked.refusals }
}

/// A limit of 0 is none.
fn amount(amounts: &Amounts, name: &str) -> Option<Quantity> {
    amounts.get(name).copied().filter(|amount| !amount.is_zero() && !amount.is_negative())
}

/// `MilliCPUToShares`, then the kernel's range of weights.
fn cpu_weight(request: Quantity) -> u64 {
    let milli = u64::try_from(request.milli_value()).unwrap_or(0);
    let shares = (milli.saturating_mul(1024) / 1000).clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

/// `MilliCPUToQuota`: at least 1 ms of each period of 100 ms.
fn cpu_quota(limit: Quantity) -> u64 {
    u64::try_from(limit.milli_value()).unwrap_or(0).saturating_mul(1000).max(10_000)
}

fn bytes(limit: Quantity) -> u64 {
    u64::try_from(limit.value()).unwrap_or(0)
}

/// A container's limit for the downward API.
pub(crate) fn container_limit(container: &Container, name: &str) -> Result<Option<Quantity>, String> {
    let list = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    list.and_then(|list| list.get(name)).map(|limit| Quantity::from_api(limit).map_err(|e| e.to_string())).transpose()
}

/// A container's request for the downward API; its limit where it has none.
pub(crate) fn container_request(container: &Container, name: &str) -> Result<Option<Quantity>, String> {
    let list = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    match list.and_then(|list| list.get(name)) {
        Some(request) => Quantity::from_api(request).map(Some).map_err(|error| error.to_string()),
        None => container_limit(container, name),
    }
}

#[cfg(test)]
mod tests;
