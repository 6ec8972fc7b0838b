//! One attempt of one container: what is known of it, folded into one verdict.
//!
//! The exit status comes from systemd's signals or properties, else from the exit file, else it is unknown. Code 0 with an
//! empty invocation is "unknown", never success.

use crate::history::{ContainerHistory, Exit};
use crate::launch::Failure;
use crate::launch::exit::{ExitRecord, Outcome};
use crate::observed::UnitState;

/// Everything that the agent saw of a container's newest attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttemptObserved {
    /// systemd's view; None where the unit is not loaded.
    pub unit: Option<UnitState>,
    /// What the exit hook wrote.
    pub exit_record: Option<ExitRecord>,
    /// The failure file.
    pub failure: FailureFile,
    /// systemd made the unit's mount namespace at least once: the attempt did start.
    pub started: bool,
    /// Something of the attempt is left on disk: its unit file or its directories.
    pub leftovers: bool,
    /// systemd refused to start it, in this life of the agent.
    pub refused: Option<StartRefusal>,
}

/// What the failure file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum FailureFile {
    /// There is none (any more).
    #[default]
    Absent,
    /// As the agent made it: `init` was never reached.
    Unreached,
    /// `init` was reached and had nothing to say.
    Reached,
    /// `init` could not start the program.
    Failed(Failure),
}

/// Why systemd would not start a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartRefusal {
    /// Which attempt.
    pub attempt: u32,
    /// `CreateContainerError`, …
    pub reason: String,
    /// systemd's sentence.
    pub message: String,
    /// When, in milliseconds since the epoch.
    pub at_ms: i64,
}

/// The state of a container's newest attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is no attempt yet, or what there is never reached systemd.
    NotStarted,
    /// systemd is at work on it; the program does not run yet.
    Starting,
    /// The program runs.
    Running {
        /// Since when.
        started_ms: i64,
        /// Its invocation.
        invocation: String,
        /// systemd calls the unit active (a `Type=notify` service has said READY).
        ready: bool,
        /// A stop is under way.
        stopping: bool,
    },
    /// It ended.
    Ended(Exit),
}

/// Folds all that is known of the newest attempt. `now_ms` dates what nothing else dates.
pub fn verdict(history: &ContainerHistory, observed: &AttemptObserved, now_ms: i64) -> Verdict {
    let Some(attempt) = history.attempt else { return Verdict::NotStarted };
    if let Some(exit) = &history.exit {
        return Verdict::Ended(exit.clone());
    }
    if let Some(refused) = observed.refused.as_ref().filter(|r| r.attempt == attempt) {
        return Verdict::Ended(Exit {
            attempt,
            finished_ms: refused.at_ms,
            exit_code: 128,
            reason: refused.reason.clone(),
            message: refused.message.clone(),
            never_ran: true,
            ..Exit::default()
        });
    }
    let unit = observed.unit.as_ref().filter(|u| u.load_state != "not-found");
    match unit {
        Some(unit) if unit.job.as_ref().is_some_and(|j| j.kind != "stop") && !is_live(unit) => Verdict::Starting,
        Some(unit) if is_live(unit) => live(unit),
        // Such a unit never gets an invocation.
        Some(unit) if !unit.invocation_id.is_empty() || unit.active_state == "failed" || is_unmet(unit) => {
            Verdict::Ended(ended(attempt, unit, observed, now_ms))
        }
        Some(_) | None => absent(attempt, observed, now_ms),
    }
}

/// A `Condition*=` or `Assert*=` was tested at the last start and did not hold. Before a test both count as false, so the
/// time decides; asserts are tested right after the conditions.
pub fn is_unmet(unit: &UnitState) -> bool {
    unit.condition_us != 0 && !(unit.condition_result && unit.assert_result)
}

fn is_live(unit: &UnitState) -> bool {
    matches!(unit.active_state.as_str(), "active" | "activating" | "deactivating" | "reloading" | "refreshing")
}

