//! Tells of containers that ended, in the log and as events.

use plan::ends::ends;
use plan::history::PodHistory;

use super::{PodRef, Shared};

/// Tells of the ends that `after` knows and `before` did not. `stops`: it is the agent that ends the pod.
pub(super) fn tell(shared: &Shared, pod: &PodRef, before: &PodHistory, after: &PodHistory, stops: bool) {
    let refused: Vec<(String, u32)> = shared.with(|w| {
        let entry = w.entries.get(&pod.uid);
        entry.into_iter().flat_map(|e| &e.refused).map(|(name, refusal)| (name.clone(), refusal.attempt)).collect()
    });
    for told in ends(&pod.pod, before, after, stops, &refused) {
        shared.with(|w| {
            if let Some(entry) = w.entries.get_mut(&pod.uid) {
                let name = entry.full_name();
                entry.events.record_end(
                    &name,
                    told.warning,
                    told.reason,
                    &told.message,
                    told.ran,
                    crate::reconcile::now_ms(),
                );
            }
        });
    }
}
