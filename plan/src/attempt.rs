//! One attempt of one container: what is known of it, folded into one verdict.
//!
//! The exit status comes from systemd's signals or properties, else from the exit file, else it is unknown. Code 0 with an
//! empty invocation is "unknown", never success.

use crate::history::{ContainerHistory, Exit, Run};
use crate::launch::Failure;
use crate::launch::exit::{ExitRecord, Outcome};
use crate::observed::{JobResult, UnitState};

/// Everything that the agent saw of a container's newest attempt.
///
/// A unit of that name that is not ours (its file is not the one that we wrote) is no `unit` of the attempt but a `refused`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttemptObserved {
    /// Which attempt was looked at. It says nothing about a newer one, such as the one that this very look begins; None
    /// stands for the history's newest.
    pub attempt: Option<u32>,
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
    /// Its files could not be made or systemd refused to start it, in this life of the agent. A failed connection is no
    /// refusal.
    pub refused: Option<StartRefusal>,
    /// How its start job ended (`JobRemoved`), in this life of the agent; None from each StartUnit on until it has. The only
    /// trace of a start that a false `Condition*=` or `Assert*=` or a failed dependency prevented.
    pub start_job: Option<JobResult>,
    /// What systemd logged of a set-up that failed; empty where nothing was found.
    pub set_up_error: String,
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
///
/// Evidence that it runs comes first, then evidence that it ran, then reasons why it never did: a start that systemd
/// answered with an error and made nevertheless must not be made twice.
pub fn verdict(history: &ContainerHistory, observed: &AttemptObserved, now_ms: i64) -> Verdict {
    let Some(attempt) = history.attempt else { return Verdict::NotStarted };
    if let Some(exit) = &history.exit {
        return Verdict::Ended(exit.clone());
    }
    if !observed.is_of(attempt) {
        return Verdict::NotStarted;
    }
    if let Some(unit) = observed.loaded() {
        if is_live(unit) {
            return live(unit, &observed.failure);
        }
        if unit.job.as_ref().is_some_and(|j| j.kind != "stop") {
            return Verdict::Starting;
        }
        if let Some(exit) = before_restart(attempt, history, unit, observed, now_ms) {
            return Verdict::Ended(exit);
        }
        let ran = !unit.invocation_id.is_empty() && !is_previous(history, &unit.invocation_id);
        if ran || unit.active_state == "failed" {
            return Verdict::Ended(ended(attempt, unit, observed, now_ms));
        }
    }
    if let Some(record) = observed.exit_record.as_ref().filter(|r| !is_previous(history, &r.invocation)) {
        return Verdict::Ended(from_record(attempt, record, observed, now_ms));
    }
    if observed.started {
        let invocation = history.run.as_ref().map_or("", |r| &r.invocation);
        return Verdict::Ended(unknown(attempt, invocation, now_ms));
    }
    if let Some(refused) = observed.refused.as_ref().filter(|r| r.attempt == attempt) {
        let exit = never_ran(attempt, refused.message.clone(), refused.at_ms);
        return Verdict::Ended(Exit { reason: refused.reason.clone(), ..exit });
    }
    match prevented(observed) {
        Some(message) => Verdict::Ended(never_ran(attempt, message, now_ms)),
        None if history.run.is_some() => {
            let invocation = history.run.as_ref().map_or("", |r| &r.invocation);
            Verdict::Ended(unknown(attempt, invocation, now_ms))
        }
        None => Verdict::NotStarted,
    }
}

/// The end of an attempt whose container systemd could not set up, where systemd's log tells why: what
/// [`AttemptObserved::set_up_error`] is to be asked for before the end is taken down.
pub fn asks_why(history: &ContainerHistory, observed: &AttemptObserved, now_ms: i64) -> Option<Exit> {
    match verdict(history, observed, now_ms) {
        Verdict::Ended(exit) if history.exit.is_none() && !exit.invocation.is_empty() => {
            is_set_up_failure(exit.exit_code, observed).then_some(exit)
        }
        Verdict::NotStarted | Verdict::Starting | Verdict::Running { .. } | Verdict::Ended(_) => None,
    }
}

/// systemd's own exec failures are 200..=243, and 1 from its executor; a program may end with those too, but then init was
/// reached.
fn is_set_up_failure(exit_code: i32, observed: &AttemptObserved) -> bool {
    observed.failure == FailureFile::Unreached && matches!(exit_code, 1 | 200..=243)
}

