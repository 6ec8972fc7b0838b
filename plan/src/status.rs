//! `status()`: what a kubelet would report of the pod, from what was decided and seen. One pure function, one shape.
//!
//! Upstream: `pkg/kubelet/kubelet_pods.go` (getPhase, generateAPIPodStatus), `pkg/kubelet/status/generate.go` (conditions).

use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::attempt::{Verdict, verdict};
use crate::history::PodHistory;
use crate::inputs::NodeFacts;
use crate::note::Refusal;
use crate::pod_plan::{ContainerPlan, PodPlan};
use crate::steps::{PodObserved, RestartPolicy};

mod conditions;
mod container;
mod phase;

pub use phase::Phase;

/// Everything that a status is made of.
#[derive(Clone, Copy, Debug)]
pub struct StatusInput<'a> {
    /// The pod as its source gave it.
    pub pod: &'a Pod,
    /// Its plan, or every reason why there is none.
    pub plan: Result<&'a PodPlan, &'a [Refusal]>,
    /// Its history once the steps are done.
    pub history: &'a PodHistory,
    /// What the agent saw.
    pub observed: &'a PodObserved,
    /// What an effect of the last round failed with, such as a volume that could not be written.
    pub failure: Option<&'a str>,
    /// The status before this one: conditions keep their transition times.
    pub previous: Option<&'a PodStatus>,
    /// The node.
    pub facts: &'a NodeFacts,
    /// Milliseconds since the epoch.
    pub now_ms: i64,
}

/// The time of `ms` since the epoch; None for 0, which stands for "never".
pub(crate) fn time(ms: i64) -> Option<Time> {
    // Kubernetes' metav1.Time has whole seconds.
    (ms > 0).then(|| jiff::Timestamp::from_second(ms / 1000).ok()).flatten().map(Time)
}

/// The pod's status.
pub fn status(input: &StatusInput<'_>) -> PodStatus {
    let plan = match input.plan {
        Ok(plan) => plan,
        Err(refusals) => return refused(input, refusals),
    };
    let policy = RestartPolicy::of(input.pod);
    let spec = input.pod.spec.as_ref();
    let init_count = spec.and_then(|s| s.init_containers.as_ref()).map_or(0, Vec::len);
    let mut init = Vec::with_capacity(init_count);
    let mut app = Vec::new();
    let initialized = phase::initialized(plan, |c| judge(input, c));
    for container in &plan.containers {
        let judged = judge(input, container);
        let status = container::status(input, container, &judged, initialized);
        if container.role == crate::pod_plan::ContainerRole::Init { init.push(status) } else { app.push(status) }
    }
    let phase = phase::phase(policy, plan, |c| judge(input, c), initialized);
    let conditions = conditions::conditions(input, phase, initialized, &app);
    assemble(input, phase, init, app, conditions)
}

fn judge(input: &StatusInput<'_>, container: &ContainerPlan) -> Verdict {
    let history = input.history.containers.get(&container.name).cloned().unwrap_or_default();
    let observed = input.observed.containers.get(&container.name).cloned().unwrap_or_default();
    verdict(&history, &observed, input.now_ms)
}

fn assemble(
    input: &StatusInput<'_>,
    phase: Phase,
    init: Vec<ContainerStatus>,
    app: Vec<ContainerStatus>,
    conditions: Vec<PodCondition>,
) -> PodStatus {
    let addresses = pod_addresses(input.pod, input.facts);
    let host_ip = input.facts.internal_ips.first().cloned();
    PodStatus {
        phase: Some(phase.to_string()),
        conditions: Some(conditions),
        start_time: time(input.history.started_ms),
        host_ip: host_ip.clone(),
        host_ips: host_ip.map(|ip| vec![HostIP { ip }]),
        pod_ip: addresses.first().cloned(),
        pod_ips: Some(addresses.into_iter().map(|ip| PodIP { ip }).collect()),
        qos_class: input.pod.spec.as_ref().map(|_| crate::fields::resources::qos_class(input.pod).to_string()),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(app),
        ..PodStatus::default()
    }
}

/// On the host's network: the external address if there is one (the founding README's rule), the internal one for a pod
/// that asked for `hostNetwork` itself.
pub fn pod_addresses(pod: &Pod, facts: &NodeFacts) -> Vec<String> {
    let host_network = pod.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false);
    if host_network || facts.external_ips.is_empty() { facts.internal_ips.clone() } else { facts.external_ips.clone() }
}

fn refused(input: &StatusInput<'_>, refusals: &[Refusal]) -> PodStatus {
    let message = refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    PodStatus {
        phase: Some(Phase::Failed.to_string()),
        reason: Some("Unsupported".to_owned()),
        message: Some(message),
        start_time: time(input.history.started_ms),
        conditions: Some(conditions::conditions(input, Phase::Failed, false, &[])),
        ..PodStatus::default()
    }
}
