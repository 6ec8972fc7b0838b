//! Requests and limits as unit settings, and the pod's quality-of-service class, as the kubelet computes them
//! (`kuberuntime_container_linux.go`, `cm/helpers_linux.go`, `qos/policy.go`, component-helpers' `resource/helpers.go`).
//!
//! A missing request is the limit: the API server fills that in, a manifest that never saw one does not have it. Nothing
//! here looks at what the node has left; that is admission's.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use serde::{Deserialize, Serialize};

use crate::inputs::NodeFacts;
use crate::note::{Note, Refusal};
use crate::quantity::Quantity;

mod checks;

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

/// Amounts by resource name.
type Amounts = BTreeMap<String, Quantity>;

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

/// What the pod as a whole asks for, as the scheduler counts it: the containers' sum or the largest init container's,
/// whichever is more, sidecars counted with both; `spec.resources` and `overhead` on top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodTotals {
    /// By resource name.
    pub requests: BTreeMap<String, Quantity>,
    /// By resource name.
    pub limits: BTreeMap<String, Quantity>,
}

/// `PodRequests` and `PodLimits`. Quantities that cannot be read count as 0; they are refused elsewhere.
pub fn pod_totals(pod: &Pod) -> PodTotals {
    let Some(spec) = &pod.spec else { return PodTotals::default() };
    let mut of_requests = aggregate(spec, requests);
    let mut of_limits = aggregate(spec, limits);
    if let Some(own) = pod_level(pod) {
        of_requests.extend(pod_level_requests(pod, own));
        of_limits.extend(limits(Some(own)).into_iter().filter(|(name, _)| is_pod_level(name)));
    }
    for (name, overhead) in readable(spec.overhead.as_ref()) {
        let request = of_requests.entry(name.clone()).or_insert(Quantity::ZERO);
        *request = request.plus(overhead);
        if let Some(limit) = of_limits.get_mut(&name).filter(|limit| !limit.is_zero()) {
            *limit = limit.plus(overhead);
        }
    }
    PodTotals { requests: of_requests, limits: of_limits }
}

/// `defaultPodRequests`: where the pod has a limit, a missing request is the containers' sum, else that limit.
fn pod_level_requests(pod: &Pod, own: &ResourceRequirements) -> Amounts {
    let own_limits = limits(Some(own));
    let mut all = Amounts::new();
    if let Some(spec) = pod.spec.as_ref().filter(|_| !own_limits.is_empty()) {
        all = own_limits;
        all.extend(aggregate(spec, requests));
    }
    all.extend(readable(own.requests.as_ref()));
    all.retain(|name, _| is_pod_level(name));
    all
}

/// What `spec.resources` may set.
fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory")
}

/// `aggregateContainerResourcesByFn`.
fn aggregate(spec: &PodSpec, amounts: impl Fn(Option<&ResourceRequirements>) -> Amounts) -> Amounts {
    let mut total = Amounts::new();
    for container in &spec.containers {
        add(&mut total, &amounts(container.resources.as_ref()));
    }
    let mut sidecars = Amounts::new();
    let mut starting = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let mut needs = amounts(container.resources.as_ref());
        if is_sidecar(container) {
            add(&mut total, &needs);
            add(&mut sidecars, &needs);
            needs.clone_from(&sidecars);
        } else {
            add(&mut needs, &sidecars);
        }
        raise(&mut starting, &needs);
    }
    raise(&mut total, &starting);
    total
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (name, quantity) in more {
        let sum = total.get(name).map_or(*quantity, |before| before.plus(*quantity));
        total.insert(name.clone(), sum);
    }
}

fn raise(total: &mut Amounts, other: &Amounts) {
    for (name, quantity) in other {
        if total.get(name).is_none_or(|before| quantity > before) {
            total.insert(name.clone(), *quantity);
        }
    }
}

/// `GetContainerOOMScoreAdjust`.
fn oom_score_adjust(pod: &Pod, container: &Container, memory_capacity: i64) -> i32 {
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

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Those that the class and the limits are made of.
fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers))
}

/// `spec.resources` where it says anything.
fn pod_level(pod: &Pod) -> Option<&ResourceRequirements> {
    let set = |list: &Option<BTreeMap<String, ApiQuantity>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let resources = pod.spec.as_ref()?.resources.as_ref()?;
    (set(&resources.requests) || set(&resources.limits)).then_some(resources)
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

/// What can be read of a list; what cannot is refused by [`checks`].
fn readable(list: Option<&BTreeMap<String, ApiQuantity>>) -> Amounts {
    list.into_iter()
        .flatten()
        .filter_map(|(name, quantity)| Some((name.clone(), Quantity::from_api(quantity).ok()?)))
        .collect()
}

fn limits(resources: Option<&ResourceRequirements>) -> Amounts {
    readable(resources.and_then(|resources| resources.limits.as_ref()))
}

/// Requests, with the limit where there is none.
fn requests(resources: Option<&ResourceRequirements>) -> Amounts {
    let mut requests = limits(resources);
    requests.extend(readable(resources.and_then(|resources| resources.requests.as_ref())));
    requests
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
