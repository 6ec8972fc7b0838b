use super::*;
use crate::observed::{UnitCondition, UnitJob, UnitLoadError};

const NOW: i64 = 9_000_000;

fn unit(active: &str, sub: &str) -> UnitState {
    UnitState {
        name: "u.service".into(),
        load_state: "loaded".into(),
        active_state: active.into(),
        sub_state: sub.into(),
        result: "success".into(),
        invocation_id: "i1".into(),
        condition_result: true,
        assert_result: true,
        ..UnitState::default()
    }
}

fn running(active: &str, sub: &str) -> UnitState {
    UnitState { main_pid: 7, exec_main_start_us: 5_000_000_000, ..unit(active, sub) }
}

fn ended(active: &str, result: &str, code: i32, status: i32) -> UnitState {
    UnitState {
        result: result.into(),
        exec_main_code: code,
        exec_main_status: status,
        exec_main_start_us: 5_000_000_000,
        exec_main_exit_us: 6_000_000_000,
        ..unit(active, active)
    }
}

fn fresh() -> UnitState {
    UnitState {
        invocation_id: String::new(),
        condition_result: false,
        assert_result: false,
        ..unit("inactive", "dead")
    }
}

fn record(invocation: &str, result: &str, code: &str, status: &str) -> ExitRecord {
    ExitRecord {
        version: 1,
        invocation: invocation.into(),
        result: result.into(),
        code: code.into(),
        status: status.into(),
        finished_at: "1970-01-01T02:00:00Z".into(),
    }
}

fn history() -> ContainerHistory {
    ContainerHistory { attempt: Some(2), ..ContainerHistory::default() }
}

fn of(unit: UnitState) -> AttemptObserved {
    AttemptObserved { unit: Some(unit), started: true, failure: FailureFile::Reached, ..AttemptObserved::default() }
}

fn judge(observed: &AttemptObserved) -> Verdict {
    verdict(&history(), observed, NOW)
}

/// Code, signal, reason and whether it ran.
fn end(observed: &AttemptObserved) -> (i32, Option<i32>, String, bool) {
    match judge(observed) {
        Verdict::Ended(e) => (e.exit_code, e.signal, e.reason, !e.never_ran),
        other => panic!("{other:?}"),
    }
}

