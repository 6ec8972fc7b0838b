//! The pod's phase, as the kubelet's getPhase decides it from the containers' statuses.

use std::fmt;

use k8s_openapi::api::core::v1::ContainerStatus;

use crate::steps::RestartPolicy;

/// `status.phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Accepted, but not every container has run yet.
    Pending,
    /// Every container has run; at least one runs or will again.
    Running,
    /// All ended well and none starts again.
    Succeeded,
    /// All ended, one of them badly, and none starts again; or the pod was refused.
    Failed,
}

impl Phase {
    /// A pod never leaves such a phase.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed => true,
            Self::Pending | Self::Running => false,
        }
    }

    /// Reads what [`fmt::Display`] writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Running, Self::Succeeded, Self::Failed].into_iter().find(|p| p.to_string() == text)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        })
    }
}

/// A container's state as far as the phase asks.
enum Seen {
    Running,
    Ended { code: i32 },
    Waiting,
}

fn seen(status: &ContainerStatus) -> Seen {
    let state = status.state.as_ref();
    if state.is_some_and(|s| s.running.is_some()) {
        return Seen::Running;
    }
    // One that waits to be started again counts as what it was.
    let ended = |s: Option<&k8s_openapi::api::core::v1::ContainerState>| s?.terminated.as_ref().map(|t| t.exit_code);
    match ended(state).or_else(|| ended(status.last_state.as_ref())) {
        Some(code) => Seen::Ended { code },
        None => Seen::Waiting,
    }
}

/// The phase of a pod with these container statuses. `terminal`: it is being deleted and nothing of it runs any more.
pub(super) fn phase(policy: RestartPolicy, init: &[ContainerStatus], app: &[ContainerStatus], terminal: bool) -> Phase {
    let restarts = |code: i32| match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => code != 0,
        RestartPolicy::Never => false,
    };
    let mut pending = false;
    for status in init {
        match seen(status) {
            Seen::Running | Seen::Waiting => pending = true,
            Seen::Ended { code } if code != 0 && (terminal || !restarts(code)) => return Phase::Failed,
            Seen::Ended { .. } => {}
        }
    }
    let (mut running, mut ended, mut restarting, mut failed) = (0, 0, 0, 0);
    for status in app {
        match seen(status) {
            Seen::Running => running += 1,
            Seen::Waiting => pending = true,
            Seen::Ended { code } => {
                ended += 1;
                restarting += i32::from(restarts(code));
                failed += i32::from(code != 0);
            }
        }
    }
    match (running, ended) {
        // The kubelet's TerminatePod: a pod that is gone before it was done has failed.
        _ if pending && terminal => Phase::Failed,
        _ if pending => Phase::Pending,
        (1.., _) => Phase::Running,
        (_, 0) => Phase::Pending,
        _ if restarting > 0 && !terminal => Phase::Running,
        _ if failed == 0 => Phase::Succeeded,
        _ => Phase::Failed,
    }
}
