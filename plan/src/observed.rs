//! What systemd says about a unit, as plain data: the input of `steps()` and `status()`. The agent fills it in, nothing here asks.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One unit's properties at one moment, named as systemd names them. Times are µs of the realtime clock, 0 = never.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnitState {
    /// The unit's name, with its suffix.
    pub name: String,
    /// `loaded`, `not-found`, `bad-setting`, `error`, `masked`.
    pub load_state: String,
    /// `active`, `activating`, `deactivating`, `inactive`, `failed`, `reloading`.
    pub active_state: String,
    /// For services `running`, `exited`, `dead`, `start-pre`, `stop-sigterm`, …
    pub sub_state: String,
    /// `success`, `exit-code`, `signal`, `oom-kill`, `resources`, `timeout`, … (services only).
    pub result: String,
    /// 32 hex digits; empty if this unit never ran since it was loaded, and then an exit code says nothing either.
    pub invocation_id: String,
    /// 0 = no main process now.
    pub main_pid: u32,
    /// `CLD_EXITED` 1, `CLD_KILLED` 2, `CLD_DUMPED` 3; 0 = no exit is known.
    pub exec_main_code: i32,
    /// The exit code, or the signal if `exec_main_code` says killed.
    pub exec_main_status: i32,
    /// When the main process started.
    pub exec_main_start_us: u64,
    /// When the main process ended.
    pub exec_main_exit_us: u64,
    /// When the sub state last changed.
    pub state_change_us: u64,
    /// Whether every `Condition*=` held at the last start; also false if nothing was tested, see `condition_us`.
    pub condition_result: bool,
    /// When the conditions were tested; 0 = not since the unit was loaded. systemd unloads a unit whose condition was false
    /// at once, and the next question loads it anew: then only signals and the journal had the answer.
    pub condition_us: u64,
    /// Whether every `Assert*=` held at the last start.
    pub assert_result: bool,
    /// The conditions, only filled in if `condition_result` is false.
    pub conditions: Vec<UnitCondition>,
    /// The job that is queued or running for this unit.
    pub job: Option<UnitJob>,
    /// The unit file.
    pub fragment_path: String,
    /// The drop-ins that changed it, ours and foreign ones.
    pub drop_in_paths: Vec<String>,
    /// Below the root of cgroup2; empty if it has no processes.
    pub control_group: String,
    /// A file of the unit changed after it was loaded.
    pub need_daemon_reload: bool,
    /// Why loading failed: D-Bus error name and message.
    pub load_error: Option<UnitLoadError>,
}

/// One `Condition*=` of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitCondition {
    /// `ConditionPathExists`, …
    pub name: String,
    /// Written with `|`: one of these suffices.
    pub trigger: bool,
    /// Written with `!`.
    pub negate: bool,
    /// What is tested.
    pub parameter: String,
    /// Positive: held. Negative: did not hold. 0: not tested.
    pub state: i32,
}

/// The job queued for a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitJob {
    /// The job's number.
    pub id: u32,
    /// `start`, `stop`, …; empty where systemd's answer does not carry it.
    pub kind: String,
}

/// Why systemd could not load a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitLoadError {
    /// The D-Bus error name, such as `org.freedesktop.systemd1.BadUnitSetting`.
    pub name: String,
    /// systemd's sentence.
    pub message: String,
}

/// How a job ended, as `JobRemoved` says it. A start whose `Condition*=` is false ends `Done`, with the unit inactive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobResult {
    /// It did what it was for.
    Done,
    /// Another job, or a person, took it back.
    Canceled,
    /// The job's own time limit (`JobTimeoutSec=`) ran out.
    Timeout,
    /// The unit did not start or stop as it should.
    Failed,
    /// A unit that this one requires failed.
    Dependency,
    /// There was nothing to do in the unit's state.
    Skipped,
    /// The unit's type does not know this job.
    Invalid,
    /// An `Assert*=` did not hold.
    Assert,
    /// The kernel or this machine lacks what the unit needs.
    Unsupported,
    /// The unit was collected before the job ran.
    Collected,
    /// The unit may run once per boot and has run.
    Once,
    /// A result that this version does not know.
    Other(String),
}

impl From<&str> for JobResult {
    fn from(result: &str) -> Self {
        match result {
            "done" => Self::Done,
            "canceled" => Self::Canceled,
            "timeout" => Self::Timeout,
            "failed" => Self::Failed,
            "dependency" => Self::Dependency,
            "skipped" => Self::Skipped,
            "invalid" => Self::Invalid,
            "assert" => Self::Assert,
            "unsupported" => Self::Unsupported,
            "collected" => Self::Collected,
            "once" => Self::Once,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for JobResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Canceled => "canceled",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
            Self::Dependency => "dependency",
            Self::Skipped => "skipped",
            Self::Invalid => "invalid",
            Self::Assert => "assert",
            Self::Unsupported => "unsupported",
            Self::Collected => "collected",
            Self::Once => "once",
            Self::Other(other) => other,
        })
    }
}

