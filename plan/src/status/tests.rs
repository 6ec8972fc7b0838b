use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerState, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;
use crate::attempt::AttemptObserved;
use crate::blocked::Blocked;
use crate::fields::fixtures::facts;
use crate::history::{ContainerHistory, Deletion, Exit, Run};
use crate::inputs::{ImageFacts, ImageState};
use crate::observed::UnitState;

const NOW: i64 = 1_000_000;

/// A pod with containers of these names; those that begin with `i` are init containers.
struct Case {
    pod: Pod,
    plan: PodPlan,
    history: PodHistory,
    observed: PodObserved,
    previous: Option<PodStatus>,
}

fn case(policy: &str, names: &[&str]) -> Case {
    let container = |n: &&str| Container { name: (*n).into(), ..Default::default() };
    let (init, app): (Vec<_>, Vec<_>) = names.iter().map(container).partition(|c| c.name.starts_with('i'));
    let pod = Pod {
        metadata: ObjectMeta {
            name: Some("p".into()),
            namespace: Some("ns".into()),
            generation: Some(4),
            ..Default::default()
        },
        spec: Some(PodSpec {
            restart_policy: Some(policy.into()),
            init_containers: (!init.is_empty()).then_some(init),
            containers: app,
            ..Default::default()
        }),
        status: None,
    };
    let mut plan = PodPlan::unplanned(&pod);
    for container in &mut plan.containers {
        container.image = ImageState::Present(ImageFacts::HostBinary { path: "/x".into() });
    }
    let history = PodHistory { uid: "u".into(), started_ms: 1_000, ..PodHistory::default() };
    Case { pod, plan, history, observed: PodObserved { containers: BTreeMap::new() }, previous: None }
}

impl Case {
    fn with(mut self, name: &str, history: ContainerHistory) -> Self {
        self.history.containers.insert(name.into(), history);
        self
    }

    fn runs(mut self, name: &str) -> Self {
        let unit = UnitState {
            load_state: "loaded".into(),
            active_state: "active".into(),
            invocation_id: "inv".into(),
            main_pid: 1,
            exec_main_start_us: 900_000_000,
            ..UnitState::default()
        };
        let seen = AttemptObserved { unit: Some(unit), ..AttemptObserved::default() };
        self.observed.containers.insert(name.into(), seen);
        self.history.containers.entry(name.into()).or_default().attempt.get_or_insert(0);
        self
    }

    fn deleted(mut self) -> Self {
        self.history.deletion = Some(Deletion { requested_ms: 1, deadline_ms: 2 });
        self
    }

    fn status(&self) -> PodStatus {
        status(&StatusInput {
            pod: &self.pod,
            plan: Ok(&self.plan),
            history: &self.history,
            observed: &self.observed,
            failure: None,
            previous: self.previous.as_ref(),
            facts: &facts(),
            now_ms: NOW,
        })
    }

    fn phase(&self) -> String {
        self.status().phase.unwrap()
    }

    fn shown(&self, name: &str) -> ContainerStatus {
        let status = self.status();
        let mut all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
        all.find(|c| c.name == name).unwrap().clone()
    }
}

/// Ended `times` times, each time so, the last time at `NOW - 1 s`.
fn ended(times: u32, code: i32, reason: &str) -> ContainerHistory {
    let mut history = ContainerHistory::default();
    for attempt in 0..times {
        history.begin(attempt);
        let exit = Exit {
            attempt,
            invocation: format!("e{attempt}"),
            started_ms: NOW - 5_000,
            finished_ms: NOW - 1_000,
            exit_code: code,
            reason: reason.into(),
            message: "m".into(),
            ..Exit::default()
        };
        history.end(exit, NOW);
    }
    history
}

fn again(times: u32, code: i32) -> ContainerHistory {
    let mut history = ended(times, code, "Error");
    history.begin(times);
    history
}

fn never(reason: &str) -> ContainerHistory {
    let mut history = ContainerHistory::default();
    history.begin(0);
    history.end(
        Exit { reason: reason.into(), message: "why".into(), never_ran: true, exit_code: 128, ..Exit::default() },
        NOW,
    );
    history
}

