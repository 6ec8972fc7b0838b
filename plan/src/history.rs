//! What neither the API server nor systemd remembers of a pod: attempts, ends, deadlines, what was written where.
//!
//! The agent keeps it as versioned JSON in `/run/systemk/pods/<uid>/history.json`. `steps()` computes each new value;
//! the agent only saves it, always before the effect that it announces.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::admission::{PortHistory, Rejection};

/// The version that this build writes; the one before it can still be read.
pub const HISTORY_VERSION: u32 = 1;

/// A pod's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodHistory {
    /// [`HISTORY_VERSION`] of the writer.
    pub version: u32,
    /// The pod's uid.
    pub uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// When this node first saw the pod: `status.startTime`.
    pub started_ms: i64,
    /// The stop that is under way.
    pub deletion: Option<Deletion>,
    /// Its place among the pods that claim the same ports; None: it claims none, or was not looked at yet.
    pub ports: Option<PortHistory>,
    /// Why it was rejected, which stands for as long as the pod does.
    pub rejection: Option<Rejection>,
    /// The records of its last run on this node were lost, as by a reboot: what its init containers made may be gone too, so
    /// they run again before the next start.
    pub anew: bool,
    /// By volume name: the hash of what was last written.
    pub volumes: BTreeMap<String, String>,
    /// Mount points made below writable host paths, deepest last; they go with the pod.
    pub made_paths: Vec<String>,
    /// By container name.
    pub containers: BTreeMap<String, ContainerHistory>,
}

/// A stop that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// When it was asked for.
    pub requested_ms: i64,
    /// When what is left gets SIGKILL. It can move while the stop is under way.
    pub deadline_ms: i64,
}

/// One container's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerHistory {
    /// The number of the newest attempt; None before the first.
    pub attempt: Option<u32>,
    /// The newest attempt's end, once it is known. None while it runs or before it starts.
    pub exit: Option<Exit>,
    /// What is known of the newest attempt's run since it was first seen; None before its program ran.
    pub run: Option<Run>,
    /// The end of the last run before that: `lastState`. Attempts that never ran leave it alone.
    pub previous: Option<Exit>,
    /// How often the container was started again after it had run: its runs but the first.
    pub restart_count: u32,
    /// The delay before the next start, counted from the last end.
    pub backoff: crate::backoff::RestartBackoff,
    /// The package that the newest attempt runs: another agent must know it before it installs anything.
    pub package: Option<PackageUse>,
}

/// An installed package that a container was started from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PackageUse {
    /// Its name.
    pub name: String,
    /// The version that was installed then.
    pub version: String,
}

/// One run of a unit, as it was first seen. Another invocation in its place was started by somebody else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Run {
    /// systemd's invocation id; empty where only the end of the run was seen and that did not say.
    pub invocation: String,
    /// When its program started; 0 if that is not known.
    pub started_ms: i64,
}

/// The end of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Exit {
    /// Which attempt.
    pub attempt: u32,
    /// systemd's invocation id, by which the journal is asked for its lines.
    pub invocation: String,
    /// When the program started, 0 if it never did.
    pub started_ms: i64,
    /// When it ended.
    pub finished_ms: i64,
    /// 0..=255; 128 + n for signal n.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`, …
    pub reason: String,
    /// What a person reads.
    pub message: String,
    /// The unit never got as far as a program: the pod shows the container as waiting with this reason.
    pub never_ran: bool,
}

impl ContainerHistory {
    /// The number that the next start gets: a new one once the newest attempt has ended.
    pub fn next_attempt(&self) -> u32 {
        match (self.attempt, &self.exit) {
            (None, _) => 0,
            (Some(n), None) => n,
            (Some(n), Some(_)) => n + 1,
        }
    }

    /// Notes that an attempt begins: the run before it becomes `lastState`.
    pub(crate) fn begin(&mut self, attempt: u32) {
        if self.attempt == Some(attempt) {
            return;
        }
        self.attempt = Some(attempt);
        self.run = None;
        if let Some(exit) = self.exit.take().filter(|e| !e.never_ran) {
            self.previous = Some(exit);
        }
    }

    /// Notes that the newest attempt's program runs or ran. Only the first word of a run counts as a restart.
    pub(crate) fn see_run(&mut self, run: Run) {
        match &mut self.run {
            Some(known) if known.started_ms == 0 && known.invocation == run.invocation => {
                known.started_ms = run.started_ms;
            }
            Some(_) => {}
            None => {
                self.restart_count += u32::from(self.previous.is_some());
                self.run = Some(run);
            }
        }
    }

    /// Notes the end of the newest attempt. A program that was seen has run, whatever its unit says of it now.
    pub(crate) fn end(&mut self, mut exit: Exit, now_ms: i64) {
        exit.never_ran &= self.run.is_none();
        exit.finished_ms = exit.finished_ms.min(now_ms);
        if !exit.never_ran {
            self.see_run(Run { invocation: exit.invocation.clone(), started_ms: exit.started_ms });
        }
        if let Some(run) = self.run.as_ref().filter(|_| exit.started_ms == 0) {
            exit.started_ms = run.started_ms;
        }
        // A program that was over before systemd told of its start has run, for less than can be told.
        if exit.started_ms == 0 && !exit.never_ran && exit.reason != "ContainerStatusUnknown" {
            exit.started_ms = exit.finished_ms;
        }
        let ran_ms = if exit.started_ms > 0 { exit.finished_ms - exit.started_ms } else { 0 };
        self.backoff.on_exit(ran_ms);
        self.exit = Some(exit);
    }

    /// Notes that somebody else started the newest attempt's unit again after `exit`: one end and one restart.
    pub(crate) fn restarted(&mut self, exit: Exit, run: Run, now_ms: i64) {
        self.end(exit, now_ms);
        self.previous = self.exit.take();
        self.run = None;
        self.see_run(run);
    }
}
