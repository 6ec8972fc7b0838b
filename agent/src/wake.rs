//! Every reason to look at a pod again: a closed set. A wake carries no facts, only who to look at; the loop reads the rest.

use plan::observed::UnitState;

use crate::cluster::pods::PodEvent;
use crate::manifests::Snapshot;
use crate::systemd::signals::UnitEvent;

/// One reason.
#[derive(Debug)]
pub(crate) enum Wake {
    /// A source says what should run.
    Source(Box<Snapshot>),
    /// The API server says what it has of a pod.
    Cluster(PodEvent),
    /// systemd says that something happened to a unit.
    Unit(UnitEvent),
    /// A pull or install ended, or a job did: look at this pod.
    Pod(String),
    /// One look at a pod is over.
    Synced(Box<Synced>),
    /// The slow relist: what systemd has, in case a signal was lost.
    Listed(Vec<UnitState>),
}

/// What one look at a pod came to.
#[derive(Debug)]
pub(crate) struct Synced {
    /// The pod.
    pub(crate) uid: String,
    /// Look again then, in milliseconds since the epoch.
    pub(crate) wake_at_ms: Option<i64>,
    /// Nothing of the pod is left.
    pub(crate) gone: bool,
}