/// How the run `old` of a unit ended that now runs as another invocation, because somebody else restarted it.
pub(crate) fn end_before_restart(attempt: u32, old: &Run, observed: &AttemptObserved, now_ms: i64) -> Exit {
    let exit = match observed.exit_record.as_ref().filter(|r| r.invocation == old.invocation) {
        // The failure file is the new run's by now.
        Some(record) => from_record(attempt, record, &AttemptObserved::default(), now_ms),
        None => unknown(attempt, &old.invocation, now_ms),
    };
    Exit { started_ms: old.started_ms, ..exit }
}

/// The end of the known run of a unit that is down and has another invocation by now: somebody restarts it, or did and the new
/// run is over as well. systemd says the new invocation while it still calls the unit "inactive".
fn before_restart(
    attempt: u32,
    history: &ContainerHistory,
    unit: &UnitState,
    observed: &AttemptObserved,
    now_ms: i64,
) -> Option<Exit> {
    let another = |run: &&Run| !unit.invocation_id.is_empty() && run.invocation != unit.invocation_id;
    let old = history.run.as_ref().filter(another)?;
    observed.exit_record.as_ref().filter(|record| record.invocation == old.invocation)?;
    Some(end_before_restart(attempt, old, observed, now_ms))
}

/// The last run's invocation: what still tells of it says nothing about the newest attempt.
fn is_previous(history: &ContainerHistory, invocation: &str) -> bool {
    !invocation.is_empty() && history.previous.as_ref().is_some_and(|e| e.invocation == invocation)
}

impl AttemptObserved {
    /// Whether this was seen of `attempt`.
    pub(crate) fn is_of(&self, attempt: u32) -> bool {
        self.attempt.is_none_or(|a| a == attempt)
    }

    fn loaded(&self) -> Option<&UnitState> {
        self.unit.as_ref().filter(|u| u.load_state != "not-found")
    }

    /// The unit, if it runs or is about to end.
    pub(crate) fn live_unit(&self) -> Option<&UnitState> {
        self.loaded().filter(|u| is_live(u))
    }

    /// Whether something is left that a clean-up removes.
    pub(crate) fn is_dirty(&self) -> bool {
        self.leftovers || self.loaded().is_some_and(|u| u.active_state == "failed")
    }
}

/// Why systemd did not start a unit that it had accepted, or would not load it.
fn prevented(observed: &AttemptObserved) -> Option<String> {
    let unit = observed.loaded();
    if let Some(unit) = unit.filter(|u| is_unmet(u) || u.conditions.iter().any(|c| c.state < 0)) {
        return Some(false_condition(unit));
    }
    if let Some(result) = &observed.start_job {
        return Some(match result {
            JobResult::Done => false_condition(unit.unwrap_or(&UnitState::default())),
            JobResult::Assert => {
                "the unit was not started because an assertion of it does not hold on this node".to_owned()
            }
            JobResult::Dependency => "the unit was not started because a unit that it requires failed".to_owned(),
            JobResult::Canceled
            | JobResult::Timeout
            | JobResult::Failed
            | JobResult::Skipped
            | JobResult::Invalid
            | JobResult::Unsupported
            | JobResult::Collected
            | JobResult::Once
            | JobResult::Other(_) => format!("the unit was not started: its start job ended as {result}"),
        });
    }
    let unit = unit.filter(|u| matches!(u.load_state.as_str(), "bad-setting" | "error" | "masked"))?;
    let message = unit.load_error.as_ref().map(|e| e.message.as_str()).filter(|m| !m.is_empty());
    Some(match message {
        Some(message) => format!("systemd does not load the unit ({}): {message}", unit.load_state),
        None => format!("systemd does not load the unit ({})", unit.load_state),
    })
}

/// A `Condition*=` or `Assert*=` was tested at the last start and did not hold. Before a test both count as false, so the
/// time decides; asserts are tested right after the conditions.
pub fn is_unmet(unit: &UnitState) -> bool {
    unit.condition_us != 0 && !(unit.condition_result && unit.assert_result)
}

/// Whether a unit has processes or is about to.
pub(crate) fn is_live(unit: &UnitState) -> bool {
    matches!(unit.active_state.as_str(), "active" | "activating" | "deactivating" | "reloading" | "refreshing")
}

/// Whether a stop of it is under way.
pub(crate) fn is_stopping(unit: &UnitState) -> bool {
    unit.active_state == "deactivating" || unit.job.as_ref().is_some_and(|j| j.kind == "stop")
}

