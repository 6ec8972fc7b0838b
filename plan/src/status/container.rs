//! One container's status.

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
};

use super::{StatusInput, time};
use crate::attempt::Verdict;
use crate::history::Exit;
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
    let current = match verdict {
        Verdict::Ended(exit) => Some(exit),
        Verdict::NotStarted | Verdict::Starting | Verdict::Running { .. } => None,
    };
    let again = current.is_some_and(|exit| starts_again(input, container, exit));
    let state = match verdict {
        Verdict::Running { started_ms, .. } => ContainerState {
            running: Some(ContainerStateRunning { started_at: time(*started_ms) }),
            ..Default::default()
        },
        Verdict::Ended(exit) if !again && !exit.never_ran => terminated(exit),
        Verdict::Ended(exit) => waiting_after(input, container, &history.backoff, exit),
        Verdict::NotStarted | Verdict::Starting => waiting(not_started(input, container, initialized)),
    };
    // A container that waits for its next start shows the end of its last run, as the kubelet does.
    let last = match current {
        Some(exit) if again && !exit.never_ran => Some(exit),
        Some(_) | None => history.previous.as_ref().filter(|e| !e.never_ran),
    };
    let ready = match (container.role, verdict) {
        (ContainerRole::App, Verdict::Running { ready, .. }) => *ready,
        (ContainerRole::Init, Verdict::Ended(exit)) => exit.exit_code == 0 && !exit.never_ran,
        (ContainerRole::App | ContainerRole::Init, _) => false,
    };
    ContainerStatus {
        name: container.name.clone(),
        image: image_text(input, &container.name),
        image_id: image_id(&container.image),
        container_id: container_id(verdict),
        ready,
        started: Some(matches!(verdict, Verdict::Running { .. })),
        restart_count: i32::try_from(history.restart_count).unwrap_or(i32::MAX),
        state: Some(state),
        last_state: last.map(terminated),
        ..Default::default()
    }
}

fn starts_again(input: &StatusInput<'_>, container: &ContainerPlan, exit: &Exit) -> bool {
    if input.history.deletion.is_some() {
        return false;
    }
    match (container.role, RestartPolicy::of(input.pod)) {
        (ContainerRole::Init, RestartPolicy::Never) => exit.never_ran,
        (ContainerRole::Init, RestartPolicy::Always | RestartPolicy::OnFailure) => {
            exit.exit_code != 0 || exit.never_ran
        }
        (ContainerRole::App, policy) => policy.restarts(exit),
    }
}

fn waiting(state: ContainerStateWaiting) -> ContainerState {
    ContainerState { waiting: Some(state), ..Default::default() }
}

fn reason(reason: &str, message: Option<String>) -> ContainerStateWaiting {
    ContainerStateWaiting { reason: Some(reason.to_owned()), message }
}

/// Between an end and the next start.
fn waiting_after(
    input: &StatusInput<'_>,
    container: &ContainerPlan,
    backoff: &crate::backoff::RestartBackoff,
    exit: &Exit,
) -> ContainerState {
    if let ImageState::Failed { reason: why, message, .. } = &container.image {
        return waiting(reason(why, Some(message.clone())));
    }
    if let Err(blocked) = &container.attempt
        && matches!(container.image, ImageState::Present(_))
    {
        return waiting(reason(&blocked.reason, Some(blocked.message.clone())));
    }
    if exit.never_ran {
        return waiting(reason(&exit.reason, Some(exit.message.clone())));
    }
    let due_ms = backoff.next_start(exit.finished_ms);
    if due_ms <= input.now_ms {
        return terminated(exit);
    }
    let wait_s = (due_ms - exit.finished_ms) / 1000;
    let spec = input.pod.metadata.name.as_deref().unwrap_or_default();
    let namespace = input.pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut message = format!(
        "back-off {} restarting failed container={} pod={spec}_{namespace}({})",
        go_duration(wait_s),
        container.name,
        input.history.uid
    );
    if exit.reason == "StartError" {
        message = format!("{message}: {}", exit.message);
    }
    waiting(reason("CrashLoopBackOff", Some(message)))
}

/// Go's Duration text for whole seconds: `10s`, `1m20s`, `5m0s`.
fn go_duration(seconds: i64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

fn not_started(input: &StatusInput<'_>, container: &ContainerPlan, initialized: bool) -> ContainerStateWaiting {
    if container.role == ContainerRole::App && !initialized {
        return reason("PodInitializing", None);
    }
    match &container.image {
        ImageState::Failed { reason: why, message, .. } => return reason(why, Some(message.clone())),
        ImageState::Pulling { message } => return reason("ContainerCreating", Some(message.clone())),
        ImageState::Present(_) | ImageState::Needed => {}
    }
    if let Ok(plan) = input.plan
        && let Some(blocked) = &plan.blocked
    {
        return reason("ContainerCreating", Some(blocked.message.clone()));
    }
    if let Err(blocked) = &container.attempt {
        return reason(&blocked.reason, Some(blocked.message.clone()));
    }
    reason("ContainerCreating", input.failure.map(str::to_owned))
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

fn container_id(verdict: &Verdict) -> Option<String> {
    let invocation = match verdict {
        Verdict::Running { invocation, .. } => invocation,
        Verdict::Ended(exit) => &exit.invocation,
        Verdict::NotStarted | Verdict::Starting => return None,
    };
    (!invocation.is_empty()).then(|| format!("systemd://{invocation}"))
}

fn image_id(image: &ImageState) -> String {
    match image {
        ImageState::Present(ImageFacts::Package(package)) => format!("package://{}={}", package.name, package.version),
        ImageState::Present(ImageFacts::HostBinary { path }) => format!("file://{path}"),
        ImageState::Needed | ImageState::Pulling { .. } | ImageState::Failed { .. } => String::new(),
    }
}

fn image_text(input: &StatusInput<'_>, name: &str) -> String {
    let spec = input.pod.spec.as_ref();
    let init = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
    let app = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
    init.iter().chain(app).find(|c| c.name == name).and_then(|c| c.image.clone()).unwrap_or_default()
}
