//! The end of a pod: every unit is asked to stop, killed at the deadline, and then everything is removed.

use super::{Step, Steps};
use crate::attempt::{AttemptObserved, Verdict, is_stopping};
use crate::history::Deletion;

/// How long after a SIGKILL the agent looks again, should no signal come.
const AFTER_KILL_MS: i64 = 2_000;

/// What the containers of a refused pod get; its own grace may be what it was refused for.
const REFUSED_GRACE_MS: i64 = 30_000;

impl Steps<'_> {
    /// Stops what runs of a refused pod; its volumes and history stay until it is deleted.
    pub(super) fn refuse(&mut self) {
        if !self.live().is_empty() {
            self.deadline(self.now_ms, REFUSED_GRACE_MS);
        }
        self.save();
        self.stop_live();
        self.clean_ended();
    }

    /// Stops the pod. True when the steps remove the last of it.
    pub(super) fn stop(&mut self, requested_ms: i64, grace_ms: i64) -> bool {
        self.deadline(requested_ms, grace_ms);
        self.save();
        if !self.live().is_empty() {
            self.stop_live();
            return false;
        }
        let attempts: Vec<(String, u32)> =
            self.history.containers.iter().filter_map(|(c, h)| h.attempt.map(|a| (c.clone(), a))).collect();
        for (container, attempt) in attempts {
            let unit = self.unit_name(&container, attempt);
            self.steps.push(Step::CleanAttempt { unit, container, attempt });
        }
        let made_paths = self.history.made_paths.clone();
        self.steps.push(Step::RemovePod { uid: self.history.uid.clone(), made_paths });
        true
    }

    /// A stop that is under way keeps what is left of its grace over a restart of the agent; it may be shortened. So a clock
    /// that was put back cannot lengthen it beyond the grace.
    fn deadline(&mut self, requested_ms: i64, grace_ms: i64) {
        let deadline_ms = self.now_ms.saturating_add(grace_ms.max(0));
        self.history.deletion = Some(match self.history.deletion {
            Some(known) => Deletion { deadline_ms: known.deadline_ms.min(deadline_ms), ..known },
            None => Deletion { requested_ms, deadline_ms },
        });
    }

    /// The containers whose unit has processes or is about to: attempt, and whether it is being stopped.
    fn live(&self) -> Vec<(String, u32, bool)> {
        let mut live = Vec::new();
        for (container, history) in &self.history.containers {
            let Some(attempt) = history.attempt else { continue };
            // Also one whose end is known already: somebody started it again.
            if let Some(unit) = self.seen(container).and_then(AttemptObserved::live_unit) {
                live.push((container.clone(), attempt, is_stopping(unit)));
                continue;
            }
            match self.verdict(container) {
                Verdict::NotStarted | Verdict::Ended(_) => {}
                Verdict::Starting => live.push((container.clone(), attempt, false)),
                Verdict::Running { stopping, .. } => live.push((container.clone(), attempt, stopping)),
            }
        }
        live
    }

    /// Asks every live unit to stop, once; after the deadline what is left is killed.
    fn stop_live(&mut self) {
        let live = self.live();
        let Some(Deletion { deadline_ms, .. }) = self.history.deletion.filter(|_| !live.is_empty()) else { return };
        let over = self.now_ms >= deadline_ms;
        for (container, attempt, stopping) in live {
            let unit = self.unit_name(&container, attempt);
            if !stopping {
                self.steps.push(Step::StopUnit { unit: unit.clone(), container: container.clone() });
            }
            if over {
                self.steps.push(Step::KillUnit { unit, container });
            }
        }
        self.wake_at(if over { self.now_ms + AFTER_KILL_MS } else { deadline_ms });
    }
}
