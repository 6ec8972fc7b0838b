//! Tells of containers that ended, in the log and as events.

use std::sync::Arc;

use plan::ends::{COMPLETED, ends};
use plan::history::PodHistory;

use super::{PodRef, Shared, now_ms};
use crate::world::Origin;

/// Tells of the ends that `after` knows and `before` did not. `stops`: it is the agent that ends the pod.
pub(super) fn tell(shared: &Shared, pod: &PodRef, before: &PodHistory, after: &PodHistory, stops: bool) {
    let refused: Vec<(String, u32)> = shared.with(|w| {
        let entry = w.entries.get(&pod.uid);
        entry.into_iter().flat_map(|e| &e.refused).map(|(name, refusal)| (name.clone(), refusal.attempt)).collect()
    });
    for told in ends(&pod.pod, before, after, stops, &refused) {
        let of_cluster = shared.with(|w| {
            let entry = w.entries.get_mut(&pod.uid)?;
            let name = entry.full_name();
            entry.events.record_end(&name, told.warning, told.reason, &told.message, told.ran, now_ms());
            (entry.origin == Origin::Cluster).then(|| Arc::clone(&entry.pod))
        });
        // A good end is in the status, and a kubelet says no more of it.
        if told.reason != COMPLETED {
            shared.event_in_cluster(of_cluster, Some(&told.container), told.warning, told.reason, &told.message);
        }
    }
}
