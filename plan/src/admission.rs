//! Admission: which of the pods that claim the same port of the host gets it.
//!
//! One that holds its ports keeps them until it is gone or finished. The others stand in line, oldest first; each takes
//! what is free and nobody waits for a port that no one holds, so two that wait never wait for each other.
//!
//! A clash that the scheduler sees as well is the end of the later pod, as with the kubelet: whoever made it makes another
//! one elsewhere. Any other clash only delays it: a rejected pod would be sent to the same node again, without end. A pod
//! that is being stopped is only ever waited for.

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::blocked::Blocked;
use crate::fields::ports::PortClaim;
use crate::history::PodHistory;
use crate::pod_plan::RestartPolicy;

/// The kubelet's reason for a pod whose ports are taken; ours too for one that waits.
pub const NODE_PORTS: &str = "NodePorts";

/// What stands before the reason of a rejection in `status.message`.
pub const REJECTED: &str = "Pod was rejected: ";

/// Where a pod stands with its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was not admitted yet.
    Wants,
    /// It was admitted.
    Holds,
    /// It was admitted, and is being stopped.
    Leaves,
}

/// A pod that claims ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// `namespace/name`.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// Since when it stands in line; milliseconds since the epoch.
    pub since_ms: i64,
    /// Where it stands.
    pub standing: Standing,
    /// In its own order.
    pub claims: Vec<PortClaim>,
}

/// Everyone on the node who claims a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimants {
    /// The pod that is planned; None: it claims nothing.
    pub own: Option<Claimant>,
    /// The others, in any order.
    pub others: Vec<Claimant>,
}

/// What became of a pod's admission.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// It may run.
    #[default]
    Admitted,
    /// It may not run yet; the end of another pod makes it be looked at again.
    Waits(Blocked),
    /// It never runs.
    Rejected(Rejection),
}

/// Why a pod was rejected, for good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rejection {
    /// `status.reason`.
    pub reason: String,
    /// What the event says; `status.message` has a few words before it.
    pub message: String,
}

/// What is remembered of a pod that claims ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortHistory {
    /// Since when it stands in line.
    pub since_ms: i64,
    /// It was admitted.
    pub held: bool,
    /// What it claims: all that is known of it once its manifest is gone.
    pub claims: Vec<PortClaim>,
}

impl Claimant {
    fn order(&self) -> (i64, &str, &str) {
        (self.since_ms, &self.pod, &self.uid)
    }

    /// The claims of this pod that `other` has, in this pod's order.
    fn clashes<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Clash<'a>> {
        let with = move |own| Some((own, other.claims.iter().find(|theirs| theirs.clashes(own))?));
        self.claims.iter().filter_map(with).map(move |(own, theirs)| Clash { own, theirs, other })
    }
}

struct Clash<'a> {
    own: &'a PortClaim,
    theirs: &'a PortClaim,
    other: &'a Claimant,
}

impl Clash<'_> {
    fn is_final(&self) -> bool {
        self.own.scheduled && self.theirs.scheduled && self.other.standing == Standing::Holds
    }

    fn rejection(&self) -> Rejection {
        let kubelet = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        Rejection {
            reason: NODE_PORTS.to_owned(),
            message: format!("{kubelet}: {} is taken by pod {}", self.own, self.other.pod),
        }
    }

    fn wait(&self) -> Blocked {
        Blocked::new(NODE_PORTS, format!("port {} is taken by pod {}", self.own, self.other.pod))
    }
}

/// Whether a pod may have the ports that it claims.
pub fn admit(claimants: &Claimants) -> Admission {
    let Some(own) = claimants.own.as_ref().filter(|own| own.standing == Standing::Wants) else {
        return Admission::Admitted;
    };
    let (mut line, mut taken): (Vec<&Claimant>, Vec<&Claimant>) =
        claimants.others.iter().partition(|other| other.standing == Standing::Wants);
    line.retain(|other| other.order() < own.order());
    line.sort_by_key(|other| other.order());
    taken.sort_by_key(|other| other.order());
    for next in line {
        if taken.iter().all(|other| next.clashes(other).next().is_none()) {
            taken.push(next);
        }
    }
    let clashes = || taken.iter().flat_map(|other| own.clashes(other));
    match (clashes().find(Clash::is_final), clashes().next()) {
        (Some(last), _) => Admission::Rejected(last.rejection()),
        (None, Some(first)) => Admission::Waits(first.wait()),
        (None, None) => Admission::Admitted,
    }
}

/// Where a pod stands by its history; None: it claims nothing (any more). One that has begun holds what it claims, whoever
/// admitted it.
pub fn standing(pod: &Pod, history: &PodHistory, stopping: bool) -> Option<Standing> {
    let begun = history.containers.values().any(|c| c.attempt.is_some());
    let holds = begun || history.ports.as_ref().is_some_and(|p| p.held);
    match (holds, stopping) {
        _ if history.rejection.is_some() || is_finished(pod, history) => None,
        (true, true) => Some(Standing::Leaves),
        (true, false) => Some(Standing::Holds),
        // It leaves the line as well.
        (false, true) => None,
        (false, false) => Some(Standing::Wants),
    }
}

/// Every container has ended for good: no program of the pod listens any more, or ever will.
pub fn is_finished(pod: &Pod, history: &PodHistory) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let policy = RestartPolicy::of(pod);
    let exit = |name: &str| history.containers.get(name).and_then(|c| c.exit.as_ref());
    let begun = |name: &str| history.containers.get(name).is_some_and(|c| c.attempt.is_some());
    let over = |name: &str| exit(name).is_some_and(|e| !policy.restarts(e));
    let failed = |name: &str| over(name) && exit(name).is_some_and(|e| e.exit_code != 0);
    let initializes = !spec.containers.iter().any(|c| begun(&c.name));
    let stuck = initializes && spec.init_containers.iter().flatten().any(|c| failed(&c.name));
    stuck || !spec.containers.is_empty() && spec.containers.iter().all(|c| over(&c.name))
}

#[cfg(test)]
mod tests;
