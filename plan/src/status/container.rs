//! One container's status.

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
};

use super::{StatusInput, time};
use crate::attempt::Verdict;
use crate::fields::downward;
use crate::history::{ContainerHistory, Exit};
use crate::inputs::{ImageFacts, ImageState};
use crate::pod_plan::{ContainerPlan, ContainerRole};
use crate::steps::RestartPolicy;

/// The status of one container, given how its newest attempt is judged.
pub(super) fn status(
    input: &StatusInput<'_>,
    container: &ContainerPlan,
    verdict: &Verdict,
    initialized: bool,
) -> ContainerStatus {
    let history = input.history.containers.get(&container.name).cloned().unwrap_or_default();
    let state = match verdict {
        Verdict::Running { started_ms: 1.., .. } => running(verdict),
        Verdict::Ended(exit) if !starts_again(input, container, exit) && !exit.never_ran => terminated(exit),
        Verdict::Ended(exit) => waiting_after(input, container, &history, exit, initialized),
        Verdict::NotStarted | Verdict::Starting | Verdict::Running { .. } => {
            waiting(not_started(input, container, initialized))
        }
    };
    // A container that waits for its next start shows the end of its last run, as the kubelet does.
    let last = match verdict {
        Verdict::Ended(exit) if state.waiting.is_some() && !exit.never_ran => Some(exit),
        Verdict::Ended(_) | Verdict::NotStarted | Verdict::Starting | Verdict::Running { .. } => {
            history.previous.as_ref()
        }
    };
    let ready = match (container.role, verdict) {
        (ContainerRole::App, Verdict::Running { ready, .. }) => *ready,
        (ContainerRole::Init, Verdict::Ended(exit)) => exit.exit_code == 0 && !exit.never_ran,
        (ContainerRole::App, Verdict::Ended(_))
        | (ContainerRole::Init, Verdict::Running { .. })
        | (ContainerRole::App | ContainerRole::Init, Verdict::NotStarted | Verdict::Starting) => false,
    };
    ContainerStatus {
        name: container.name.clone(),
        image: image_text(input, &container.name),
        image_id: image_id(input, container),
        container_id: container_id(verdict, last),
        ready,
        started: Some(state.running.is_some()),
        restart_count: i32::try_from(history.restart_count).unwrap_or(i32::MAX),
        last_state: last.map(terminated),
        state: Some(state),
        ..Default::default()
    }
}

fn running(verdict: &Verdict) -> ContainerState {
    let started_at = match verdict {
        Verdict::Running { started_ms, .. } => time(*started_ms),
        Verdict::NotStarted | Verdict::Starting | Verdict::Ended(_) => None,
    };
    ContainerState { running: Some(ContainerStateRunning { started_at }), ..Default::default() }
}

/// Nothing of a deleted pod runs any more: what has no end by now never gets one (the kubelet's TerminatePod). Init
/// containers after the last one that began are left as they are.
pub(super) fn terminate(init: &mut [ContainerStatus], app: &mut [ContainerStatus], initialized: bool) {
    let waits = |c: &ContainerStatus| c.state.as_ref().is_none_or(|s| s.terminated.is_none());
    let begun = init.iter().rposition(|c| !waits(c) || c.last_state.is_some()).unwrap_or(0);
    let init = init.iter_mut().take(begun + 1);
    let app = app.iter_mut().filter(|_| initialized);
    for status in init.chain(app).filter(|c| waits(c)) {
        status.state = Some(terminated(&Exit {
            exit_code: 137,
            reason: "ContainerStatusUnknown".to_owned(),
            message: "The container could not be located when the pod was terminated".to_owned(),
            ..Exit::default()
        }));
    }
}

fn starts_again(input: &StatusInput<'_>, container: &ContainerPlan, exit: &Exit) -> bool {
    input.history.deletion.is_none() && RestartPolicy::of(input.pod).restarts_as(container.role, exit)
}

fn waiting(state: ContainerStateWaiting) -> ContainerState {
    ContainerState { waiting: Some(state), ..Default::default() }
}

fn reason(reason: &str, message: Option<String>) -> ContainerStateWaiting {
    ContainerStateWaiting { reason: Some(reason.to_owned()), message: message.filter(|m| !m.is_empty()) }
}

