//! What the loop keeps in memory between two looks: the pods that should run, the objects they use, the last word on each
//! unit. All of it can be lost: it is rebuilt from the source, from systemd and from the histories.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodStatus, Secret};
use plan::admission::{Standing, standing};
use plan::attempt::StartRefusal;
use plan::fields::downward;
use plan::history::PodHistory;
use plan::observed::{JobResult, UnitChange, UnitJob, UnitState};

use crate::events::Events;
use crate::manifests::{Snapshot, is_among};

mod cluster;

pub(crate) use cluster::is_over;

/// A pod that is known, wanted or not.
pub(crate) struct Entry {
    /// As its source gave it; for an orphan, what its units say of it.
    pub(crate) pod: Arc<Pod>,
    /// Who wants it.
    pub(crate) origin: Origin,
    /// When it came, or when the pod did that it is the successor of: its place among those that claim the same ports.
    pub(crate) since_ms: i64,
    /// What this agent knows of its ports.
    pub(crate) ports: Ports,
    /// Run, or stop since when with how much grace.
    pub(crate) stop: Option<Stop>,
    /// It was put back while it stops, with its source: it is started anew once it is gone.
    pub(crate) again: Option<(Pod, Origin)>,
    /// The saved history; None before the first look.
    pub(crate) history: Option<PodHistory>,
    /// By container: what systemd would not start.
    pub(crate) refused: BTreeMap<String, StartRefusal>,
    /// The status last reported.
    pub(crate) status: Option<PodStatus>,
    /// What the last round's effects failed with, and how many rounds in a row.
    pub(crate) failure: Option<(String, u32)>,
    /// What the user is told.
    pub(crate) events: Events,
    /// A look is under way.
    pub(crate) running: bool,
    /// Something happened while it was.
    pub(crate) dirty: bool,
    /// Look again then; milliseconds since the epoch.
    pub(crate) wake_at_ms: Option<i64>,
}

/// Who wants a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This file of a manifest directory.
    Manifest(String),
    /// The API server.
    Cluster,
    /// The API server did, and has forgotten it: nothing more is to be told of it there.
    Forgotten,
    /// Nobody: only what is left of it is known.
    Orphan,
}

impl Origin {
    /// The manifest; empty where there is none.
    pub(crate) fn file(&self) -> &str {
        match self {
            Self::Manifest(file) => file,
            Self::Cluster | Self::Forgotten | Self::Orphan => "",
        }
    }
}

/// What became of a pod's claim to ports of the host in this life of the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ports {
    /// Its history knows.
    #[default]
    Unknown,
    /// It waits for another pod's.
    Waits,
    /// It was admitted.
    Held,
    /// It was refused or rejected, its look stalled before it was admitted, or it has ended for good.
    Free,
}

/// A stop that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) requested_ms: i64,
    pub(crate) grace_ms: i64,
}

impl Stop {
    /// Asked for now, with so many seconds of grace.
    pub(crate) fn asked(now_ms: i64, grace_s: i64) -> Self {
        Self { requested_ms: now_ms, grace_ms: grace_s.saturating_mul(1000) }
    }
}

impl Entry {
    /// A pod just seen.
    pub(crate) fn new(pod: Pod, origin: Origin, since_ms: i64) -> Self {
        Self {
            pod: Arc::new(pod),
            origin,
            since_ms,
            ports: Ports::Unknown,
            stop: None,
            again: None,
            history: None,
            refused: BTreeMap::new(),
            status: None,
            failure: None,
            events: Events::default(),
            running: false,
            dirty: false,
            wake_at_ms: None,
        }
    }

    /// Nothing wants it any more: it has its grace.
    fn stop(&mut self, now_ms: i64) {
        self.stop = Some(Stop::asked(now_ms, self.own_grace_s()));
    }

    /// The grace that its spec gives it, in seconds.
    fn own_grace_s(&self) -> i64 {
        self.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30)
    }

    /// Its place in line, which its successor takes over: an edit must not lose a pod its ports to one that waits for them.
    fn place_ms(&self) -> i64 {
        self.history.as_ref().and_then(|h| h.ports.as_ref()).map_or(self.since_ms, |p| p.since_ms)
    }

    /// `namespace/name`.
    pub(crate) fn full_name(&self) -> String {
        full_name(&self.pod)
    }
}

/// `namespace/name`.
pub(crate) fn full_name(pod: &Pod) -> String {
    format!("{}/{}", downward::namespace(pod), pod.metadata.name.as_deref().unwrap_or_default())
}

/// The last word on one unit.
#[derive(Debug, Default)]
pub(crate) struct KnownUnit {
    /// Its pod.
    pub(crate) uid: String,
    /// None: systemd has to be asked.
    pub(crate) state: Option<UnitState>,
    /// Counts what signals said: an answer that was asked for before the last of them is not kept.
    pub(crate) heard: u64,
    /// How the start that this agent asked for ended.
    pub(crate) start_job: Option<JobResult>,
}

