//! Ports of the host: who else claims what, for the plan to decide, and what that means for those who wait.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use plan::admission::{Admission, Claimant, Claimants, Standing, is_finished, standing};
use plan::fields::ports::{PortClaim, claims};
use plan::history::PodHistory;
use plan::inputs::NodeFacts;

use super::{Planned, PodRef, Shared, history, rebuild, report};
use crate::world::{Entry, Ports, full_name};

/// Everybody who claims ports, if this pod does. The histories of the others are read from disk where they were not yet: a
/// pod that runs keeps its ports over a restart of the agent, whoever is looked at first.
pub(super) fn claimants(shared: &Shared, pod: &PodRef, history: &PodHistory) -> Claimants {
    let known = shared.with(|w| w.entries.get(&pod.uid).map(|e| e.ports)).unwrap_or_default();
    // One that was refused before may be no more: it stands in line like any other.
    let known = if known == Ports::Free { Ports::Unknown } else { known };
    let Some(own) = claimant(shared, pod, history, known) else { return Claimants::default() };
    let mut others = Vec::new();
    // One that holds its ports asks nobody.
    if own.standing == Standing::Wants {
        for (other, known) in others_of(shared, &pod.uid) {
            let loaded = shared.with(|w| w.entries.get(&other.uid).and_then(|e| e.history.clone()));
            let (history, known) = match loaded {
                Some(history) => (history, known),
                None => word_of(&shared.facts(), &other.uid, known),
            };
            others.extend(claimant(shared, &other, &history, known));
        }
        others.extend(left_alone(shared));
    }
    Claimants { own: Some(own), others }
}

/// What another pod's history says, without a change to anything of that pod's: that is for its own look. Of one that cannot
/// be read nothing is known but that it may run.
fn word_of(facts: &NodeFacts, uid: &str, known: Ports) -> (PodHistory, Ports) {
    match history::load(&facts.run_root, uid) {
        Ok(Some(history)) => (history, known),
        Ok(None) => (rebuild::rebuild(facts, uid), known),
        Err(error) => {
            tracing::warn!(uid, "its ports count as taken: {}", crate::causes::causes(&error));
            (PodHistory::default(), if known == Ports::Unknown { Ports::Held } else { known })
        }
    }
}

/// The pods beside this one that claim a port, and those of which only a history can tell.
fn others_of(shared: &Shared, uid: &str) -> Vec<(PodRef, Ports)> {
    let claims_some = |pod: &Pod| pod.spec.as_ref().is_none_or(|spec| !claims(spec).is_empty());
    shared.with(|w| {
        let others = w.entries.iter().filter(|(other, e)| other.as_str() != uid && claims_some(&e.pod));
        let reference = |(uid, e): (&String, &Entry)| {
            (PodRef { uid: uid.clone(), full_name: e.full_name(), pod: Arc::clone(&e.pod) }, e.ports)
        };
        others.map(reference).collect()
    })
}

/// None: it claims nothing (any more).
fn claimant(shared: &Shared, pod: &PodRef, history: &PodHistory, known: Ports) -> Option<Claimant> {
    let claims = claims_of(&pod.pod, history);
    if claims.is_empty() {
        return None;
    }
    let (seen_ms, stopping) = shared.with(|w| w.entries.get(&pod.uid).map(|e| (e.since_ms, e.stop.is_some())))?;
    let standing = match (known, stopping) {
        (Ports::Free, _) => return None,
        // Admitted by this agent, though nothing of that may be saved yet.
        (Ports::Held, true) => Standing::Leaves,
        (Ports::Held, false) => Standing::Holds,
        (Ports::Unknown | Ports::Waits, _) => standing(&pod.pod, history, stopping)?,
    };
    let since_ms = history.ports.as_ref().map_or(seen_ms, |p| p.since_ms);
    Some(Claimant { pod: full_name(&pod.pod), uid: pod.uid.clone(), since_ms, standing, claims })
}

/// Pods that run though their manifests cannot be read at the moment: they hold what they were admitted with.
fn left_alone(shared: &Shared) -> Vec<Claimant> {
    let facts = shared.facts();
    let uids: Vec<String> =
        shared.with(|w| w.left_alone.iter().filter(|uid| !w.entries.contains_key(*uid)).cloned().collect());
    uids.iter().filter_map(|uid| alone(&facts, uid)).collect()
}

/// The last report has its spec: without that nothing tells that it has ended for good.
fn alone(facts: &NodeFacts, uid: &str) -> Option<Claimant> {
    let (history, known) = word_of(facts, uid, Ports::Unknown);
    let pod = report::last(&facts.run_root, uid).map(|report| report.pod).unwrap_or_default();
    let standing = if known == Ports::Held { Standing::Holds } else { standing(&pod, &history, false)? };
    // It is not looked at: its turn would never come.
    if standing == Standing::Wants {
        return None;
    }
    let claims = claims_of(&pod, &history);
    let since_ms = history.ports.as_ref().map_or(history.started_ms, |p| p.since_ms);
    let pod = if history.name.is_empty() { full_name(&pod) } else { format!("{}/{}", history.namespace, history.name) };
    (!claims.is_empty()).then(|| Claimant { pod, uid: uid.to_owned(), since_ms, standing, claims })
}

/// Nothing but its history tells of a pod whose manifest is gone.
fn claims_of(pod: &Pod, history: &PodHistory) -> Vec<PortClaim> {
    match &pod.spec {
        Some(spec) => claims(spec),
        None => history.ports.as_ref().map(|p| p.claims.clone()).unwrap_or_default(),
    }
}

/// Notes what a plan came to, at once: the next pod that is planned must see it, long before it is saved.
pub(super) fn planned(shared: &Shared, pod: &PodRef, planned: &Planned, history: &PodHistory) {
    let ports = match planned {
        _ if is_finished(&pod.pod, history) => Ports::Free,
        Ok(plan) => match plan.admission {
            Admission::Admitted => Ports::Held,
            Admission::Waits(_) => Ports::Waits,
            Admission::Rejected(_) => Ports::Free,
        },
        Err(_) => Ports::Free,
    };
    settle(shared, pod, ports);
}

/// A look ended before anything could be planned: whoever waits behind this pod is not to wait for what nobody holds.
pub(super) fn stalled(shared: &Shared, pod: &PodRef) {
    if !shared.with(|w| w.holds_ports(&pod.uid)) {
        settle(shared, pod, Ports::Free);
    }
}

/// A look is over: a pod that has ended for good lets go of its ports, though it is still there.
pub(super) fn looked_at(shared: &Shared, pod: &PodRef) {
    let history = shared.with(|w| w.entries.get(&pod.uid).and_then(|e| e.history.clone()));
    if history.is_some_and(|h| h.rejection.is_some() || is_finished(&pod.pod, &h)) {
        settle(shared, pod, Ports::Free);
    }
}

/// Those who wait are looked at again when somebody's word on its ports is new.
fn settle(shared: &Shared, pod: &PodRef, ports: Ports) {
    if pod.pod.spec.as_ref().is_none_or(|spec| claims(spec).is_empty()) {
        return;
    }
    for waiting in shared.with(|w| w.settle_ports(&pod.uid, ports)) {
        shared.look(&waiting);
    }
}

#[cfg(test)]
mod tests;
