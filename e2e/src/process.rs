//! A process of the machine that outlives the program which started it, told apart from a later one with its id.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// A process: its id and when it started, as ids are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// Field 22 of its stat file: ticks since the machine's boot.
    pub started: u64,
}

impl Process {
    /// The process that has this id now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let fields = stat(pid)?;
        // State is the first field after the name; a zombie is gone already.
        let alive = !matches!(fields.first()?.as_str(), "Z" | "X");
        alive.then_some(Self { pid, started: fields.get(19)?.parse().ok()? })
    }

    /// The one child of this process.
    pub(crate) fn child(self) -> Option<Self> {
        let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let parent = self.pid.to_string();
        pids.filter(|pid| stat(*pid).is_some_and(|fields| fields.get(1) == Some(&parent))).find_map(Self::of)
    }

    /// Whether it still runs.
    pub fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Kills it, if it still runs.
    pub(crate) fn kill(self) {
        self.signal(Signal::KILL);
    }

    /// Sends it a signal, if it still runs.
    pub(crate) fn signal(self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid.cast_signed()).filter(|_| self.alive()) {
            // Gone in between: what a signal would have reached is not there.
            kill_process(pid, signal).ok();
        }
    }
}

/// The fields of a stat file from the third (state) on: the second is a name that may hold spaces and brackets.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}
