//! THE loop: for one pod at a time, gather, plan, observe, steps, apply, status, report. Level-triggered: a wake says only
//! whom to look at, and everything is read again.
//!
//! One look per pod at a time; pods are looked at side by side. A failed effect ends the look and is tried again later.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use plan::admission::Rejection;
use plan::blocked::Blocked;
use plan::fields::downward;
use plan::history::{HISTORY_VERSION, PodHistory};
use plan::inputs::{Gathered, ImageState, NodeFacts};
use plan::note::{NoteKind, Refusal};
use plan::observed::{JobResult, UnitState};
use plan::pod_plan::PodPlan;
use plan::status::{StatusInput, status};
use plan::steps::{Decision, Desired, PodObserved, steps};
use plan::unit::name::PodDirs;
use tokio::sync::{Notify, mpsc, watch};

use crate::cluster::Cluster;
use crate::files::{FileError, View, remove_tree};
use crate::images::Images;
use crate::server::pods::NodePods;
use crate::systemd::bus::Bus;
use crate::wake::{Synced, Wake};
use crate::world::{Origin, Stop, World};

use gather::Missing;

mod apply;
mod ends;
pub(crate) mod failpoint;
pub(crate) mod gather;
mod history;
mod host;
mod observe;
pub(crate) mod orphans;
mod ports;
mod rebuild;
pub(crate) mod report;
mod run;

pub(crate) use run::run;

/// What every look shares.
pub(crate) struct Shared {
    pub(crate) bus: Bus,
    pub(crate) images: Images,
    pub(crate) wake: mpsc::UnboundedSender<Wake>,
    facts: Arc<NodeFacts>,
    world: Arc<Mutex<World>>,
    host_work: host::HostWork,
    /// The API server's side of the node, where it has one.
    cluster: OnceLock<Cluster>,
    /// A pod of a manifest, or its image in the API server, came or went.
    mirrors: Notify,
    /// The read-only views of the host's directories that the plans bind from.
    views: Mutex<Vec<View>>,
    /// Counts reports and pods that are gone, for those who wait for either.
    reports: watch::Sender<u64>,
}

/// The pod that a look is at.
#[derive(Clone)]
pub(super) struct PodRef {
    pub(super) uid: String,
    pub(super) full_name: String,
    pub(super) pod: Arc<Pod>,
}

/// The reason of a container that is only not there yet.
const CONTAINER_CREATING: &str = "ContainerCreating";

/// The first wait after a failed look; doubled up to [`RETRY_MAX_MS`].
const RETRY_MS: i64 = 500;
const RETRY_MAX_MS: i64 = 30_000;

/// The wall clock: what statuses show. Waits are computed from it too, so they survive a restart of the agent.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

impl Shared {
    pub(crate) fn new(
        bus: Bus,
        images: Images,
        wake: mpsc::UnboundedSender<Wake>,
        facts: NodeFacts,
        views: Vec<View>,
    ) -> Self {
        // Before the first pull: also a pod that only stops, and is never planned again, uses its packages until it is gone.
        for history in history::all(&facts.run_root) {
            let name = format!("{}/{}", history.namespace, history.name);
            let packages = history.containers.values().filter_map(|container| container.package.as_ref());
            packages.for_each(|package| images.adopt(&history.uid, &name, &package.name, &package.version));
        }
        Self {
            bus,
            images,
            wake,
            facts: Arc::new(facts),
            world: Arc::default(),
            host_work: host::HostWork::default(),
            cluster: OnceLock::new(),
            mirrors: Notify::new(),
            views: Mutex::new(views),
            reports: watch::Sender::new(0),
        }
    }

    /// The node belongs to a cluster; said before the loop runs.
    pub(crate) fn join(&self, cluster: Cluster) {
        self.with(|w| w.in_cluster = true);
        let _once = self.cluster.set(cluster);
    }