fn live(unit: &UnitState) -> Verdict {
    let stopping = unit.active_state == "deactivating" || unit.job.as_ref().is_some_and(|j| j.kind == "stop");
    // start-pre and condition run before the program; a oneshot or notify service runs it in "start".
    let before_program = matches!(unit.sub_state.as_str(), "start-pre" | "condition")
        || (unit.active_state == "activating" && unit.main_pid == 0);
    if before_program && !stopping {
        return Verdict::Starting;
    }
    Verdict::Running {
        started_ms: micros_to_ms(unit.exec_main_start_us),
        invocation: unit.invocation_id.clone(),
        ready: unit.active_state == "active" || unit.active_state == "reloading" || unit.active_state == "refreshing",
        stopping,
    }
}

/// The unit is not loaded any more, or was loaded afresh by somebody's look at it.
fn absent(attempt: u32, observed: &AttemptObserved, now_ms: i64) -> Verdict {
    if let Some(record) = &observed.exit_record {
        return Verdict::Ended(from_record(attempt, record, observed, now_ms));
    }
    if observed.started {
        return Verdict::Ended(unknown(attempt, "", now_ms));
    }
    Verdict::NotStarted
}

fn ended(attempt: u32, unit: &UnitState, observed: &AttemptObserved, now_ms: i64) -> Exit {
    let started_ms = micros_to_ms(unit.exec_main_start_us);
    let finished_ms = match micros_to_ms(unit.exec_main_exit_us) {
        0 => match micros_to_ms(unit.state_change_us) {
            0 => now_ms,
            at => at,
        },
        at => at,
    };
    let base = Exit { attempt, invocation: unit.invocation_id.clone(), started_ms, finished_ms, ..Exit::default() };
    if unit.exec_main_code == 0 {
        return without_main(base, unit, observed, now_ms);
    }
    let status = unit.exec_main_status;
    let (exit_code, signal) = if unit.exec_main_code == 1 { (status, None) } else { (128 + status, Some(status)) };
    let exit = Exit { exit_code, signal, ..base };
    explain(exit, &unit.result, observed)
}

/// The unit ended and no main process did: a false condition, a line before the program, a set-up that failed.
fn without_main(base: Exit, unit: &UnitState, observed: &AttemptObserved, now_ms: i64) -> Exit {
    let record = observed.exit_record.as_ref().filter(|r| r.invocation == unit.invocation_id);
    if let Some(record) = record.filter(|r| r.outcome() != Outcome::Unknown) {
        return from_record(base.attempt, record, observed, now_ms);
    }
    let failed = |message: String| Exit {
        exit_code: 128,
        reason: "CreateContainerError".to_owned(),
        message,
        never_ran: true,
        ..base.clone()
    };
    if is_unmet(unit) {
        return failed(format!("the unit was not started because {} does not hold on this node", unmet(unit)));
    }
    if let FailureFile::Failed(failure) = &observed.failure {
        return start_error(base, failure);
    }
    match unit.result.as_str() {
        "success" => unknown(base.attempt, &unit.invocation_id, now_ms),
        "timeout" => failed("the unit did not report that it was ready within its start time limit".to_owned()),
        "protocol" => {
            failed("the service ended or forked without the notification or PID file its unit promises".to_owned())
        }
        result => failed(format!(
            "the unit failed before its program ran (systemd's result: {result}); `systemctl status {}` says more",
            unit.name
        )),
    }
}

/// Which condition it was, as far as that is known: a unit that was loaded anew knows only which there are.
fn unmet(unit: &UnitState) -> String {
    if unit.condition_result {
        return "an Assert*= of its unit".to_owned();
    }
    let false_ones: Vec<String> = unit.conditions.iter().filter(|c| c.state < 0).map(condition_text).collect();
    if !false_ones.is_empty() {
        return false_ones.join(", ");
    }
    let all: Vec<String> = unit.conditions.iter().map(condition_text).collect();
    match all.as_slice() {
        [] => "a condition of its unit".to_owned(),
        [one] => one.clone(),
        several => format!("one of {}", several.join(", ")),
    }
}

fn condition_text(condition: &crate::observed::UnitCondition) -> String {
    format!("{}={}{}", condition.name, if condition.negate { "!" } else { "" }, condition.parameter)
}