/// Between an end and the next start.
fn waiting_after(
    input: &StatusInput<'_>,
    container: &ContainerPlan,
    history: &ContainerHistory,
    exit: &Exit,
    initialized: bool,
) -> ContainerState {
    if exit.never_ran {
        return waiting(reason(&exit.reason, Some(exit.message.clone())));
    }
    if history.backoff.is_waiting(exit.finished_ms, input.now_ms) {
        let name = input.pod.metadata.name.as_deref().unwrap_or_default();
        let namespace = downward::namespace(input.pod);
        let pod = format!("{name}_{namespace}({})", input.history.uid);
        return waiting(reason("CrashLoopBackOff", Some(history.backoff.message(&container.name, &pod))));
    }
    if let Some(held_up) = held_up(container) {
        return waiting(held_up);
    }
    if exit.reason == "StartError" {
        return waiting(reason("RunContainerError", Some(exit.message.clone())));
    }
    if input.plan.is_ok_and(|p| p.blocked.is_some()) {
        return waiting(not_started(input, container, initialized));
    }
    terminated(exit)
}

/// What the next start waits for, as the kubelet's errors say it.
fn held_up(container: &ContainerPlan) -> Option<ContainerStateWaiting> {
    match (&container.image, &container.attempt) {
        (ImageState::Failed { reason: why, message, .. }, _) => Some(reason(why, Some(message.clone()))),
        (ImageState::Present(_), Err(blocked)) if blocked.reason != CREATING => {
            Some(reason(&blocked.reason, Some(blocked.message.clone())))
        }
        (ImageState::Present(_) | ImageState::Needed | ImageState::Pulling { .. }, _) => None,
    }
}

const CREATING: &str = "ContainerCreating";

fn not_started(input: &StatusInput<'_>, container: &ContainerPlan, initialized: bool) -> ContainerStateWaiting {
    let has_init = input.plan.is_ok_and(|p| p.containers.iter().any(|c| c.role == ContainerRole::Init));
    let default = if has_init { "PodInitializing" } else { CREATING };
    if container.role == ContainerRole::App && !initialized {
        return reason(default, None);
    }
    if let Some(held_up) = held_up(container) {
        return held_up;
    }
    let pulling = match &container.image {
        ImageState::Pulling { message } => Some(message.as_str()),
        ImageState::Present(_) | ImageState::Needed | ImageState::Failed { .. } => None,
    };
    let blocked = input.plan.ok().and_then(|p| p.blocked.as_ref()).map(|b| b.message.as_str());
    reason(default, blocked.or(pulling).or(input.failure).map(str::to_owned))
}

fn terminated(exit: &Exit) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: exit.exit_code,
            signal: exit.signal,
            reason: Some(exit.reason.clone()),
            message: (!exit.message.is_empty()).then(|| exit.message.clone()),
            started_at: time(exit.started_ms),
            finished_at: time(exit.finished_ms),
            container_id: (!exit.invocation.is_empty()).then(|| format!("systemd://{}", exit.invocation)),
        }),
        ..Default::default()
    }
}

/// The newest container that there was.
fn container_id(verdict: &Verdict, last: Option<&Exit>) -> Option<String> {
    let invocation = match verdict {
        Verdict::Running { invocation, .. } => invocation,
        Verdict::Ended(exit) if !exit.invocation.is_empty() => &exit.invocation,
        Verdict::Ended(_) | Verdict::NotStarted | Verdict::Starting => &last?.invocation,
    };
    (!invocation.is_empty()).then(|| format!("systemd://{invocation}"))
}

fn image_id(input: &StatusInput<'_>, container: &ContainerPlan) -> String {
    match &container.image {
        ImageState::Present(ImageFacts::Package(package)) => format!("package://{}={}", package.name, package.version),
        ImageState::Present(ImageFacts::HostBinary { path }) => format!("file://{path}"),
        // What it was while it ran.
        ImageState::Needed | ImageState::Pulling { .. } | ImageState::Failed { .. } => {
            let lists = input.previous.map(|p| [&p.init_container_statuses, &p.container_statuses]);
            let mut known = lists.into_iter().flatten().flatten().flatten();
            known.find(|c| c.name == container.name).map(|c| c.image_id.clone()).unwrap_or_default()
        }
    }
}

/// As the pod says it.
fn image_text(input: &StatusInput<'_>, name: &str) -> String {
    let spec = input.pod.spec.as_ref();
    let init = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
    let app = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
    init.iter().chain(app).find(|c| c.name == name).and_then(|c| c.image.clone()).unwrap_or_default()
}
