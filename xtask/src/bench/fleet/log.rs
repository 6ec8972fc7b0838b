//! The audit log of the API server: what all nodes asked for, and what can be told from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use e2e::control_plane::{AuditEvent, ControlPlane};

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The time over which a rate's peak is taken.
pub(super) const PEAK: f64 = 10.0;

/// A Lease is renewed every 10 s; when two renewals are further apart than this, one was left out.
const MISSED: f64 = 20.0;

/// What was asked for within a time.
pub(super) struct Log {
    from: f64,
    to: f64,
    /// All lines, of everybody.
    all: Vec<AuditEvent>,
}

fn node(event: &AuditEvent) -> Option<&str> {
    event.user.username.strip_prefix("system:node:")
}

fn is_lease(event: &AuditEvent) -> bool {
    event.object_ref.resource == "leases"
}

impl Log {
    pub(super) fn read(cluster: &ControlPlane, from: f64, to: f64) -> Result<Self> {
        Ok(Self { from, to, all: cluster.audit()? })
    }

    pub(super) fn seconds(&self) -> f64 {
        self.to - self.from
    }

    /// The nodes' requests within the time, each once.
    pub(super) fn requests(&self) -> impl Iterator<Item = &AuditEvent> {
        let within = self.from..self.to;
        self.all.iter().filter(move |e| within.contains(&e.received) && e.is_request() && node(e).is_some())
    }

    /// How many of each kind there were.
    pub(super) fn kinds(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        self.requests().for_each(|event| *kinds.entry(event.what()).or_default() += 1);
        kinds
    }

    /// The requests of the worst [`PEAK`] seconds.
    fn worst(&self) -> Vec<&AuditEvent> {
        let mut all: Vec<&AuditEvent> = self.requests().collect();
        all.sort_by(|a, b| a.received.total_cmp(&b.received));
        let within = |first: usize| first + all[first..].partition_point(|e| e.received < all[first].received + PEAK);
        let worst = (0..all.len()).map(|first| first..within(first)).max_by_key(ExactSizeIterator::len);
        worst.map_or_else(Vec::new, |worst| all.drain(worst).collect())
    }

    /// Requests per second in the worst [`PEAK`] seconds.
    pub(super) fn peak(&self) -> f64 {
        super::count(self.worst().len()) / PEAK
    }

    /// How many of each kind there were in these, and how they were answered.
    pub(super) fn worst_kinds(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for event in self.worst() {
            *kinds.entry(format!("{} {}", event.what(), event.response_status.code)).or_default() += 1;
        }
        kinds
    }

    /// Watches that were open at the end.
    pub(super) fn watches(&self) -> usize {
        let watch = |e: &&AuditEvent| e.verb == "watch" && e.received < self.to && node(e).is_some();
        let begun = self.all.iter().filter(watch).filter(|e| e.stage == "ResponseStarted").count();
        let over =
            self.all.iter().filter(watch).filter(|e| e.stage == "ResponseComplete" && e.reached < self.to).count();
        begun.saturating_sub(over)
    }

    /// Renewals of Leases that were accepted, by node: when, and how long the API server took.
    pub(super) fn beats(&self) -> BTreeMap<&str, Vec<(f64, f64)>> {
        let mut beats: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
        let writes = self.requests().filter(|e| is_lease(e) && e.verb != "get" && e.response_status.code < 300);
        for event in writes {
            beats
                .entry(node(event).unwrap_or_default())
                .or_default()
                .push((event.received, event.reached - event.received));
        }
        beats
    }

    /// The longest time between two heartbeats of a node, and how many were left out.
    pub(super) fn gaps(&self) -> (f64, usize) {
        let mut longest: f64 = 0.0;
        let mut missed = 0;
        for times in self.beats().values() {
            for pair in times.windows(2) {
                let gap = pair[1].0 - pair[0].0;
                longest = longest.max(gap);
                missed += usize::from(gap > MISSED);
            }
        }
        (longest, missed)
    }

    /// The time in which 99 of 100 Leases were renewed at the API server, in ms.
    pub(super) fn lease_p99(&self) -> f64 {
        let mut took: Vec<f64> = self.beats().into_values().flatten().map(|(_, took)| took * 1000.0).collect();
        took.sort_by(f64::total_cmp);
        let last = took.len().saturating_sub(1);
        took.get(last - last / 100).copied().unwrap_or(f64::NAN)
    }

    /// When the API server first answered anybody.
    pub(super) fn first_answer(&self) -> f64 {
        let answers = self.all.iter().filter(|e| e.received >= self.from).map(|e| e.reached);
        answers.fold(f64::INFINITY, f64::min)
    }

    /// When the last of the nodes had renewed its Lease; and how many nodes did.
    pub(super) fn all_beat(&self) -> (f64, usize) {
        let beats = self.beats();
        let first = beats.values().filter_map(|times| times.first().map(|(at, _)| *at));
        (first.fold(0.0, f64::max), beats.len())
    }

    /// Lists that the API server has to read from etcd for: neither from its memory nor as the beginning of a watch.
    pub(super) fn plain_lists(&self) -> usize {
        self.requests().filter(|event| event.is_plain_list()).count()
    }

    /// How often a node was told all that there is, by node and kind.
    pub(super) fn relists(&self) -> BTreeMap<(String, String), usize> {
        let mut relists = BTreeMap::new();
        // Some are refused while a new server does not yet know who may what.
        let answered = self.requests().filter(|event| event.response_status.code < 300);
        for event in answered.filter(|event| event.asks_for_all()) {
            let key = (event.user.username.clone(), event.object_ref.resource.clone());
            *relists.entry(key).or_default() += 1;
        }
        relists
    }

    /// Nodes that a controller gave up, and when the last of them had said otherwise.
    pub(super) fn given_up(&self) -> (usize, f64) {
        let by_controller = |e: &&AuditEvent| {
            e.user.username.ends_with(":node-controller")
                && e.object_ref.resource == "nodes"
                && e.object_ref.subresource == "status"
        };
        let within = self.all.iter().filter(|e| (self.from..self.to).contains(&e.received) && e.is_request());
        let names: BTreeSet<&str> = within.filter(by_controller).map(|e| e.object_ref.name.as_str()).collect();
        let own = self.requests().filter(|e| e.what() == "patch nodes/status" && e.response_status.code == 200);
        let last = own.filter(|e| names.contains(e.object_ref.name.as_str())).map(|e| e.reached).fold(0.0, f64::max);
        (names.len(), last)
    }
}