/// What signals have said about a unit since the agent last looked at it: `None` = nothing yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitChange {
    /// See [`UnitState::active_state`].
    pub active_state: Option<String>,
    /// See [`UnitState::sub_state`].
    pub sub_state: Option<String>,
    /// See [`UnitState::result`].
    pub result: Option<String>,
    /// See [`UnitState::invocation_id`].
    pub invocation_id: Option<String>,
    /// See [`UnitState::main_pid`].
    pub main_pid: Option<u32>,
    /// See [`UnitState::exec_main_code`].
    pub exec_main_code: Option<i32>,
    /// See [`UnitState::exec_main_status`].
    pub exec_main_status: Option<i32>,
    /// See [`UnitState::exec_main_start_us`].
    pub exec_main_start_us: Option<u64>,
    /// See [`UnitState::exec_main_exit_us`].
    pub exec_main_exit_us: Option<u64>,
    /// See [`UnitState::state_change_us`].
    pub state_change_us: Option<u64>,
    /// See [`UnitState::condition_result`].
    pub condition_result: Option<bool>,
    /// See [`UnitState::condition_us`].
    pub condition_us: Option<u64>,
    /// See [`UnitState::assert_result`].
    pub assert_result: Option<bool>,
}

impl UnitChange {
    /// Takes over what `newer` knows; true if that changed anything.
    pub fn fold(&mut self, newer: Self) -> bool {
        fn take<T: PartialEq>(old: &mut Option<T>, new: Option<T>) -> bool {
            if new.is_some() && *old != new {
                *old = new;
                return true;
            }
            false
        }
        // `|`, not `||`: every field is taken over.
        take(&mut self.active_state, newer.active_state)
            | take(&mut self.sub_state, newer.sub_state)
            | take(&mut self.result, newer.result)
            | take(&mut self.invocation_id, newer.invocation_id)
            | take(&mut self.main_pid, newer.main_pid)
            | take(&mut self.exec_main_code, newer.exec_main_code)
            | take(&mut self.exec_main_status, newer.exec_main_status)
            | take(&mut self.exec_main_start_us, newer.exec_main_start_us)
            | take(&mut self.exec_main_exit_us, newer.exec_main_exit_us)
            | take(&mut self.state_change_us, newer.state_change_us)
            | take(&mut self.condition_result, newer.condition_result)
            | take(&mut self.condition_us, newer.condition_us)
            | take(&mut self.assert_result, newer.assert_result)
    }

    /// Brings a unit's state up to what the signals said.
    pub fn apply_to(&self, unit: &mut UnitState) {
        fn set<T: Clone>(to: &mut T, from: &Option<T>) {
            if let Some(value) = from {
                to.clone_from(value);
            }
        }
        set(&mut unit.active_state, &self.active_state);
        set(&mut unit.sub_state, &self.sub_state);
        set(&mut unit.result, &self.result);
        set(&mut unit.invocation_id, &self.invocation_id);
        set(&mut unit.main_pid, &self.main_pid);
        set(&mut unit.exec_main_code, &self.exec_main_code);
        set(&mut unit.exec_main_status, &self.exec_main_status);
        set(&mut unit.exec_main_start_us, &self.exec_main_start_us);
        set(&mut unit.exec_main_exit_us, &self.exec_main_exit_us);
        set(&mut unit.state_change_us, &self.state_change_us);
        set(&mut unit.condition_result, &self.condition_result);
        set(&mut unit.condition_us, &self.condition_us);
        set(&mut unit.assert_result, &self.assert_result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_keeps_what_the_newer_message_does_not_say() {
        let mut known =
            UnitChange { exec_main_status: Some(3), active_state: Some("active".into()), ..Default::default() };
        assert!(known.fold(UnitChange { active_state: Some("failed".into()), ..Default::default() }));
        assert!(!known.fold(UnitChange { active_state: Some("failed".into()), ..Default::default() }));
        let mut unit = UnitState { name: "a.service".into(), main_pid: 7, ..Default::default() };
        known.apply_to(&mut unit);
        assert_eq!((unit.active_state.as_str(), unit.exec_main_status, unit.main_pid), ("failed", 3, 7));
    }

    #[test]
    fn job_results_keep_their_words() {
        for word in ["done", "failed", "timeout", "dependency", "canceled", "skipped", "assert", "frozen"] {
            assert_eq!(JobResult::from(word).to_string(), word);
        }
    }
}
