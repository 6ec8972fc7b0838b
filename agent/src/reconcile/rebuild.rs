//! A history for a pod whose own was lost (spoilt, or written by a newer version): from its units, and for what is over
//! from the last report. Without that, what has run to its end would run again and its logs would begin anew.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use plan::history::{Exit, PodHistory, Run};
use plan::inputs::NodeFacts;

use super::orphans;
use super::report::{self, Report};

/// What units and the last report say. Both may know nothing.
pub(super) fn rebuild(facts: &NodeFacts, uid: &str) -> PodHistory {
    let mut history = orphans::rebuilt(uid, &orphans::find_pod(facts, uid));
    // What was being removed is over: put back, it begins anew.
    if let Some(report) = report::last(&facts.run_root, uid).filter(|report| !report.stopping) {
        remember(&mut history, &report, super::now_ms());
    }
    history
}

fn remember(history: &mut PodHistory, report: &Report, now_ms: i64) {
    history.started_ms = report.started_ms;
    for (name, attempt, ended) in &report.attempts {
        let Some(status) = status_of(report, name) else { continue };
        let unit = history.containers.get(name).and_then(|known| known.attempt);
        // A unit of a later attempt is newer than the report; of one that should run and has none, nothing is left.
        if unit.is_some_and(|unit| unit > *attempt) || (unit.is_none() && !ended) {
            continue;
        }
        let (newest, before) = invocations(report, name);
        let known = history.containers.entry(name.clone()).or_default();
        known.attempt = Some(*attempt);
        known.restart_count = u32::try_from(status.restart_count).unwrap_or(0);
        known.previous = previous(status, before, *ended);
        if *ended {
            known.exit = Some(end(status, newest, *attempt, now_ms));
        } else if !newest.is_empty() {
            // That it runs is counted already.
            known.run = Some(Run { invocation: newest, started_ms: running_since(status) });
        }
    }
}

fn status_of<'r>(report: &'r Report, name: &str) -> Option<&'r ContainerStatus> {
    let status = report.pod.status.as_ref()?;
    let mut all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    all.find(|container| container.name == name)
}

/// Of the newest attempt and of the one before it; empty where that is not known.
fn invocations(report: &Report, name: &str) -> (String, String) {
    let found = report.invocations.iter().find(|(container, ..)| container == name).cloned();
    found.map(|(_, newest, before)| (newest.unwrap_or_default(), before.unwrap_or_default())).unwrap_or_default()
}

fn running_since(status: &ContainerStatus) -> i64 {
    let running = status.state.as_ref().and_then(|state| state.running.as_ref());
    running.map_or(0, |running| ms(&running.started_at))
}

/// How the newest attempt ended: while it waits to be started again, its end is the last state.
fn end(status: &ContainerStatus, invocation: String, attempt: u32, now_ms: i64) -> Exit {
    let states = [&status.state, &status.last_state];
    if let Some(terminated) = states.into_iter().find_map(|state| state.as_ref()?.terminated.clone()) {
        return exit(&terminated, invocation, attempt);
    }
    let waiting = status.state.as_ref().and_then(|state| state.waiting.clone()).unwrap_or_default();
    Exit {
        attempt,
        finished_ms: now_ms,
        exit_code: 128,
        reason: waiting.reason.unwrap_or_default(),
        message: waiting.message.unwrap_or_default(),
        never_ran: true,
        ..Exit::default()
    }
}

/// The end before the newest attempt's: the last state, unless that is the newest attempt's own.
fn previous(status: &ContainerStatus, invocation: String, ended: bool) -> Option<Exit> {
    let waits = status.state.as_ref().is_some_and(|state| state.waiting.is_some());
    if ended && waits {
        return None;
    }
    let terminated = status.last_state.as_ref()?.terminated.as_ref()?;
    Some(exit(terminated, invocation, 0))
}

fn ms(time: &Option<Time>) -> i64 {
    time.as_ref().map_or(0, |time| time.0.as_millisecond())
}

fn exit(terminated: &ContainerStateTerminated, invocation: String, attempt: u32) -> Exit {
    Exit {
        attempt,
        invocation,
        started_ms: ms(&terminated.started_at),
        finished_ms: ms(&terminated.finished_at),
        exit_code: terminated.exit_code,
        signal: terminated.signal,
        reason: terminated.reason.clone().unwrap_or_default(),
        message: terminated.message.clone().unwrap_or_default(),
        never_ran: false,
    }
}
