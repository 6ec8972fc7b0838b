//! What the containers and the pod as a whole request and are limited to (component-helpers' `resource/helpers.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use crate::quantity::Quantity;

/// Amounts by resource name.
pub(super) type Amounts = BTreeMap<String, Quantity>;

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
pub(super) fn pod_level_requests(pod: &Pod, own: &ResourceRequirements) -> Amounts {
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
pub(super) fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory")
}

/// `aggregateContainerResourcesByFn`.
pub(super) fn aggregate(spec: &PodSpec, amounts: impl Fn(Option<&ResourceRequirements>) -> Amounts) -> Amounts {
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

pub(super) fn add(total: &mut Amounts, more: &Amounts) {
    for (name, quantity) in more {
        let sum = total.get(name).map_or(*quantity, |before| before.plus(*quantity));
        total.insert(name.clone(), sum);
    }
}

pub(super) fn raise(total: &mut Amounts, other: &Amounts) {
    for (name, quantity) in other {
        if total.get(name).is_none_or(|before| quantity > before) {
            total.insert(name.clone(), *quantity);
        }
    }
}

pub(super) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// `spec.resources` where it says anything.
pub(super) fn pod_level(pod: &Pod) -> Option<&ResourceRequirements> {
    let set = |list: &Option<BTreeMap<String, ApiQuantity>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let resources = pod.spec.as_ref()?.resources.as_ref()?;
    (set(&resources.requests) || set(&resources.limits)).then_some(resources)
}

/// What can be read of a list; what cannot is refused by `checks`.
pub(super) fn readable(list: Option<&BTreeMap<String, ApiQuantity>>) -> Amounts {
    list.into_iter()
        .flatten()
        .filter_map(|(name, quantity)| Some((name.clone(), Quantity::from_api(quantity).ok()?)))
        .collect()
}

pub(super) fn limits(resources: Option<&ResourceRequirements>) -> Amounts {
    readable(resources.and_then(|resources| resources.limits.as_ref()))
}

/// Requests, with the limit where there is none.
pub(super) fn requests(resources: Option<&ResourceRequirements>) -> Amounts {
    let mut requests = limits(resources);
    requests.extend(readable(resources.and_then(|resources| resources.requests.as_ref())));
    requests
}