impl KnownUnit {
    /// systemd has queued a stop as this job: until its signals come, no look asks for another one.
    pub(crate) fn stop_accepted(&mut self, id: u32) {
        if let Some(state) = &mut self.state {
            state.job = Some(UnitJob { id, kind: "stop".to_owned() });
        }
    }

    /// What has become of it. A stop ends here, not with its job.
    pub(crate) fn changed(&mut self, change: &UnitChange) {
        self.heard += 1;
        if let Some(state) = &mut self.state {
            change.apply_to(state);
            let over = is_down(state);
            state.job.take_if(|job| over && job.kind == "stop");
        }
    }

    /// systemd has forgotten it. Its last state stands, unless its end was not among the signals.
    pub(crate) fn removed(&mut self) {
        self.heard += 1;
        self.state.take_if(|state| !is_down(state));
    }

    /// A job of it is gone. systemd says so before it says what has become of the unit, with the end of the program, which a
    /// question would not tell: until then a stop that is done counts as under way.
    pub(crate) fn job_removed(&mut self, id: u32, done: bool) {
        self.heard += 1;
        self.job_over(id, done);
    }

    fn job_over(&mut self, id: u32, done: bool) {
        // Its result comes to whom asked for the job. 0: the answer to that is still on its way.
        if let Some(state) = &mut self.state {
            let over = is_down(state);
            state.job.take_if(|job| (job.id == id || job.id == 0) && (job.kind != "stop" || over || !done));
        }
    }

    /// The stop that was asked for is over; its signals may have come before systemd's answer. One that did not stop the unit
    /// says no more of it.
    pub(crate) fn stop_ended(&mut self, id: u32, done: bool) {
        if done {
            self.job_over(id, done);
        } else {
            self.state = None;
        }
    }

    /// The signals of a stop that was done have had their time: if they have not come, systemd is asked. Whether that is so.
    pub(crate) fn stop_untold(&mut self, id: u32) -> bool {
        let untold = self.state.as_ref().and_then(|state| state.job.as_ref()).is_some_and(|job| job.id == id);
        if untold {
            self.state = None;
        }
        untold
    }
}

fn is_down(state: &UnitState) -> bool {
    matches!(state.active_state.as_str(), "inactive" | "failed")
}

/// Everything.
#[derive(Default)]
pub(crate) struct World {
    /// By uid.
    pub(crate) entries: HashMap<String, Entry>,
    /// By name.
    pub(crate) units: HashMap<String, KnownUnit>,
    pub(crate) config_maps: BTreeMap<(String, String), ConfigMap>,
    pub(crate) secrets: BTreeMap<(String, String), Secret>,
    /// What was last said of the manifests.
    pub(crate) manifest_remarks: BTreeSet<String>,
    /// Manifests, or directories of them, that cannot be read: what is from there is left alone.
    pub(crate) unreadable: Vec<PathBuf>,
    /// Pods that run and are in no manifest that can be read, nor to be removed.
    pub(crate) left_alone: BTreeSet<String>,
    /// The first snapshot of the manifests has come.
    pub(crate) manifests_known: bool,
    /// Pods come from an API server too.
    pub(crate) in_cluster: bool,
    /// Its first list has come.
    pub(crate) cluster_known: bool,
    /// Nothing is left of these here, which the API server has yet to take note of.
    pub(crate) gone: BTreeSet<String>,
    /// The API server's images of pods that are from manifests, by full name.
    pub(crate) mirrors: BTreeMap<String, Arc<Pod>>,
    /// They, or the pods of manifests, have changed since that was last asked.
    pub(crate) mirrors_changed: bool,
}

impl World {
    /// Every source has said what it wants: all else may be removed.
    pub(crate) fn sources_known(&self) -> bool {
        self.manifests_known && (self.cluster_known || !self.in_cluster)
    }

    /// The API server wants it.
    pub(crate) fn is_of_cluster(&self, uid: &str) -> bool {
        self.entries.get(uid).is_some_and(|entry| entry.origin == Origin::Cluster)
    }

