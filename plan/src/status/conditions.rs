//! The pod's conditions, in the kubelet's order and with its reasons.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition};

use super::phase::Phase;
use super::{StatusInput, time};

/// The kinds that the kubelet owns; every other one is passed on as it is.
const OURS: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// Whether a condition is the node's to write.
pub fn is_own(condition: &PodCondition) -> bool {
    OURS.contains(&condition.type_.as_str())
}

/// One condition before it is dated.
struct Verdict {
    kind: &'static str,
    value: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

/// Others' conditions and all five of ours. A condition that keeps its status keeps its transition time.
pub(super) fn conditions(
    input: &StatusInput<'_>,
    phase: Phase,
    init: &[ContainerStatus],
    app: &[ContainerStatus],
) -> Vec<PodCondition> {
    let foreign = input.pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let mut all: Vec<PodCondition> = foreign.filter(|c| !is_own(c)).cloned().collect();
    let ready = |kind| {
        let (value, reason, message) = containers_ready(phase, app);
        Verdict { kind, value, reason, message }
    };
    let verdicts = [
        ready_to_start(input, phase, app),
        initialized(phase, init, app),
        ready("Ready"),
        ready("ContainersReady"),
        Verdict { kind: "PodScheduled", value: true, reason: None, message: None },
    ];
    all.extend(verdicts.into_iter().map(|v| dated(input, v)));
    all
}

fn dated(input: &StatusInput<'_>, verdict: Verdict) -> PodCondition {
    let status = if verdict.value { "True" } else { "False" };
    // The API server's word counts where this agent has not said anything yet.
    let known = input.previous.or(input.pod.status.as_ref()).and_then(|p| {
        let same = |c: &&PodCondition| c.type_ == verdict.kind && c.status == status;
        p.conditions.as_ref()?.iter().find(same)?.last_transition_time.clone()
    });
    PodCondition {
        type_: verdict.kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_transition_time: known.or_else(|| time(input.now_ms)),
        observed_generation: input.pod.metadata.generation,
        ..Default::default()
    }
}

/// There is no sandbox: what all containers need is the pod's volumes.
fn ready_to_start(input: &StatusInput<'_>, phase: Phase, app: &[ContainerStatus]) -> Verdict {
    let blocked = input.plan.map_or(true, |p| p.blocked.is_some());
    let value = !phase.is_terminal() && (!blocked || app.iter().any(has_started));
    let reason = if value { None } else { Some("PodSandboxNotReady") };
    Verdict { kind: "PodReadyToStartContainers", value, reason, message: None }
}

fn has_started(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|s| s.running.is_some() || s.terminated.is_some())
}

fn initialized(phase: Phase, init: &[ContainerStatus], app: &[ContainerStatus]) -> Verdict {
    let verdict = |value, reason, message| Verdict { kind: "Initialized", value, reason, message };
    let incomplete: Vec<&str> = init.iter().filter(|c| !c.ready).map(|c| c.name.as_str()).collect();
    if phase == Phase::Succeeded {
        return verdict(true, Some("PodCompleted"), None);
    }
    if incomplete.is_empty() && !is_refused(app) || app.iter().any(|c| has_started(c) || c.last_state.is_some()) {
        return verdict(true, None, None);
    }
    let message =
        (!incomplete.is_empty()).then(|| format!("containers with incomplete status: [{}]", incomplete.join(" ")));
    verdict(false, Some("ContainersNotInitialized"), message)
}

fn containers_ready(phase: Phase, app: &[ContainerStatus]) -> (bool, Option<&'static str>, Option<String>) {
    let unready: Vec<&str> = app.iter().filter(|c| !c.ready).map(|c| c.name.as_str()).collect();
    match phase {
        Phase::Succeeded => (false, Some("PodCompleted"), None),
        Phase::Failed => (false, Some("PodFailed"), None),
        Phase::Running | Phase::Pending if unready.is_empty() => (true, None, None),
        Phase::Running | Phase::Pending => {
            let message = format!("containers with unready status: [{}]", unready.join(" "));
            (false, Some("ContainersNotReady"), Some(message))
        }
    }
}

/// A refused pod has no container statuses at all.
fn is_refused(app: &[ContainerStatus]) -> bool {
    app.is_empty()
}
