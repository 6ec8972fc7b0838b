//! A history for a pod whose own was lost (spoilt, or written by a newer version): from its units, and for what is over
//! from the last report. Without that, what has run to its end would run again and its logs would begin anew.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use plan::admission::{NODE_PORTS, PortHistory, REJECTED, Rejection};
use plan::fields::ports::claims;
use plan::history::{ContainerHistory, Exit, PodHistory, Run};
use plan::inputs::NodeFacts;
use plan::steps::RestartPolicy;

use super::orphans;
use super::report::{self, Report};

/// What a container id begins with.
const CONTAINER_ID: &str = "systemd://";

/// What units and the last report say. Both may know nothing.
pub(super) fn rebuild(facts: &NodeFacts, uid: &str) -> PodHistory {
    let mut history = orphans::rebuilt(uid, &orphans::find_pod(facts, uid));
    // What was being removed is over: put back, it begins anew.
    if let Some(report) = report::last(&facts.run_root, uid).filter(|report| !report.stopping) {
        remember(&mut history, &report, super::now_ms());
    }
    history
}

/// What the API server remembers of a pod of which nothing is left here, because the node was rebooted or reset: what ran
/// then has ended in a way that nobody knows, and counts as one end.
pub(super) fn from_cluster(history: &mut PodHistory, pod: &Pod, now_ms: i64) {
    let Some(status) = &pod.status else { return };
    history.started_ms = ms(&status.start_time);
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    for container in status.container_statuses.iter().flatten() {
        restore(history, container, now_ms);
    }
    let policy = RestartPolicy::of(pod);
    let starts = |container: &ContainerHistory| container.exit.as_ref().is_none_or(|exit| policy.restarts(exit));
    let apps = pod.spec.iter().flat_map(|spec| &spec.containers);
    history.anew = apps.into_iter().any(|app| history.containers.get(&app.name).is_none_or(starts));
    // What the init containers did lasts as long as what they made: if something starts again, they do.
    let lasts = over || !history.anew;
    for container in status.init_container_statuses.iter().flatten().filter(|_| lasts) {
        restore(history, container, now_ms);
    }
    if over && history.containers.is_empty() {
        let message = status.message.as_deref().unwrap_or_default();
        history.rejection = Some(Rejection {
            reason: status.reason.clone().unwrap_or_default(),
            message: message.strip_prefix(REJECTED).unwrap_or(message).to_owned(),
        });
    }
}

/// One that has not run yet is left as it is.
fn restore(history: &mut PodHistory, container: &ContainerStatus, now_ms: i64) {
    let attempt = u32::try_from(container.restart_count).unwrap_or(0);
    let Some(exit) = last_end(container, attempt, now_ms) else { return };
    let known = history.containers.entry(container.name.clone()).or_default();
    known.attempt = Some(attempt);
    known.restart_count = attempt;
    known.previous = previous(container, String::new(), true);
    known.exit = Some(exit);
}

/// None: it has not run yet.
fn last_end(container: &ContainerStatus, attempt: u32, now_ms: i64) -> Option<Exit> {
    let state = container.state.as_ref();
    let id = |id: &Option<String>| {
        let id = id.as_deref().unwrap_or_default();
        id.strip_prefix(CONTAINER_ID).unwrap_or_default().to_owned()
    };
    if let Some(running) = state.and_then(|state| state.running.as_ref()) {
        return Some(Exit {
            attempt,
            invocation: id(&container.container_id),
            started_ms: ms(&running.started_at),
            finished_ms: now_ms,
            exit_code: 137,
            reason: "ContainerStatusUnknown".to_owned(),
            message: "The container could not be located: the node was rebooted or its records were lost".to_owned(),
            ..Exit::default()
        });
    }
    let of = |state: Option<&ContainerState>| state?.terminated.clone();
    let terminated = of(state).or_else(|| of(container.last_state.as_ref()))?;
    Some(exit(&terminated, id(&terminated.container_id), attempt))
}