fn from_record(attempt: u32, record: &ExitRecord, observed: &AttemptObserved, now_ms: i64) -> Exit {
    let outcome = record.outcome();
    let Some(exit_code) = outcome.exit_code() else { return unknown(attempt, &record.invocation, now_ms) };
    let finished_ms = record.finished_at.parse::<jiff::Timestamp>().map_or(now_ms, jiff::Timestamp::as_millisecond);
    let exit = Exit {
        attempt,
        invocation: record.invocation.clone(),
        finished_ms,
        exit_code,
        signal: outcome.signal(),
        ..Exit::default()
    };
    explain(exit, &record.result, observed)
}

/// Gives an end its reason.
fn explain(exit: Exit, result: &str, observed: &AttemptObserved) -> Exit {
    if let FailureFile::Failed(failure) = &observed.failure {
        return start_error(exit, failure);
    }
    // systemd's own exec failures are 200..=243; a program may end with those too, but then init was reached.
    if observed.failure == FailureFile::Unreached && (200..=243).contains(&exit.exit_code) {
        let what = exec_failure(exit.exit_code);
        return Exit {
            reason: "CreateContainerError".to_owned(),
            message: format!("systemd could not set the container up: {what} (status {})", exit.exit_code),
            never_ran: true,
            ..exit
        };
    }
    let reason = match (result, exit.exit_code) {
        ("oom-kill", _) => "OOMKilled",
        (_, 0) => "Completed",
        _ => "Error",
    };
    let exit_code = if result == "oom-kill" && exit.exit_code == 0 { 137 } else { exit.exit_code };
    let message = match result {
        "timeout" => "did not stop or start within its time limit".to_owned(),
        "watchdog" => "did not keep its watchdog alive".to_owned(),
        _ => String::new(),
    };
    Exit { reason: reason.to_owned(), exit_code, message, ..exit }
}

fn start_error(exit: Exit, failure: &Failure) -> Exit {
    Exit {
        reason: "StartError".to_owned(),
        message: bounded_text(&failure.message),
        exit_code: failure.exit_code,
        signal: None,
        ..exit
    }
}

/// The failure file is writable by any uid in the container: its text is shown, never trusted.
fn bounded_text(text: &str) -> String {
    text.chars().take(1024).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn unknown(attempt: u32, invocation: &str, now_ms: i64) -> Exit {
    Exit {
        attempt,
        invocation: invocation.to_owned(),
        finished_ms: now_ms,
        exit_code: 137,
        reason: "ContainerStatusUnknown".to_owned(),
        message: "the container ended while nothing recorded how".to_owned(),
        ..Exit::default()
    }
}

/// systemd.exec(5), "Process exit codes": the ones that a container can meet.
fn exec_failure(status: i32) -> &'static str {
    match status {
        200 => "the working directory could not be entered (CHDIR)",
        203 => "its program could not be executed (EXEC)",
        205 => "its resource limits could not be set (LIMITS)",
        206 => "the OOM adjustment could not be set (OOM_ADJUST)",
        208 => "its Launch could not be opened (STDIN)",
        209 => "its output could not be connected to the journal (STDOUT)",
        216 => "its group does not exist (GROUP)",
        217 => "its user does not exist (USER)",
        218 => "its capabilities could not be set (CAPABILITIES)",
        219 => "its cgroup could not be set up (CGROUP)",
        226 => "its mounts could not be made (NAMESPACE)",
        228 => "its system call filter could not be loaded (SECCOMP)",
        233 => "its runtime directory could not be made (RUNTIME_DIRECTORY)",
        238 => "its state directory could not be made (STATE_DIRECTORY)",
        239 => "its cache directory could not be made (CACHE_DIRECTORY)",
        240 => "its logs directory could not be made (LOGS_DIRECTORY)",
        243 => "its credentials could not be loaded (CREDENTIALS)",
        _ => "see systemd.exec(5), process exit codes",
    }
}

fn micros_to_ms(micros: u64) -> i64 {
    i64::try_from(micros / 1000).unwrap_or(i64::MAX)
}
