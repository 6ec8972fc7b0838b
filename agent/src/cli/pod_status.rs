//! One pod in one line, by kubectl's rules: `printPod` of pkg/printers/internalversion/printers.go.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

use super::table::age;

/// What the columns READY, STATUS and RESTARTS say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) ready: String,
    pub(super) status: String,
    pub(super) restarts: String,
}

pub(super) fn summary(pod: &Pod, now_s: i64) -> Summary {
    let empty = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&empty);
    let phase = status.phase.clone().unwrap_or_else(|| "Pending".to_owned());
    let mut reason = status.reason.clone().unwrap_or_else(|| phase.clone());
    let init = status.init_container_statuses.as_deref().unwrap_or_default();
    let app = status.container_statuses.as_deref().unwrap_or_default();
    let initializing = init_reason(pod, init);
    let mut counted = init;
    let mut ready = 0;
    if let Some(text) = &initializing {
        reason.clone_from(text);
    }
    if initializing.is_none() || condition(status, "Initialized") {
        counted = app;
        let mut running = false;
        for container in app.iter().rev() {
            let state = state(container);
            if let Some(text) = state.waiting.as_ref().and_then(|w| w.reason.clone()).filter(|r| !r.is_empty()) {
                reason = text;
            } else if let Some(terminated) = &state.terminated {
                reason = ended(terminated);
            } else if container.ready && state.running.is_some() {
                running = true;
                ready += 1;
            }
        }
        if reason == "Completed" && running {
            reason = if condition(status, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }
    if pod.metadata.deletion_timestamp.is_some() && !matches!(phase.as_str(), "Succeeded" | "Failed") {
        reason = "Terminating".to_owned();
    }
    let total = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    Summary { ready: format!("{ready}/{total}"), status: reason, restarts: restarts(counted, now_s) }
}

fn state(container: &ContainerStatus) -> ContainerState {
    container.state.clone().unwrap_or_default()
}

/// What holds a pod that is not initialized; None once every init container has ended well.
fn init_reason(pod: &Pod, init: &[ContainerStatus]) -> Option<String> {
    let total = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref()).map_or(0, Vec::len);
    let (index, container) = init
        .iter()
        .enumerate()
        .find(|(_, c)| state(c).terminated.is_none_or(|terminated| terminated.exit_code != 0))?;
    let state = state(container);
    let waits_for = state.waiting.and_then(|w| w.reason).filter(|r| !r.is_empty() && r != "PodInitializing");
    Some(match (state.terminated, waits_for) {
        (Some(terminated), _) => format!("Init:{}", ended(&terminated)),
        (None, Some(reason)) => format!("Init:{reason}"),
        (None, None) => format!("Init:{index}/{total}"),
    })
}

fn ended(terminated: &ContainerStateTerminated) -> String {
    match (terminated.reason.as_deref().unwrap_or_default(), terminated.signal.unwrap_or_default()) {
        ("", 0) => format!("ExitCode:{}", terminated.exit_code),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn condition(status: &PodStatus, kind: &str) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == kind && c.status == "True")
}

/// `3 (2m ago)`: how often, and when last.
fn restarts(containers: &[ContainerStatus], now_s: i64) -> String {
    let count: i32 = containers.iter().map(|c| c.restart_count).sum();
    let ends = containers.iter().filter_map(|c| c.last_state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    match ends.map(|time| time.0.as_second()).max() {
        Some(last) if count > 0 => format!("{count} ({} ago)", age(now_s - last)),
        Some(_) | None => count.to_string(),
    }
}

#[cfg(test)]
mod tests;
