//! `status()`: what a kubelet would report of the pod, from what was decided and seen. One pure function, one shape.
//!
//! Upstream: `pkg/kubelet/kubelet_pods.go` (getPhase, generateAPIPodStatus), `pkg/kubelet/status/generate.go` (conditions).

use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::admission::{REJECTED, Rejection};
use crate::attempt::{Verdict, verdict};
use crate::fields::downward::pod_ips;
use crate::history::PodHistory;
use crate::inputs::NodeFacts;
use crate::note::Refusal;
use crate::pod_plan::{ContainerPlan, ContainerRole, PodPlan};
use crate::steps::{PodObserved, RestartPolicy};

mod conditions;
mod container;
mod patch;
mod phase;

pub use conditions::is_own;
pub use patch::patch;
pub use phase::Phase;

/// Everything that a status is made of.
#[derive(Clone, Copy)]
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
///
/// A pod that stops is shown to its end: its plan is the last one, or [`PodPlan::unplanned`].
pub fn status(input: &StatusInput<'_>) -> PodStatus {
    if let Some(Rejection { reason, message }) = &input.history.rejection {
        return failed(input, reason, format!("{REJECTED}{message}"));
    }
    let plan = match input.plan {
        Ok(plan) => plan,
        Err(refusals) => {
            let texts: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            return failed(input, "Unsupported", texts.join("; "));
        }
    };
    let of_role = |role| plan.containers.iter().filter(move |c| c.role == role).map(|c| (c, judge(input, c)));
    let init: Vec<_> = of_role(ContainerRole::Init).collect();
    let app: Vec<_> = of_role(ContainerRole::App).collect();
    let done = |(_, v): &(&ContainerPlan, Verdict)| matches!(v, Verdict::Ended(e) if e.exit_code == 0 && !e.never_ran);
    let initialized = input.history.is_initialized(plan) || init.iter().all(done);
    // The pod is being deleted and nothing of it runs any more: whatever is not ended by now will not be.
    let over = |(_, v): &(&ContainerPlan, Verdict)| matches!(v, Verdict::Ended(_) | Verdict::NotStarted);
    let terminal = input.history.deletion.is_some() && init.iter().chain(&app).all(over);
    let show = |judged: &[(&ContainerPlan, Verdict)]| -> Vec<ContainerStatus> {
        judged.iter().map(|(c, v)| container::status(input, c, v, initialized)).collect()
    };
    let (mut init, mut app) = (show(&init), show(&app));
    if terminal {
        container::terminate(&mut init, &mut app, initialized);
    }
    // As the kubelet sorts them; init containers keep the pod's order.
    app.sort_by(|a, b| a.name.cmp(&b.name));
    let computed = phase::phase(RestartPolicy::of(input.pod), &init, &app, terminal);
    let phase = match known_phase(input) {
        Some(known) if known.is_terminal() => known,
        Some(_) | None => computed,
    };
    let conditions = conditions::conditions(input, phase, &init, &app);
    assemble(input, phase, init, app, conditions)
}

/// The phase that was reported last.
fn known_phase(input: &StatusInput<'_>) -> Option<Phase> {
    [input.previous, input.pod.status.as_ref()]
        .into_iter()
        .filter_map(|s| Phase::parse(s?.phase.as_deref()?))
        .max_by_key(|p| p.is_terminal())
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
    let addresses = pod_ips(input.pod, input.facts).to_vec();
    let host_ip = input.facts.internal_ips.first().cloned();
    let kept = [input.previous, input.pod.status.as_ref()].into_iter().flatten();
    let same_phase = |s: &&PodStatus| s.phase.as_deref() == Some(&phase.to_string());
    let told = kept.clone().find(same_phase);
    PodStatus {
        phase: Some(phase.to_string()),
        reason: told.and_then(|s| s.reason.clone()),
        message: told.and_then(|s| s.message.clone()),
        conditions: Some(conditions),
        start_time: start_time(input),
        host_ip: host_ip.clone(),
        host_ips: host_ip.map(|ip| vec![HostIP { ip }]),
        pod_ip: addresses.first().cloned(),
        pod_ips: Some(addresses.into_iter().map(|ip| PodIP { ip }).collect()),
        qos_class: qos_class(input),
        observed_generation: input.pod.metadata.generation,
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(app),
        ..PodStatus::default()
    }
}

/// A start time does not change once it was said.
fn start_time(input: &StatusInput<'_>) -> Option<Time> {
    let said = [input.previous, input.pod.status.as_ref()].into_iter().find_map(|s| s?.start_time.clone());
    said.or_else(|| time(input.history.started_ms))
}

/// The API server sets it and does not let it change.
fn qos_class(input: &StatusInput<'_>) -> Option<String> {
    let said = input.pod.status.as_ref().and_then(|s| s.qos_class.clone());
    said.or_else(|| input.pod.spec.as_ref().map(|_| crate::fields::resources::qos_class(input.pod).to_string()))
}

/// A pod that never runs: it has no containers to tell of.
fn failed(input: &StatusInput<'_>, reason: &str, message: String) -> PodStatus {
    PodStatus {
        phase: Some(Phase::Failed.to_string()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        start_time: start_time(input),
        qos_class: qos_class(input),
        observed_generation: input.pod.metadata.generation,
        conditions: Some(conditions::conditions(input, Phase::Failed, &[], &[])),
        ..PodStatus::default()
    }
}

#[cfg(test)]
mod tests;
