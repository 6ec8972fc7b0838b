//! The pod's phase, as the kubelet's getPhase decides it.

use std::fmt;

use crate::attempt::Verdict;
use crate::pod_plan::{ContainerPlan, ContainerRole, PodPlan};
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

/// Whether every init container has ended well.
pub(super) fn initialized(plan: &PodPlan, judge: impl Fn(&ContainerPlan) -> Verdict) -> bool {
    plan.containers
        .iter()
        .filter(|c| c.role == ContainerRole::Init)
        .all(|c| matches!(judge(c), Verdict::Ended(exit) if exit.exit_code == 0 && !exit.never_ran))
}

/// The phase of a pod whose containers are judged so.
pub(super) fn phase(
    policy: RestartPolicy,
    plan: &PodPlan,
    judge: impl Fn(&ContainerPlan) -> Verdict,
    initialized: bool,
) -> Phase {
    if !initialized {
        let failed = plan
            .containers
            .iter()
            .filter(|c| c.role == ContainerRole::Init)
            .any(|c| matches!(judge(c), Verdict::Ended(exit) if exit.exit_code != 0 && !exit.never_ran));
        return if failed && policy == RestartPolicy::Never { Phase::Failed } else { Phase::Pending };
    }
    let (mut waiting, mut running, mut ended, mut succeeded) = (0, 0, 0, 0);
    for container in plan.containers.iter().filter(|c| c.role == ContainerRole::App) {
        match judge(container) {
            Verdict::Running { .. } => running += 1,
            Verdict::Ended(exit) if !exit.never_ran => {
                ended += 1;
                succeeded += i32::from(exit.exit_code == 0);
            }
            Verdict::Ended(_) | Verdict::NotStarted | Verdict::Starting => waiting += 1,
        }
    }
    match policy {
        _ if waiting > 0 => Phase::Pending,
        _ if running > 0 => Phase::Running,
        RestartPolicy::Always => Phase::Running,
        RestartPolicy::OnFailure if ended != succeeded => Phase::Running,
        RestartPolicy::OnFailure | RestartPolicy::Never if ended == succeeded => Phase::Succeeded,
        RestartPolicy::OnFailure | RestartPolicy::Never => Phase::Failed,
    }
}