fn word(state: Option<&ContainerState>) -> String {
    let Some(state) = state else { return "-".into() };
    match (&state.running, &state.waiting, &state.terminated) {
        (Some(_), None, None) => "running".into(),
        (None, Some(w), None) => w.reason.clone().unwrap(),
        (None, None, Some(t)) => format!("{} {}", t.reason.clone().unwrap(), t.exit_code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn phases() {
    let two = |policy: &str| case(policy, &["a", "b"]);
    let both = |policy: &str, a, b| two(policy).with("a", ended(1, a, "x")).with("b", ended(1, b, "x"));
    let init = |policy: &str| case(policy, &["i", "a"]);
    let cases = [
        ("nothing yet", two("Always"), "Pending"),
        ("one runs, one waits", two("Always").runs("a"), "Pending"),
        ("both run", two("Always").runs("a").runs("b"), "Running"),
        ("one runs, one is between runs", two("Always").runs("a").with("b", again(1, 1)), "Running"),
        ("one runs, one ended", two("Never").runs("a").with("b", ended(1, 1, "x")), "Running"),
        ("all end, Always", both("Always", 0, 0), "Running"),
        ("all end well, OnFailure", both("OnFailure", 0, 0), "Succeeded"),
        ("one fails, OnFailure", both("OnFailure", 0, 1), "Running"),
        ("all end well, Never", both("Never", 0, 0), "Succeeded"),
        ("one fails, Never", both("Never", 0, 1), "Failed"),
        ("could not be created, Never", case("Never", &["a"]).with("a", never("CreateContainerError")), "Pending"),
        ("start error, Never", case("Never", &["a"]).with("a", ended(1, 128, "StartError")), "Failed"),
        ("init runs", init("Always").runs("i"), "Pending"),
        ("init fails, Always", init("Always").with("i", ended(3, 1, "x")), "Pending"),
        ("init fails, Never", init("Never").with("i", ended(1, 1, "x")), "Failed"),
        ("init is done", init("Always").with("i", ended(1, 0, "x")), "Pending"),
        (
            "init is done, app between runs",
            init("Always").with("i", ended(1, 0, "x")).with("a", again(1, 1)),
            "Running",
        ),
        ("deleted, one still runs", two("Always").runs("a").with("b", ended(1, 0, "x")).deleted(), "Running"),
        ("deleted, all ended well", both("Always", 0, 0).deleted(), "Succeeded"),
        ("deleted, one badly", both("Always", 0, 143).deleted(), "Failed"),
        ("deleted before it began", two("Always").deleted(), "Failed"),
    ];
    for (name, case, expected) in cases {
        assert_eq!(case.phase(), expected, "{name}");
    }
    let mut done = both("Always", 0, 0);
    done.previous =
        Some(PodStatus { phase: Some("Failed".into()), reason: Some("Evicted".into()), ..Default::default() });
    assert_eq!((done.phase().as_str(), done.status().reason.as_deref()), ("Failed", Some("Evicted")), "no way back");
}

#[test]
fn container_states() {
    let one = |history| case("Always", &["a"]).with("a", history);
    let never_again = |history| case("Never", &["a"]).with("a", history);
    let cases = [
        ("fresh", case("Always", &["a"]), "ContainerCreating", "-", 0),
        ("runs", case("Always", &["a"]).runs("a"), "running", "-", 0),
        ("ended, restarts at once", one(ended(1, 1, "Error")), "Error 1", "-", 0),
        ("restarts just now", one(again(1, 1)), "ContainerCreating", "Error 1", 0),
        ("runs again", one(again(1, 1)).runs("a"), "running", "Error 1", 0),
        ("backs off", one(ended(2, 1, "Error")), "CrashLoopBackOff", "Error 1", 1),
        ("start error", one(ended(1, 127, "StartError")), "RunContainerError", "StartError 127", 0),
        ("start error backs off", one(ended(2, 127, "StartError")), "CrashLoopBackOff", "StartError 127", 1),
        ("start error, Never", never_again(ended(1, 127, "StartError")), "StartError 127", "-", 0),
        ("never ran", one(never("CreateContainerError")), "CreateContainerError", "-", 0),
        ("ended, Never", never_again(ended(1, 0, "Completed")), "Completed 0", "-", 0),
        ("ended, deleted", one(ended(2, 143, "Error")).deleted(), "Error 143", "Error 143", 1),
        ("never ran, deleted", one(never("CreateContainerError")).deleted(), "ContainerStatusUnknown 137", "-", 0),
    ];
    for (name, case, state, last, restarts) in cases {
        let shown = case.shown("a");
        assert_eq!(
            (word(shown.state.as_ref()), word(shown.last_state.as_ref())),
            (state.into(), last.into()),
            "{name}"
        );
        assert_eq!(shown.restart_count, restarts, "{name}");
        assert_eq!((shown.ready, shown.started), (state == "running", Some(state == "running")), "{name}");
    }
    let backs_off = one(ended(2, 1, "Error")).shown("a");
    let message = backs_off.state.unwrap().waiting.unwrap().message.unwrap();
    assert_eq!(message, "back-off 10s restarting failed container=a pod=p_ns(u)");
    assert_eq!(backs_off.container_id.as_deref(), Some("systemd://e1"));
    let mut runs = again(1, 1);
    runs.see_run(Run { invocation: "inv".into(), started_ms: 1 });
    let runs = one(runs).runs("a").shown("a");
    assert_eq!(
        (runs.restart_count, runs.container_id.as_deref(), runs.image_id.as_str()),
        (1, Some("systemd://inv"), "file:///x")
    );
}

#[test]
fn what_a_container_waits_for() {
    let waits = |change: &dyn Fn(&mut PodPlan), history: Option<ContainerHistory>| {
        let mut case = case("Always", &["a"]);
        change(&mut case.plan);
        let case = match history {
            Some(history) => case.with("a", history),
            None => case,
        };
        let waiting = case.shown("a").state.unwrap().waiting.unwrap();
        (waiting.reason.unwrap(), waiting.message)
    };
    let failed = |reason: &str| ImageState::Failed { reason: reason.into(), message: "m".into(), retry_at_ms: None };
    for reason in ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"] {
        let fails = |p: &mut PodPlan| p.containers[0].image = failed(reason);
        assert_eq!(waits(&fails, None), (reason.into(), Some("m".into())));
        assert_eq!(waits(&fails, Some(ended(1, 1, "Error"))).0, reason);
        assert_eq!(waits(&fails, Some(ended(2, 1, "Error"))).0, "CrashLoopBackOff", "the back-off comes first");
    }
    let pulls = |p: &mut PodPlan| p.containers[0].image = ImageState::Pulling { message: "lock".into() };
    assert_eq!(waits(&pulls, None), ("ContainerCreating".into(), Some("lock".into())));
    let config = |p: &mut PodPlan| p.containers[0].attempt = Err(Blocked::new("CreateContainerConfigError", "no key"));
    assert_eq!(waits(&config, None), ("CreateContainerConfigError".into(), Some("no key".into())));
    let volume = |p: &mut PodPlan| p.blocked = Some(Blocked::new("FailedMount", "no Secret"));
    assert_eq!(waits(&volume, None), ("ContainerCreating".into(), Some("no Secret".into())));
    let initialising = case("Always", &["i", "a"]).runs("i");
    assert_eq!(word(initialising.shown("a").state.as_ref()), "PodInitializing");
}

#[test]
fn conditions_as_the_kubelet_words_them() {
    let told = |case: &Case| {
        let list = case.status().conditions.unwrap();
        assert!(list.iter().all(|c| c.observed_generation == Some(4) && c.last_transition_time.is_some()));
        list.iter()
            .map(|c| format!("{} {} {}", c.type_, c.status, c.reason.clone().unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    let done = "ContainersReady False PodCompleted";
    assert_eq!(
        told(&case("Always", &["i", "a"]).runs("i")),
        [
            "PodReadyToStartContainers True ",
            "Initialized False ContainersNotInitialized",
            "Ready False ContainersNotReady",
            "ContainersReady False ContainersNotReady",
            "PodScheduled True ",
        ]
    );
    let runs = case("Always", &["a"]).runs("a");
    assert_eq!(told(&runs)[1..4], ["Initialized True ", "Ready True ", "ContainersReady True "]);
    let ended = case("Never", &["a"]).with("a", ended(1, 0, "Completed"));
    assert_eq!(
        told(&ended)[..4],
        [
            "PodReadyToStartContainers False PodSandboxNotReady",
            "Initialized True PodCompleted",
            "Ready False PodCompleted",
            done
        ]
    );
    let unready = case("Always", &["b", "a"]).runs("a").status().conditions.unwrap();
    assert_eq!(unready[2].message.as_deref(), Some("containers with unready status: [b]"));
}

#[test]
fn a_condition_keeps_its_time_and_a_foreign_one_stays() {
    let mut case = case("Always", &["a"]);
    let at = |ms| time(ms);
    let condition = |kind: &str, status: &str| PodCondition {
        type_: kind.into(),
        status: status.into(),
        last_transition_time: at(7_000),
        ..Default::default()
    };
    case.pod.status = Some(PodStatus {
        conditions: Some(vec![
            condition("PodScheduled", "True"),
            condition("x.io/gate", "False"),
            condition("Ready", "True"),
        ]),
        start_time: at(3_000),
        qos_class: Some("Guaranteed".into()),
        ..Default::default()
    });
    let status = case.status();
    assert_eq!((status.start_time, status.qos_class.as_deref()), (at(3_000), Some("Guaranteed")));
    let found =
        |kind: &str| status.conditions.iter().flatten().find(|c| c.type_ == kind).unwrap().last_transition_time.clone();
    assert_eq!((found("PodScheduled"), found("x.io/gate"), found("Ready")), (at(7_000), at(7_000), at(NOW)));
}

#[test]
fn a_refused_pod_says_why() {
    let case = case("Always", &["a"]);
    let refusals = [Refusal::new("spec.x", "no"), Refusal::new("spec.y", "neither")];
    let facts = facts();
    let input = StatusInput {
        pod: &case.pod,
        plan: Err(&refusals),
        history: &case.history,
        observed: &case.observed,
        failure: None,
        previous: None,
        facts: &facts,
        now_ms: NOW,
    };
    let status = status(&input);
    assert_eq!(
        (status.phase.as_deref(), status.message.as_deref()),
        (Some("Failed"), Some("spec.x: no; spec.y: neither"))
    );
    let reasons: Vec<_> = status.conditions.unwrap().iter().map(|c| (c.status.clone(), c.reason.clone())).collect();
    assert_eq!(reasons[2], ("False".to_owned(), Some("PodFailed".to_owned())));
}

#[test]
fn a_pod_whose_port_is_taken_waits_or_is_rejected_as_by_a_kubelet() {
    let mut waits = case("Always", &["a"]);
    waits.plan.blocked = Some(Blocked::new("NodePorts", "port 80/TCP is taken by pod ns/web"));
    let status = waits.status();
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let state = status.container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(
        (state.reason.as_deref(), state.message.as_deref()),
        (Some("ContainerCreating"), Some("port 80/TCP is taken by pod ns/web"))
    );

    let mut rejected = case("Always", &["a"]);
    rejected.history.rejection = Some(Rejection { reason: "NodePorts".into(), message: "no port".into() });
    // Also once it is being deleted, and whatever could be planned by now.
    for rejected in [rejected.status(), rejected.deleted().status()] {
        assert_eq!(
            (rejected.phase.as_deref(), rejected.reason.as_deref(), rejected.message.as_deref()),
            (Some("Failed"), Some("NodePorts"), Some("Pod was rejected: no port"))
        );
        assert_eq!(rejected.container_statuses, None);
    }
}