fn remember(history: &mut PodHistory, report: &Report, now_ms: i64) {
    history.started_ms = report.started_ms;
    history.rejection = rejection(report);
    // Its place in line, or one near it. That it was admitted is known by what it has begun.
    let claims = report.pod.spec.as_ref().map(claims).unwrap_or_default();
    if report.started_ms > 0 && !claims.is_empty() {
        history.ports = Some(PortHistory { since_ms: report.started_ms, held: false, claims });
    }
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

/// It stands for as long as the pod does: whoever made that pod has made another one elsewhere.
fn rejection(report: &Report) -> Option<Rejection> {
    let status = report.pod.status.as_ref()?;
    let is = |word: &Option<String>, expected: &str| word.as_deref() == Some(expected);
    let rejected = is(&status.phase, "Failed") && is(&status.reason, NODE_PORTS) && report.attempts.is_empty();
    let message = status.message.as_deref().unwrap_or_default();
    let message = message.strip_prefix(REJECTED).unwrap_or(message).to_owned();
    rejected.then(|| Rejection { reason: NODE_PORTS.to_owned(), message })
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn remembered(status: serde_json::Value) -> PodHistory {
        let spec = json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
        let report = json!({
            "pod": {"metadata": {"name": "web"}, "spec": spec, "status": status}, "source": "", "stopping": false,
            "units": [], "events": [], "invocations": [], "startedMs": 5,
        });
        let mut history = PodHistory::default();
        remember(&mut history, &serde_json::from_value(report).unwrap(), 9);
        history
    }

    #[test]
    fn what_the_api_server_remembers_is_not_run_again_and_counts() {
        let status = json!({"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "containerStatuses": [
            {"name": "ran", "image": "", "imageID": "", "ready": true, "restartCount": 3, "containerID": "systemd://i",
                "state": {"running": {"startedAt": "2026-01-01T00:00:01Z"}},
                "lastState": {"terminated": {"exitCode": 9}}},
            {"name": "done", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "reason": "Completed", "containerID": "systemd://j"}}},
            {"name": "waits", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ContainerCreating"}}},
        ]});
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web"}, "status": status})).unwrap();
        let mut history = PodHistory::default();
        from_cluster(&mut history, &pod, 1_800_000_000_000);
        let ran = &history.containers["ran"];
        assert_eq!((ran.attempt, ran.restart_count, ran.next_attempt()), (Some(3), 3, 4));
        let exit = ran.exit.clone().unwrap();
        assert_eq!(
            (exit.exit_code, exit.reason.as_str(), exit.invocation.as_str()),
            (137, "ContainerStatusUnknown", "i")
        );
        assert_eq!(ran.previous.as_ref().unwrap().exit_code, 9);
        let done = history.containers["done"].exit.clone().unwrap();
        assert_eq!((done.exit_code, done.reason.as_str(), done.invocation.as_str()), (0, "Completed", "j"));
        assert!(!history.containers.contains_key("waits") && history.rejection.is_none());

        let failed = json!({"phase": "Failed", "reason": "NodePorts", "message": "Pod was rejected: no port"});
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web"}, "status": failed})).unwrap();
        let mut history = PodHistory::default();
        from_cluster(&mut history, &pod, 1);
        assert_eq!(history.rejection.unwrap().message, "no port");
    }

    #[test]
    fn init_containers_run_again_where_something_starts_again() {
        let ended = |name: &str, code: i32| {
            json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code}}})
        };
        let restored = |policy: &str| {
            let spec =
                json!({"restartPolicy": policy, "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
            let status = json!({"phase": "Running", "initContainerStatuses": [ended("i", 0)], "containerStatuses": [ended("a", 0)]});
            let pod = json!({"metadata": {"name": "web"}, "spec": spec, "status": status});
            let mut history = PodHistory::default();
            from_cluster(&mut history, &serde_json::from_value(pod).unwrap(), 1);
            (history.anew, history.containers.contains_key("i"))
        };
        assert_eq!(restored("Always"), (true, false));
        assert_eq!(restored("Never"), (false, true));
    }

    #[test]
    fn a_rejection_and_a_place_in_line_outlive_the_history() {
        let status = json!({"phase": "Failed", "reason": "NodePorts", "message": "Pod was rejected: no port"});
        let rejection = Rejection { reason: "NodePorts".to_owned(), message: "no port".to_owned() };
        assert_eq!(remembered(status).rejection, Some(rejection));
        let waits = remembered(json!({"phase": "Pending"}));
        assert_eq!(waits.rejection, None);
        let ports = waits.ports.unwrap();
        assert_eq!((ports.since_ms, ports.held, ports.claims.len()), (5, false, 1));
        assert_eq!(remembered(json!({"phase": "Failed", "reason": "Unsupported"})).rejection, None);
    }
}