    /// Until a pod of a manifest, or its image in the API server, has come or gone.
    pub(crate) async fn mirrors_changed(&self) {
        self.mirrors.notified().await;
    }

    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.get()
    }

    pub(crate) fn facts(&self) -> Arc<NodeFacts> {
        Arc::clone(&self.facts)
    }

    /// Reads or changes the world; never held over an await.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut World) -> R) -> R {
        f(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the kubelet API may see.
    pub(crate) fn node_pods(&self) -> NodePods {
        NodePods::new(Arc::clone(&self.world), self.reports.subscribe(), self.facts.node_name.clone())
    }

    fn tell_readers(&self) {
        self.reports.send_modify(|count| *count += 1);
    }

    /// Before a container is made: the host may have mounted something since, or taken a mount away.
    fn refresh_views(&self) -> Result<(), FileError> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.iter_mut().try_for_each(View::refresh)
    }

    fn look(&self, uid: &str) {
        // The loop is gone only when the agent ends.
        let _ended = self.wake.send(Wake::Pod(uid.to_owned()));
    }

    /// Tells the user of a pod.
    pub(crate) fn event(&self, uid: &str, warning: bool, reason: &str, message: &str) {
        self.event_of(uid, None, warning, reason, message);
    }

    /// Tells the user of a pod, or of a container of it.
    pub(crate) fn event_of(&self, uid: &str, container: Option<&str>, warning: bool, reason: &str, message: &str) {
        let of_cluster = self.with(|w| {
            let entry = w.entries.get_mut(uid)?;
            let name = entry.full_name();
            entry.events.record(&name, warning, reason, message, now_ms());
            (entry.origin == Origin::Cluster).then(|| Arc::clone(&entry.pod))
        });
        self.event_in_cluster(of_cluster, container, warning, reason, message);
    }

    fn event_in_cluster(
        &self,
        pod: Option<Arc<Pod>>,
        container: Option<&str>,
        warning: bool,
        reason: &str,
        message: &str,
    ) {
        if let (Some(cluster), Some(pod)) = (self.cluster(), pod) {
            cluster.events.record(crate::cluster::events::about(&pod, container), warning, reason, message);
        }
    }

    fn known_unit(&self, unit: &str) -> Option<UnitState> {
        self.with(|w| w.units.get(unit).and_then(|u| u.state.clone()))
    }

    fn is_tracked(&self, unit: &str) -> bool {
        self.with(|w| w.units.contains_key(unit))
    }

    /// What is known of a unit is wrong: the next look asks systemd.
    fn ask_again(&self, uid: &str, unit: &str) {
        self.with(|w| {
            let known = w.units.entry(unit.to_owned()).or_default();
            uid.clone_into(&mut known.uid);
            known.state = None;
        });
    }

    /// systemd is about to be asked about a unit: what signals say meanwhile is newer than its answer.
    fn ask_unit(&self, uid: &str, unit: &str) -> u64 {
        self.with(|w| {
            let known = w.units.entry(unit.to_owned()).or_default();
            uid.clone_into(&mut known.uid);
            known.heard
        })
    }

    /// The answer is kept unless a signal came in between; then the look that the signal asked for asks again.
    fn answer_unit(&self, unit: &str, heard: u64, state: &UnitState) {
        self.with(|w| {
            if let Some(known) = w.units.get_mut(unit).filter(|k| k.heard == heard) {
                known.state = Some(state.clone());
            }
        });
    }

    /// A start is about to be asked for: the signals that follow are folded into this.
    fn expect_start(&self, uid: &str, unit: &str) {
        let job = plan::observed::UnitJob { id: 0, kind: "start".to_owned() };
        let state = UnitState {
            name: unit.to_owned(),
            load_state: "loaded".to_owned(),
            active_state: "inactive".to_owned(),
            condition_result: true,
            assert_result: true,
            job: Some(job),
            ..UnitState::default()
        };
        self.with(|w| {
            let known = w.units.entry(unit.to_owned()).or_default();
            uid.clone_into(&mut known.uid);
            known.state = Some(state);
            known.start_job = None;
        });
    }

    /// systemd has queued the start as this job.
    fn start_accepted(&self, unit: &str, id: u32) {
        self.with(|w| {
            let state = w.units.get_mut(unit).and_then(|u| u.state.as_mut());
            if let Some(job) = state.and_then(|s| s.job.as_mut()) {
                job.id = id;
            }
        });
    }

    fn stop_accepted(&self, unit: &str, id: u32) {
        self.with(|w| w.units.get_mut(unit).map(|known| known.stop_accepted(id)));
    }

    fn stop_ended(&self, unit: &str, id: u32, done: bool) {
        self.with(|w| w.units.get_mut(unit).map(|known| known.stop_ended(id, done)));
    }

    fn stop_untold(&self, unit: &str, id: u32) -> bool {
        self.with(|w| w.units.get_mut(unit).is_some_and(|known| known.stop_untold(id)))
    }

    /// A start is over. What nothing was heard of since is read from systemd.
    fn start_ended(&self, unit: &str, result: JobResult) {
        self.with(|w| {
            let Some(known) = w.units.get_mut(unit) else { return };
            if known.state.as_ref().is_some_and(|s| s.active_state == "inactive" && s.exec_main_code == 0) {
                known.state = None;
            }
            known.start_job = Some(result);
        });
    }

    /// systemd has to be asked about it again.
    fn forget_unit_state(&self, unit: &str) {
        self.with(|w| w.units.get_mut(unit).map(|u| u.state = None));
    }

    /// Paths at which other pods mount a volume, or that were made for them.
    fn made_for_others(&self, uid: &str) -> std::collections::BTreeSet<String> {
        self.with(|w| {
            let others = w.entries.iter().filter(|(other, _)| other.as_str() != uid).map(|(_, entry)| entry);
            let paths = |entry: &crate::world::Entry| {
                let made = entry.history.iter().flat_map(|h| h.made_paths.clone()).collect::<Vec<_>>();
                let mounts = plan::pod::containers(&entry.pod).flat_map(|c| c.volume_mounts.iter().flatten());
                made.into_iter().chain(mounts.map(|m| plan::fields::mounts::normal(&m.mount_path))).collect::<Vec<_>>()
            };
            others.flat_map(paths).collect()
        })
    }

    fn forget_unit(&self, unit: &str) {
        self.with(|w| w.units.remove(unit));
    }
}

