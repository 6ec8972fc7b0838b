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
    /// It tells of the end of a run, which the container's status shows too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) ended: bool,
}

/// A pod's events, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Events {
    pub(crate) list: VecDeque<Event>,
}

impl Events {
    /// Notes an event; the same one again is counted.
    pub(crate) fn record(&mut self, pod: &str, warning: bool, reason: &str, message: &str, now_ms: i64) {
        let message = cleaned(message);
        if !self.count(warning, reason, &message, now_ms) {
            log(pod, warning, reason, &message);
            self.add(warning, reason, message, now_ms, false);
        }
    }

    /// Notes the end of a container: also one like the last is another, and in the log.
    pub(crate) fn record_end(
        &mut self,
        pod: &str,
        warning: bool,
        reason: &str,
        message: &str,
        ended: bool,
        now_ms: i64,
    ) {
        let message = cleaned(message);
        log(pod, warning, reason, &message);
        if !self.count(warning, reason, &message, now_ms) {
            self.add(warning, reason, message, now_ms, ended);
        }
    }

    /// Counts an event that is known; false: it is not.
    fn count(&mut self, warning: bool, reason: &str, message: &str, now_ms: i64) -> bool {
        let kind = kind(warning);
        let known = self.list.iter().position(|e| e.kind == kind && e.reason == reason && e.message == message);
        let Some(mut event) = known.and_then(|at| self.list.remove(at)) else { return false };
        event.count = event.count.saturating_add(1);
        event.last_ms = now_ms;
        self.list.push_back(event);
        true
    }

    fn add(&mut self, warning: bool, reason: &str, message: String, now_ms: i64, ended: bool) {
        self.list.push_back(Event {
            kind: kind(warning).to_owned(),
            reason: reason.to_owned(),
            message,
            count: 1,
            last_ms: now_ms,
            ended,
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

fn kind(warning: bool) -> &'static str {
    if warning { "Warning" } else { "Normal" }
}

fn cleaned(message: &str) -> String {
    message.chars().take(1024).map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

fn log(pod: &str, warning: bool, reason: &str, message: &str) {
    if warning {
        tracing::warn!(pod, reason, "{pod}: {message}");
    } else {
        tracing::info!(pod, reason, "{pod}: {message}");
    }
}