fn live(unit: &UnitState, failure: &FailureFile) -> Verdict {
    let stopping = is_stopping(unit);
    // start-pre and condition run before the program. A oneshot or notify service runs it in "start", but there an exec
    // service is still being set up: only `init` knows.
    let before_program = matches!(unit.sub_state.as_str(), "start-pre" | "condition")
        || (unit.active_state == "activating"
            && (unit.exec_main_start_us == 0 && unit.main_pid == 0 || *failure == FailureFile::Unreached));
    if before_program && !stopping {
        return Verdict::Starting;
    }
    Verdict::Running {
        started_ms: micros_to_ms(unit.exec_main_start_us),
        invocation: unit.invocation_id.clone(),
        ready: matches!(unit.active_state.as_str(), "active" | "reloading" | "refreshing"),
        stopping,
    }
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
    if unit.conditions.iter().any(|c| c.state < 0) || (unit.result == "success" && !unit.assert_result) {
        return Exit {
            invocation: base.invocation,
            ..never_ran(base.attempt, false_condition(unit), base.finished_ms)
        };
    }
    no_program(base, &unit.result, observed)
}

/// A start that failed before there was a main process to end.
fn no_program(base: Exit, result: &str, observed: &AttemptObserved) -> Exit {
    if let FailureFile::Failed(failure) = &observed.failure {
        return start_error(base, failure);
    }
    let message = match result {
        "" | "success" => return Exit { started_ms: 0, ..unknown(base.attempt, &base.invocation, base.finished_ms) },
        "timeout" => "the unit did not report that it was ready within its start time limit".to_owned(),
        "protocol" => "the service ended or forked without the notification or PID file its unit promises".to_owned(),
        result => format!("the unit's start failed (systemd's result: {result}); the container's log says more"),
    };
    Exit { invocation: base.invocation, ..never_ran(base.attempt, message, base.finished_ms) }
}

fn never_ran(attempt: u32, message: String, finished_ms: i64) -> Exit {
    Exit {
        attempt,
        finished_ms,
        exit_code: 128,
        reason: "CreateContainerError".to_owned(),
        message,
        never_ran: true,
        ..Exit::default()
    }
}

fn false_condition(unit: &UnitState) -> String {
    let which = unmet(unit);
    format!("the unit was not started because {which} does not hold on this node")
}

/// Which condition it was, as far as that is known: a unit that was loaded anew knows only which there are.
fn unmet(unit: &UnitState) -> String {
    if is_unmet(unit) && unit.condition_result {
        return "an assertion of its unit".to_owned();
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
    let finished_ms = record.finished_at.parse::<jiff::Timestamp>().map_or(now_ms, jiff::Timestamp::as_millisecond);
    let Some(exit_code) = outcome.exit_code() else {
        let base = Exit { attempt, invocation: record.invocation.clone(), finished_ms, ..Exit::default() };
        // systemd gives the hook no code where no main process ended; any other code makes no sense.
        let result = if record.code.is_empty() { record.result.as_str() } else { "" };
        return no_program(base, result, observed);
    };
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
    // Any uid in the container may write that file once the program runs: it is believed where the kernel's word agrees.
    if let FailureFile::Failed(failure) = &observed.failure
        && exit.signal.is_none()
        && exit.exit_code == failure.exit_code
        && INIT_EXITS.contains(&failure.exit_code)
    {
        return start_error(exit, failure);
    }
    if is_set_up_failure(exit.exit_code, observed) {
        let what = exec_failure(exit.exit_code);
        let said = if observed.set_up_error.is_empty() { "" } else { ": " };
        let said = format!("{said}{}", bounded_text(&observed.set_up_error));
        return Exit {
            reason: "CreateContainerError".to_owned(),
            message: format!("systemd could not set the container up: {what} (status {}){said}", exit.exit_code),
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

/// What `init` ends with when it cannot start a program.
const INIT_EXITS: std::ops::RangeInclusive<i32> = 126..=128;

fn start_error(exit: Exit, failure: &Failure) -> Exit {
    Exit {
        reason: "StartError".to_owned(),
        message: bounded_text(&failure.message),
        exit_code: failure.exit_code.clamp(*INIT_EXITS.start(), *INIT_EXITS.end()),
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
        1 => "systemd's executor did not understand its settings",
        200 => "the working directory could not be entered (CHDIR)",
        203 => "systemk itself, which starts its program, could not be executed (EXEC)",
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

#[cfg(test)]
mod tests;