/// One look at one pod.
pub(super) async fn sync(shared: Arc<Shared>, uid: String) -> Synced {
    let mut synced = Synced { uid: uid.clone(), wake_at_ms: None, gone: false };
    let Some((pod, stop)) = shared.with(|w| w.entries.get(&uid).map(|e| (Arc::clone(&e.pod), e.stop))) else {
        return synced;
    };
    if let Some(other) = shared.with(|w| w.predecessor(&uid)) {
        tracing::debug!(uid, other, "waits until the pod of the same name is gone");
        return synced;
    }
    let reference = PodRef { uid: uid.clone(), full_name: crate::world::full_name(&pod), pod };
    let looked = look(&shared, &reference, stop).await;
    ports::looked_at(&shared, &reference);
    match looked {
        Ok(decision) => {
            shared.with(|w| w.entries.get_mut(&uid).map(|e| e.failure = None));
            synced.wake_at_ms = decision.wake_at_ms;
            synced.gone = decision.gone;
        }
        Err(error) => {
            let text = crate::causes::causes(&error);
            let tries = shared.with(|w| {
                let entry = w.entries.get_mut(&uid)?;
                let tries = entry.failure.as_ref().map_or(0, |(_, n)| *n) + 1;
                entry.failure = Some((text.clone(), tries));
                Some(tries)
            });
            let wait = RETRY_MS.saturating_mul(1 << tries.unwrap_or(1).min(6)).min(RETRY_MAX_MS);
            shared.event(&uid, true, error.event_reason(), &text);
            synced.wake_at_ms = Some(now_ms() + wait);
        }
    }
    synced
}