fn message(observed: &AttemptObserved) -> String {
    match judge(observed) {
        Verdict::Ended(e) => e.message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_unit_that_lives() {
    let run = |ready, stopping| Verdict::Running { started_ms: 5_000_000, invocation: "i1".into(), ready, stopping };
    let job = |kind: &str| Some(UnitJob { id: 1, kind: kind.into() });
    let cases = [
        ("simple", running("active", "running"), run(true, false)),
        ("notify before READY, oneshot", running("activating", "start"), run(false, false)),
        ("start-post", running("activating", "start-post"), run(false, false)),
        ("reloading", running("reloading", "reload"), run(true, false)),
        ("start-pre", unit("activating", "start-pre"), Verdict::Starting),
        ("condition", unit("activating", "condition"), Verdict::Starting),
        ("forking without a pid", unit("activating", "start"), Verdict::Starting),
        (
            "between two lines of a oneshot",
            UnitState { main_pid: 0, ..running("activating", "start") },
            run(false, false),
        ),
        ("stopping", running("deactivating", "stop-sigterm"), run(false, true)),
        ("in its last hook", UnitState { exec_main_code: 1, ..running("deactivating", "stop-post") }, run(false, true)),
        ("a stop is queued", UnitState { job: job("stop"), ..running("active", "running") }, run(true, true)),
        ("a start is queued", UnitState { job: job("start"), ..fresh() }, Verdict::Starting),
        ("a job of unknown kind is queued", UnitState { job: job(""), ..fresh() }, Verdict::Starting),
        (
            "masked while it runs",
            UnitState { load_state: "masked".into(), ..running("active", "running") },
            run(true, false),
        ),
    ];
    for (name, unit, expected) in cases {
        assert_eq!(judge(&of(unit)), expected, "{name}");
    }
    let set_up = AttemptObserved { failure: FailureFile::Unreached, ..of(running("activating", "start")) };
    assert_eq!(judge(&set_up), Verdict::Starting, "an exec service that is still set up");
    let refused = StartRefusal { attempt: 2, reason: "x".into(), message: String::new(), at_ms: 1 };
    let runs = AttemptObserved { refused: Some(refused), ..of(running("active", "running")) };
    assert_eq!(judge(&runs), run(true, false), "systemd answered with an error and started it nevertheless");
}

#[test]
fn a_unit_that_ended() {
    let ran = |code, signal, reason: &str| (code, signal, reason.to_owned(), true);
    let not = |code| (code, None, "CreateContainerError".to_owned(), false);
    let cases = [
        ("exit 0", ended("inactive", "success", 1, 0), ran(0, None, "Completed")),
        ("exit 7", ended("failed", "exit-code", 1, 7), ran(7, None, "Error")),
        ("its own 226", ended("failed", "exit-code", 1, 226), ran(226, None, "Error")),
        ("SIGKILL", ended("failed", "signal", 2, 9), ran(137, Some(9), "Error")),
        ("SIGTERM", ended("inactive", "success", 2, 15), ran(143, Some(15), "Error")),
        ("core dump", ended("failed", "core-dump", 3, 11), ran(139, Some(11), "Error")),
        ("out of memory", ended("failed", "oom-kill", 2, 9), ran(137, Some(9), "OOMKilled")),
        ("a child out of memory", ended("failed", "oom-kill", 2, 15), ran(143, Some(15), "OOMKilled")),
        ("out of memory, exit 0", ended("failed", "oom-kill", 1, 0), ran(137, None, "OOMKilled")),
        ("ExecStartPre failed", ended("failed", "exit-code", 0, 0), not(128)),
        ("start timeout", ended("failed", "timeout", 0, 0), not(128)),
        ("no PID file", ended("failed", "protocol", 0, 0), not(128)),
        ("no cgroup", ended("failed", "resources", 0, 0), not(128)),
        ("code 0, nothing known", ended("inactive", "success", 0, 0), ran(137, None, "ContainerStatusUnknown")),
    ];
    for (name, unit, expected) in cases {
        assert_eq!(end(&of(unit)), expected, "{name}");
    }
    let unreached = |unit| AttemptObserved { failure: FailureFile::Unreached, ..of(unit) };
    assert_eq!(end(&unreached(ended("failed", "exit-code", 1, 226))), not(226));
    assert!(message(&unreached(ended("failed", "exit-code", 1, 203))).contains("EXEC"));
    for code in [126, 127, 128] {
        let failure = Failure {
            line: "start.0".into(),
            step: "exec".into(),
            errno: 2,
            message: "no\u{1b}".into(),
            exit_code: code,
        };
        let said = FailureFile::Failed(failure);
        let seen = AttemptObserved { failure: said.clone(), ..of(ended("failed", "exit-code", 1, code)) };
        assert_eq!(end(&seen), ran(code, None, "StartError"));
        assert_eq!(message(&seen), "no ");
        // Written by the container itself: its true end stands.
        let forged = AttemptObserved { failure: said.clone(), ..of(ended("failed", "exit-code", 1, 1)) };
        assert_eq!(end(&forged), ran(1, None, "Error"));
        let killed = AttemptObserved { failure: said, ..of(ended("failed", "signal", 2, 9)) };
        assert_eq!(end(&killed), ran(137, Some(9), "Error"));
    }
    let with_record = AttemptObserved {
        exit_record: Some(record("i1", "success", "exited", "0")),
        ..of(ended("inactive", "success", 0, 0))
    };
    assert_eq!(end(&with_record), ran(0, None, "Completed"), "the record of this invocation knows");
    let other = AttemptObserved {
        exit_record: Some(record("i0", "success", "exited", "0")),
        ..of(ended("inactive", "success", 0, 0))
    };
    assert_eq!(end(&other).2, "ContainerStatusUnknown", "another invocation's does not");
}

#[test]
fn a_run_that_somebody_restarted_ended_as_its_record_says() {
    let known = ContainerHistory { run: Some(Run { invocation: "i0".into(), started_ms: 10 }), ..history() };
    let recorded =
        |unit: UnitState| AttemptObserved { exit_record: Some(record("i0", "success", "killed", "TERM")), ..of(unit) };
    // As systemd says it while it starts the new run, and after that has ended too.
    for unit in [unit("inactive", "dead"), ended("failed", "exit-code", 1, 3)] {
        let Verdict::Ended(exit) = verdict(&known, &recorded(unit), NOW) else { panic!() };
        assert_eq!((exit.invocation.as_str(), exit.exit_code, exit.started_ms), ("i0", 143, 10));
    }
    let Verdict::Ended(exit) = verdict(&known, &recorded(fresh()), NOW) else { panic!() };
    assert_eq!((exit.invocation.as_str(), exit.exit_code), ("i0", 143));
    let Verdict::Ended(exit) = verdict(&known, &of(ended("failed", "exit-code", 1, 3)), NOW) else { panic!() };
    assert_eq!((exit.invocation.as_str(), exit.exit_code), ("i1", 3), "no record of the old one");
}

#[test]
fn a_unit_that_is_gone() {
    let gone = |exit_record| AttemptObserved { exit_record, started: true, ..AttemptObserved::default() };
    let unknown = (137, None, "ContainerStatusUnknown".to_owned(), true);
    assert_eq!(end(&gone(Some(record("i1", "success", "exited", "0")))).0, 0);
    assert_eq!(end(&gone(Some(record("i1", "signal", "killed", "KILL")))).0, 137);
    assert_eq!(end(&gone(Some(record("i1", "oom-kill", "killed", "KILL")))).2, "OOMKilled");
    assert_eq!(
        end(&gone(Some(record("i1", "exit-code", "", "")))).2,
        "CreateContainerError",
        "a line before it failed"
    );
    assert_eq!(end(&gone(Some(record("i1", "exit-code", "exited", "TERM")))), unknown);
    assert_eq!(end(&gone(Some(record("", "success", "exited", "0")))), unknown, "of no invocation: never a success");
    assert_eq!(end(&gone(None)), unknown);
    assert_eq!(end(&AttemptObserved { unit: Some(fresh()), ..gone(None) }), unknown, "loaded afresh by a look");
    assert_eq!(judge(&AttemptObserved::default()), Verdict::NotStarted);
    assert_eq!(judge(&AttemptObserved { unit: Some(fresh()), ..AttemptObserved::default() }), Verdict::NotStarted);
    let mut restarted = history();
    restarted.previous = Some(Exit { invocation: "i1".into(), ..Exit::default() });
    let stale = gone(Some(record("i1", "success", "exited", "0")));
    let Verdict::Ended(exit) = verdict(&restarted, &stale, NOW) else { panic!() };
    assert_eq!(exit.reason, "ContainerStatusUnknown", "the record is the last run's");
    let older = AttemptObserved { attempt: Some(1), ..stale };
    assert_eq!(judge(&older), Verdict::NotStarted, "seen before this attempt began");
    let seen = ContainerHistory { run: Some(Run::default()), ..history() };
    assert!(matches!(verdict(&seen, &AttemptObserved::default(), NOW), Verdict::Ended(_)), "it was seen: it ran");
}

#[test]
fn a_unit_that_systemd_does_not_start() {
    let never = |observed: AttemptObserved| {
        let found = end(&observed);
        assert_eq!((found.0, found.2.as_str(), found.3), (128, "CreateContainerError", false), "{observed:?}");
        message(&observed)
    };
    let not_started = |unit: Option<UnitState>| AttemptObserved { unit, leftovers: true, ..AttemptObserved::default() };
    let false_one = UnitCondition {
        name: "ConditionPathExists".into(),
        negate: true,
        parameter: "/x".into(),
        state: -1,
        ..UnitCondition::default()
    };
    let told = never(not_started(Some(UnitState { conditions: vec![false_one.clone()], ..fresh() })));
    assert!(told.contains("ConditionPathExists=!/x"), "{told}");
    let with_invocation =
        UnitState { conditions: vec![false_one], condition_result: false, ..unit("inactive", "dead") };
    assert!(never(not_started(Some(with_invocation))).contains("ConditionPathExists=!/x"));
    for (result, part) in [
        (JobResult::Done, "condition"),
        (JobResult::Assert, "assertion"),
        (JobResult::Dependency, "requires"),
        (JobResult::Canceled, "canceled"),
    ] {
        let told = never(AttemptObserved { start_job: Some(result), ..not_started(None) });
        assert!(told.contains(part), "{told}");
    }
    for state in ["bad-setting", "error", "masked"] {
        let error = UnitLoadError { name: "org.x".into(), message: "lacks ExecStart=".into() };
        let unit = UnitState { load_state: state.into(), load_error: Some(error), ..fresh() };
        assert_eq!(
            never(not_started(Some(unit))),
            format!("systemd does not load the unit ({state}): lacks ExecStart=")
        );
    }
    let refused = StartRefusal { attempt: 2, reason: "CreateContainerError".into(), message: "taken".into(), at_ms: 5 };
    let seen = AttemptObserved { refused: Some(refused.clone()), ..not_started(None) };
    assert_eq!(never(seen.clone()), "taken");
    let older = AttemptObserved { refused: Some(StartRefusal { attempt: 1, ..refused }), ..seen };
    assert_eq!(judge(&older), Verdict::NotStarted, "of another attempt");
}

/// systemd unloads such a unit at once: its last signal is all there is, and it has no invocation.
#[test]
fn a_condition_that_the_signal_says_is_false_ends_the_attempt() {
    let state = UnitState { condition_us: 7, ..fresh() };
    assert!(is_unmet(&state) && !is_unmet(&fresh()));
    let condition = |name: &str, state: i32| UnitCondition {
        name: name.into(),
        parameter: "/x".into(),
        state,
        ..UnitCondition::default()
    };
    let said = |conditions: Vec<UnitCondition>| {
        let unit = Some(UnitState { conditions, ..state.clone() });
        match verdict(&history(), &AttemptObserved { unit, ..AttemptObserved::default() }, NOW) {
            Verdict::Ended(exit) if exit.never_ran => exit.message,
            other => panic!("{other:?}"),
        }
    };
    assert!(said(vec![]).contains("because a condition of its unit does not hold"));
    assert!(said(vec![condition("A", 0)]).contains("because A=/x does not hold"));
    assert!(said(vec![condition("A", 0), condition("B", 0)]).contains("because one of A=/x, B=/x does"));
    assert!(said(vec![condition("A", 1), condition("B", -1)]).contains("because B=/x does not hold"));
}

#[test]
fn systemd_is_asked_why_where_it_could_not_set_up() {
    let ended = |status, failure| AttemptObserved { failure, ..of(ended("failed", "exit-code", 1, status)) };
    let why = |observed: &AttemptObserved| asks_why(&history(), observed, NOW).map(|exit| exit.exit_code);
    for status in [1, 200, 226, 243] {
        assert_eq!(why(&ended(status, FailureFile::Unreached)), Some(status));
        assert_eq!(why(&ended(status, FailureFile::Reached)), None, "a program's own {status}");
        let told = message(&AttemptObserved { set_up_error: "why".into(), ..ended(status, FailureFile::Unreached) });
        assert!(told.ends_with(": why"), "what is asked for is told: {told}");
    }
    for status in [0, 2, 127, 199, 244] {
        assert_eq!(why(&ended(status, FailureFile::Unreached)), None, "{status}");
    }
    assert_eq!(why(&AttemptObserved { failure: FailureFile::Unreached, ..of(running("active", "running")) }), None);
    let known = ContainerHistory { exit: Some(Exit { exit_code: 226, ..Exit::default() }), ..history() };
    assert_eq!(asks_why(&known, &ended(226, FailureFile::Unreached), NOW), None, "it is known already");
}
