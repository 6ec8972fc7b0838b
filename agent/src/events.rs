//! What the user is told of a pod, as Kubernetes events: the last few, repeats counted, in the pod's status file and the log.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// So many of a pod are kept.
const KEPT: usize = 40;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event {
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// `Pulling`, `Started`, `BackOff`, …
    pub(crate) reason: String,
    /// One sentence.
    pub(crate) message: String,
    /// How often, and when last; milliseconds since the epoch.
    pub(crate) count: u32,
    pub(crate) last_ms: i64,
}

/// A pod's events, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Events {
    pub(crate) list: VecDeque<Event>,
}

impl Events {
    /// Notes an event; the same one again is counted.
    pub(crate) fn record(&mut self, pod: &str, warning: bool, reason: &str, message: &str, now_ms: i64) {
        let message: String =
            message.chars().take(1024).map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
        let kind = if warning { "Warning" } else { "Normal" };
        let known = self.list.iter().position(|e| e.kind == kind && e.reason == reason && e.message == message);
        if let Some(mut event) = known.and_then(|at| self.list.remove(at)) {
            event.count = event.count.saturating_add(1);
            event.last_ms = now_ms;
            self.list.push_back(event);
            return;
        }
        if warning {
            tracing::warn!(pod, reason, "{pod}: {message}");
        } else {
            tracing::info!(pod, reason, "{pod}: {message}");
        }
        self.list.push_back(Event {
            kind: kind.to_owned(),
            reason: reason.to_owned(),
            message,
            count: 1,
            last_ms: now_ms,
        });
        while self.list.len() > KEPT {
            self.list.pop_front();
        }
    }

    /// Whether an event of that reason and message was noted.
    pub(crate) fn has(&self, reason: &str, message: &str) -> bool {
        self.list.iter().any(|e| e.reason == reason && e.message == message)
    }
}