/// Why a look ended early.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("observe the pod's units")]
    Observe(#[from] crate::systemd::error::BusError),
    #[error("apply")]
    Apply(#[from] apply::ApplyError),
    #[error("load the pod's history")]
    History(#[source] crate::files::FileError),
    #[error("remove what is left from before a reboot")]
    Leftovers(#[source] crate::files::RemoveError),
    #[error("report the pod's status")]
    Report(#[source] crate::files::FileError),
}

impl LookError {
    /// The event's reason: a full disk is the administrator's to mend, whatever the pod is.
    fn event_reason(&self) -> &'static str {
        match self {
            Self::Apply(apply::ApplyError::File(error)) | Self::History(error) | Self::Report(error)
                if error.is_no_space() =>
            {
                "OutOfDisk"
            }
            Self::Apply(apply::ApplyError::Stalled(_)) => plan::blocked::FAILED_MOUNT,
            Self::Observe(_) | Self::Apply(_) | Self::History(_) | Self::Report(_) | Self::Leftovers(_) => "FailedSync",
        }
    }
}

async fn look(shared: &Arc<Shared>, pod: &PodRef, stop: Option<Stop>) -> Result<Decision, LookError> {
    let history = load_history(shared, pod)?;
    let facts = shared.facts();
    let planned = match stop {
        // A pod that stops needs no plan: its history and its units say what there is.
        Some(_) => None,
        None if history.rejection.is_some() || is_over(shared, pod) => None,
        None => Some(match gather::gather(shared, pod, &history).await {
            Ok(mut gathered) => {
                // Nothing is awaited until what the plan came to is noted: no two pods are to be given the same port.
                gathered.claimants = ports::claimants(shared, pod, &history);
                let planned = begun(pod, plan_pod(pod, &gathered, &facts, &history), &history);
                ports::planned(shared, pod, &planned, &history);
                planned
            }
            Err(Missing::Stalled(stalled)) => {
                ports::stalled(shared, pod);
                Ok(waiting(pod, Blocked::new(plan::blocked::FAILED_MOUNT, stalled.to_string())))
            }
            Err(awaited @ Missing::Awaited(_)) => {
                Ok(waiting(pod, Blocked::new(CONTAINER_CREATING, awaited.to_string())))
            }
        }),
    };
    let observed = observe::observe(shared, &pod.uid, &history).await?;
    let desired = match (&planned, stop) {
        (_, Some(stop)) => Desired::Stop { requested_ms: stop.requested_ms, grace_ms: stop.grace_ms },
        (Some(Ok(plan)), None) => Desired::Run { pod: &pod.pod, plan },
        (Some(Err(_)) | None, None) => Desired::Refused,
    };
    let decision = steps(desired, &history, &observed, now_ms());
    tell(shared, pod, planned.as_ref(), decision.history.rejection.as_ref());
    if decision.gone {
        // The last status goes out before its file goes.
        if let Err(error) = report_status(shared, pod, planned.as_ref(), &decision, &observed, None) {
            // A full /run must not keep what fills it.
            tracing::warn!(uid = pod.uid, "{}", crate::causes::causes(&error));
        }
    }
    // Before the start that a pull made possible, and after the steps, which may have begun another.
    take_notes(shared, pod);
    let ends = matches!(desired, Desired::Stop { .. } | Desired::Refused);
    let applied = apply::apply(shared, pod, decision.steps.clone(), ends).await;
    take_notes(shared, pod);
    let mut happened = decision.clone();
    if applied.is_err() {
        // What was not reached did not happen: the last history saved is the true one.
        let saved = shared.with(|w| w.entries.get(&pod.uid).and_then(|e| e.history.clone()));
        happened.history = saved.unwrap_or(happened.history);
    }
    ends::tell(shared, pod, &history, &happened.history, ends);
    if !decision.gone {
        let decision = happened;
        let failure = applied.as_ref().err().map(|e| crate::causes::causes(e));
        report_status(shared, pod, planned.as_ref(), &decision, &observed, failure.as_deref())?;
    }
    applied?;
    Ok(decision)
}

fn take_notes(shared: &Shared, pod: &PodRef) {
    for note in shared.images.take_notes(&pod.uid) {
        shared.event_of(&pod.uid, Some(&note.container), note.warning, note.reason, &note.message);
    }
}

/// A pod of the cluster that has ended by the API server's word: it does not begin anew, and what still runs of it stops.
fn is_over(shared: &Shared, pod: &PodRef) -> bool {
    shared.with(|w| w.is_of_cluster(&pod.uid)) && crate::world::is_over(&pod.pod)
}

/// Whether the API server shows a container that runs.
fn says_running(pod: &Pod) -> bool {
    let status = pod.status.iter();
    let mut all = status.flat_map(|s| s.init_container_statuses.iter().chain(&s.container_statuses)).flatten();
    all.any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()))
}

type Planned = Result<PodPlan, Vec<Refusal>>;

fn plan_pod(pod: &PodRef, gathered: &Gathered, facts: &NodeFacts, history: &PodHistory) -> Planned {
    let attempts: BTreeMap<String, u32> =
        history.containers.iter().map(|(name, h)| (name.clone(), h.next_attempt())).collect();
    plan::pod::plan(&pod.pod, gathered, facts, &attempts)
}

/// A pod that was accepted once is refused no more: what is refused now is the host's doing (a symlink exchanged, a unit
/// upgraded), or another version's of this program. What runs goes on; the next start waits and says why.
fn begun(pod: &PodRef, planned: Planned, history: &PodHistory) -> Planned {
    let started = history.containers.values().any(|c| c.attempt.is_some());
    match planned {
        Err(refusals) if started => {
            let text = refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            Ok(waiting(pod, Blocked::new(plan::blocked::CREATE_CONTAINER_CONFIG_ERROR, text)))
        }
        planned => planned,
    }
}

/// What runs goes on, and nothing is begun.
fn waiting(pod: &PodRef, blocked: Blocked) -> PodPlan {
    PodPlan { blocked: Some(blocked), ..PodPlan::unplanned(&pod.pod) }
}

/// The reason of events that are the plan's remarks.
pub(crate) const NOTE: &str = "PodNote";

/// Notes, refusals and a rejection become events, each once.
fn tell(shared: &Shared, pod: &PodRef, planned: Option<&Planned>, rejection: Option<&Rejection>) {
    let once = |warning: bool, reason: &str, message: &str| {
        let known = shared.with(|w| w.entries.get(&pod.uid).is_some_and(|e| e.events.has(reason, message)));
        if !known {
            shared.event(&pod.uid, warning, reason, message);
        }
    };
    if let Some(rejection) = rejection {
        once(true, &rejection.reason, &rejection.message);
    }
    match planned {
        Some(Ok(plan)) => {
            for note in plan.notes.iter().filter(|n| matches!(n.kind, NoteKind::Warned | NoteKind::Ignored)) {
                // What its own type says is not said again.
                let text = if note.kind == NoteKind::Warned {
                    format!("{}: {}", note.path, note.text)
                } else {
                    note.to_string()
                };
                once(note.kind == NoteKind::Warned, NOTE, &text);
            }
            if let Some(blocked) = plan.blocked.as_ref().filter(|b| b.reason != CONTAINER_CREATING) {
                once(true, &blocked.reason, &blocked.message);
            }
            for container in &plan.containers {
                if let (Err(blocked), ImageState::Present(_)) = (&container.attempt, &container.image)
                    && blocked.reason != CONTAINER_CREATING
                {
                    once(true, "Failed", &format!("Error: {blocked}"));
                }
            }
        }
        Some(Err(refusals)) => {
            for refusal in refusals {
                once(true, "Unsupported", &refusal.to_string());
            }
        }
        None => {}
    }
}

fn load_history(shared: &Shared, pod: &PodRef) -> Result<PodHistory, LookError> {
    if let Some(history) = shared.with(|w| w.entries.get(&pod.uid).and_then(|e| e.history.clone())) {
        return Ok(history);
    }
    let facts = shared.facts();
    let saved = history::load(&facts.run_root, &pod.uid).map_err(LookError::History)?;
    let mut history = match saved {
        Some(history) => history,
        None => {
            let mut rebuilt = rebuild::rebuild(&facts, &pod.uid);
            if rebuilt.containers.is_empty() && shared.with(|w| w.is_of_cluster(&pod.uid)) {
                rebuild::from_cluster(&mut rebuilt, &pod.pod, now_ms());
            }
            rebuilt.made_paths = history::made_paths(&facts.state_root, &pod.uid).map_err(LookError::History)?;
            if rebuilt.containers.values().all(|container| container.exit.is_some()) {
                // Nothing of it runs: skeletons on disk are from before a reboot, or from a look that was cut short.
                let left = PodDirs::new(&facts.run_root, &facts.state_root, &pod.uid).state;
                remove_tree(&Path::new(&left).join("containers")).map_err(LookError::Leftovers)?;
            }
            rebuilt
        }
    };
    history.version = HISTORY_VERSION;
    let meta = &pod.pod.metadata;
    // An orphan whose unit files are gone has no name but the saved one.
    if let Some(name) = meta.name.clone().filter(|n| !n.is_empty()) {
        downward::namespace(&pod.pod).clone_into(&mut history.namespace);
        history.name = name;
    }
    shared.with(|w| w.entries.get_mut(&pod.uid).map(|e| e.history = Some(history.clone())));
    Ok(history)
}

fn report_status(
    shared: &Shared,
    pod: &PodRef,
    planned: Option<&Planned>,
    decision: &Decision,
    observed: &PodObserved,
    failure: Option<&str>,
) -> Result<(), LookError> {
    let facts = shared.facts();
    let previous = shared.with(|w| w.entries.get(&pod.uid).and_then(|e| e.status.clone()));
    let unplanned = PodPlan::unplanned(&pod.pod);
    let plan = match planned {
        Some(Ok(plan)) => Ok(plan),
        Some(Err(refusals)) => Err(refusals.as_slice()),
        // Nothing is known of a pod that only its units are left of.
        None if pod.pod.spec.is_none() => return report::report(shared, pod, previous).map_err(LookError::Report),
        // All there is to say of it has been said, by whoever ended it.
        None if is_over(shared, pod) && !says_running(&pod.pod) => {
            return report::report(shared, pod, pod.pod.status.clone()).map_err(LookError::Report);
        }
        None => Ok(&unplanned),
    };
    let input = StatusInput {
        pod: &pod.pod,
        plan,
        history: &decision.history,
        observed,
        failure,
        previous: previous.as_ref(),
        facts: &facts,
        now_ms: now_ms(),
    };
    report::report(shared, pod, Some(status(&input))).map_err(LookError::Report)
}
