//! The pod's conditions, in the kubelet's order and with its reasons.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition};

use super::phase::Phase;
use super::{StatusInput, time};

/// All five. A condition that keeps its status keeps its transition time.
pub(super) fn conditions(
    input: &StatusInput<'_>,
    phase: Phase,
    initialized: bool,
    app: &[ContainerStatus],
) -> Vec<PodCondition> {
    let done = matches!(phase, Phase::Succeeded | Phase::Failed);
    let unready: Vec<&str> = app.iter().filter(|c| !c.ready).map(|c| c.name.as_str()).collect();
    let ready = phase == Phase::Running && unready.is_empty();
    let (ready_reason, ready_message) = match phase {
        Phase::Succeeded => (Some("PodCompleted"), None),
        Phase::Failed => (Some("PodFailed"), None),
        Phase::Running | Phase::Pending if !ready => {
            (Some("ContainersNotReady"), Some(format!("containers with unready status: [{}]", unready.join(" "))))
        }
        Phase::Running | Phase::Pending => (None, None),
    };
    let started = app.iter().any(|c| c.container_id.is_some()) || initialized && !done;
    let init_true = initialized || phase == Phase::Succeeded;
    let init_reason = if init_true { None } else { Some("ContainersNotInitialized") };
    let mut all = Vec::with_capacity(5);
    let mut push = |kind: &str, value: bool, reason: Option<&str>, message: Option<String>| {
        let status = if value { "True" } else { "False" };
        let known =
            input.previous.and_then(|p| p.conditions.as_ref()?.iter().find(|c| c.type_ == kind && c.status == status));
        all.push(PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            message,
            last_transition_time: known.and_then(|c| c.last_transition_time.clone()).or_else(|| time(input.now_ms)),
            ..Default::default()
        });
    };
    push("PodReadyToStartContainers", started && !done, None, None);
    push("Initialized", init_true, init_reason, None);
    push("Ready", ready, ready_reason, ready_message.clone());
    push("ContainersReady", ready, ready_reason, ready_message);
    push("PodScheduled", true, None, None);
    all
}