    /// Takes over what a source says; gives the uids to look at.
    pub(crate) fn take_snapshot(&mut self, snapshot: Snapshot, now_ms: i64) -> BTreeSet<String> {
        let mut touched = BTreeSet::new();
        let objects_changed = snapshot.config_maps != self.config_maps || snapshot.secrets != self.secrets;
        self.unreadable = snapshot.errors.into_iter().map(|(path, _)| path).collect();
        self.config_maps = snapshot.config_maps;
        self.secrets = snapshot.secrets;
        let of_cluster = |entry: &Entry| matches!(entry.origin, Origin::Cluster | Origin::Forgotten);
        for (uid, entry) in self.entries.iter_mut().filter(|(_, entry)| !of_cluster(entry)) {
            let unwanted = !snapshot.pods.contains_key(uid) && !is_among(self.unreadable.iter(), entry.origin.file());
            if unwanted && entry.stop.is_none() {
                entry.stop(now_ms);
                touched.insert(uid.clone());
            } else if objects_changed {
                touched.insert(uid.clone());
            }
            // The newest snapshot's word counts: it may have been put back and removed again while it stops.
            entry.again = None;
        }
        let stopping = self.entries.values().filter(|e| e.stop.is_some());
        let places: BTreeMap<String, i64> = stopping.map(|e| (e.full_name(), e.place_ms())).collect();
        for (uid, (pod, source)) in snapshot.pods {
            let origin = Origin::Manifest(source.display().to_string());
            match self.entries.get_mut(&uid) {
                Some(entry) if of_cluster(entry) => {
                    tracing::warn!(uid, "{}: its uid is that of a pod of the cluster: not used", source.display());
                }
                Some(entry) if entry.stop.is_some() => entry.again = Some((pod, origin)),
                // A manifest that gives its own uid was edited: what runs is stopped, and the new pod begun when it is gone.
                Some(entry) if *entry.pod != pod => {
                    entry.stop(now_ms);
                    entry.again = Some((pod, origin));
                    touched.insert(uid);
                }
                Some(entry) => entry.origin = origin,
                None => {
                    let since_ms = places.get(&full_name(&pod)).copied().unwrap_or(now_ms);
                    self.entries.insert(uid.clone(), Entry::new(pod, origin, since_ms));
                    touched.insert(uid);
                }
            }
        }
        self.manifests_known = true;
        self.mirrors_changed = true;
        touched
    }

    /// Takes in what is left of a pod that stops, with its place in line if it is of a manifest and had one. The agent that sees
    /// a manifest edited may be another than the one that knew what it said before: the place goes to the successor all the
    /// same.
    pub(crate) fn adopt(&mut self, uid: String, orphan: Entry, place_ms: Option<i64>) {
        let name = orphan.full_name();
        if let Some(place_ms) = place_ms {
            let is_next =
                |e: &Entry| e.stop.is_none() && matches!(e.origin, Origin::Manifest(_)) && e.full_name() == name;
            let successors = self.entries.values_mut().filter(|e| is_next(e));
            successors.for_each(|successor| successor.since_ms = successor.since_ms.min(place_ms));
        }
        self.entries.insert(uid, orphan);
    }

    /// Forgets a pod of which nothing is left; one that was put back meanwhile begins anew.
    pub(crate) fn forget(&mut self, uid: &str) {
        self.units.retain(|_, unit| unit.uid != uid);
        let Some(entry) = self.entries.remove(uid) else { return };
        let place_ms = entry.place_ms();
        if let Some((pod, origin)) = entry.again {
            self.entries.insert(uid.to_owned(), Entry::new(pod, origin, place_ms));
        }
    }

    /// Notes what became of a pod's claim to ports; gives the uids to look at, as what they wait for may have changed.
    pub(crate) fn settle_ports(&mut self, uid: &str, ports: Ports) -> Vec<String> {
        let Some(entry) = self.entries.get_mut(uid) else { return Vec::new() };
        let known = std::mem::replace(&mut entry.ports, ports);
        if known == ports || ports == Ports::Waits {
            return Vec::new();
        }
        let waiting = self.entries.iter().filter(|(_, e)| e.ports == Ports::Waits);
        waiting.map(|(uid, _)| uid.clone()).collect()
    }

    /// Whether a pod was admitted, by this agent or by the one before it.
    pub(crate) fn holds_ports(&self, uid: &str) -> bool {
        let Some(entry) = self.entries.get(uid) else { return false };
        let by_history = || entry.history.as_ref().and_then(|h| standing(&entry.pod, h, false));
        entry.ports == Ports::Held || by_history() == Some(Standing::Holds)
    }

    /// Whether another pod of the same name still stops: this one waits until that one is gone.
    pub(crate) fn predecessor(&self, uid: &str) -> Option<String> {
        let entry = self.entries.get(uid)?;
        // One that stops itself waits for nobody, else two of them would wait for each other.
        let name = entry.stop.is_none().then(|| entry.full_name())?;
        let mut stopping = self.entries.iter().filter(|(other, e)| e.stop.is_some() && other.as_str() != uid);
        stopping.find(|(_, e)| e.full_name() == name).map(|(other, _)| other.clone())
    }

    /// The earliest time at which some pod wants to be looked at.
    pub(crate) fn next_wake_ms(&self) -> Option<i64> {
        self.entries.values().filter(|e| !e.running).filter_map(|e| e.wake_at_ms).min()
    }
}

#[cfg(test)]
mod tests;
