use k8s_openapi::api::core::v1::PodSpec;

use super::*;
use crate::admission::{PortHistory, Rejection};
use crate::attempt::StartRefusal;
use crate::blocked::Blocked;
use crate::history::{ContainerHistory, Deletion, Exit, PackageUse};
use crate::inputs::{ImageFacts, PackageFacts};
use crate::launch::exit::ExitRecord;
use crate::launch::{InheritEnv, Launch};
use crate::observed::UnitState;
use crate::pod_plan::{HostPathCreate, VolumeContent};

const NOW: i64 = 1_000_000;

fn present() -> ImageState {
    ImageState::Present(ImageFacts::HostBinary { path: "/bin/x".into() })
}

fn container(name: &str, role: ContainerRole, attempt: u32) -> ContainerPlan {
    let launch = Launch {
        version: 1,
        lines: BTreeMap::new(),
        env: Vec::new(),
        inherit: InheritEnv::All,
        cwd: None,
        identity: None,
        chown: Vec::new(),
        capabilities: None,
        no_new_privileges: false,
        failure_file: String::new(),
    };
    let planned = AttemptPlan {
        container: name.into(),
        attempt,
        unit: name::service("ns", "p", name, "u", attempt),
        unit_text: String::new(),
        slice: String::new(),
        slice_text: String::new(),
        launch,
        own_dirs: Vec::new(),
        make: Vec::new(),
        host_paths: vec!["/var/x".into()],
        launch_path: String::new(),
    };
    ContainerPlan { name: name.into(), role, image: present(), attempt: Ok(planned) }
}

fn plan(containers: Vec<ContainerPlan>) -> PodPlan {
    let content = VolumeContent::Empty { path: "/v".into(), mode: 0o777, gid: None, tmpfs_bytes: None };
    let volumes = vec![VolumePlan { name: "v".into(), content, hash: "1".into() }];
    PodPlan { volumes, containers, ..PodPlan::unplanned(&Pod::default()) }
}

fn app(attempt: u32) -> PodPlan {
    plan(vec![container("a", ContainerRole::App, attempt)])
}

fn pod(policy: &str) -> Pod {
    Pod { spec: Some(PodSpec { restart_policy: Some(policy.into()), ..Default::default() }), ..Default::default() }
}

fn history(containers: &[(&str, ContainerHistory)]) -> PodHistory {
    PodHistory {
        version: HISTORY_VERSION,
        uid: "u".into(),
        namespace: "ns".into(),
        name: "p".into(),
        started_ms: 1,
        volumes: [("v".to_owned(), "1".to_owned())].into(),
        containers: containers.iter().map(|(n, h)| ((*n).to_owned(), h.clone())).collect(),
        ..PodHistory::default()
    }
}

fn begun(attempt: u32) -> ContainerHistory {
    ContainerHistory { attempt: Some(attempt), ..Default::default() }
}

fn ended(attempt: u32, exit_code: i32, finished_ms: i64) -> ContainerHistory {
    let mut history = begun(attempt);
    let invocation = format!("i{attempt}");
    history.end(Exit { attempt, invocation, exit_code, finished_ms, reason: "Error".into(), ..Exit::default() }, NOW);
    history
}

fn live(active: &str, invocation: &str) -> AttemptObserved {
    let unit = UnitState {
        load_state: "loaded".into(),
        active_state: active.into(),
        sub_state: active.into(),
        invocation_id: invocation.into(),
        main_pid: 7,
        exec_main_start_us: 900_000_000,
        ..Default::default()
    };
    AttemptObserved { unit: Some(unit), started: true, leftovers: true, ..Default::default() }
}

fn failed(code: i32) -> AttemptObserved {
    let mut seen = live("failed", "i0");
    if let Some(unit) = &mut seen.unit {
        (unit.exec_main_code, unit.exec_main_status, unit.exec_main_exit_us) = (1, code, 950_000_000);
    }
    seen
}

fn seen(containers: &[(&str, AttemptObserved)]) -> PodObserved {
    PodObserved { containers: containers.iter().map(|(n, o)| ((*n).to_owned(), o.clone())).collect() }
}

fn words(decision: &Decision) -> Vec<String> {
    let short = |unit: &str| unit.replace("systemk.ns.p.", "").replace("_0bfe935e", "").replace(".service", "");
    let word = |step: &Step| match step {
        Step::SaveHistory(_) => "save".to_owned(),
        Step::PrepareVolume(volume) => format!("volume {}", volume.name),
        Step::Pull { container, attempt } => format!("pull {container}_{attempt}"),
        Step::CreateAttempt(plan) => format!("create {}_{}", plan.container, plan.attempt),
        Step::StartUnit { container, attempt, .. } => format!("start {container}_{attempt}"),
        Step::StopUnit { unit, .. } => format!("stop {}", short(unit)),
        Step::KillUnit { unit, .. } => format!("kill {}", short(unit)),
        Step::CleanAttempt { container, attempt, .. } => format!("clean {container}_{attempt}"),
        Step::RemovePod { .. } => "remove".to_owned(),
    };
    decision.steps.iter().map(word).collect()
}

fn run(policy: &str, plan: &PodPlan, history: &PodHistory, observed: &PodObserved) -> Decision {
    steps(Desired::Run { pod: &pod(policy), plan }, history, observed, NOW)
}

fn stop(history: &PodHistory, observed: &PodObserved, grace_ms: i64, now_ms: i64) -> Decision {
    steps(Desired::Stop { requested_ms: 5, grace_ms }, history, observed, now_ms)
}

#[test]
fn a_fresh_pod_and_a_stop_before_it_began() {
    let new = PodHistory { uid: "u".into(), namespace: "ns".into(), name: "p".into(), ..Default::default() };
    let two = plan(vec![container("a", ContainerRole::App, 0), container("b", ContainerRole::App, 0)]);
    let decision = run("Always", &two, &new, &PodObserved::default());
    let expected = ["volume v", "save", "create a_0", "start a_0", "save", "create b_0", "start b_0"];
    assert_eq!(words(&decision), expected);
    assert_eq!((decision.history.started_ms, decision.history.made_paths.len()), (NOW, 1));
    let gone = stop(&new, &PodObserved::default(), 30_000, NOW);
    assert_eq!((words(&gone), gone.gone), (vec!["save".to_owned(), "remove".to_owned()], true));
    let announced = history(&[("a", begun(0))]);
    assert_eq!(words(&stop(&announced, &PodObserved::default(), 30_000, NOW)), ["save", "clean a_0", "remove"]);
}

#[test]
fn a_path_of_the_host_is_made_for_a_start_and_not_remembered() {
    let mut planned = app(0);
    let of = |create| VolumeContent::Host { path: "/h".into(), create };
    planned.volumes[0] = VolumePlan { name: "h".into(), content: of(Some(HostPathCreate::File)), hash: "1".into() };
    let missing = run("Always", &planned, &history(&[]), &PodObserved::default());
    assert_eq!(words(&missing), ["volume h", "save", "create a_0", "start a_0"]);
    assert!(!missing.history.volumes.contains_key("h"));
    // While it runs nothing is made, nor once it has ended for good.
    let observed = seen(&[("a", live("active", "i0"))]);
    let running = run("Always", &planned, &missing.history, &observed);
    assert_eq!(words(&running), ["save"], "its run is noted");
    assert!(words(&run("Always", &planned, &running.history, &observed)).is_empty());
    assert!(words(&run("Never", &planned, &history(&[("a", ended(0, 0, 1))]), &PodObserved::default())).is_empty());
    planned.volumes[0].content = of(None);
    assert_eq!(
        words(&run("Always", &planned, &history(&[]), &PodObserved::default())),
        ["save", "create a_0", "start a_0"]
    );
}

#[test]
fn what_an_attempt_runs_is_noted_before_it_begins() {
    let mut of_package = container("a", ContainerRole::App, 1);
    let package = PackageFacts { name: "x".into(), version: "2".into(), ..PackageFacts::default() };
    of_package.image = ImageState::Present(ImageFacts::Package(package));
    let mut before = ended(0, 0, 1);
    before.package = Some(PackageUse { name: "x".into(), version: "1".into() });
    let decision = run("Always", &plan(vec![of_package]), &history(&[("a", before)]), &PodObserved::default());
    assert_eq!(words(&decision), ["save", "create a_1", "start a_1"]);
    let Some(Step::SaveHistory(saved)) = decision.steps.first() else { panic!("{:?}", decision.steps) };
    assert_eq!(saved.containers["a"].package, Some(PackageUse { name: "x".into(), version: "2".into() }));
}

#[test]
fn a_run_is_noted_once_and_then_there_is_nothing_to_do() {
    let observed = seen(&[("a", live("active", "i0"))]);
    let decision = run("Always", &app(0), &history(&[("a", begun(0))]), &observed);
    assert_eq!(words(&decision), ["save"]);
    let again = run("Always", &app(0), &decision.history, &observed);
    assert_eq!((words(&again), again.wake_at_ms), (vec![], None));
    let mut changed = app(0);
    changed.volumes[0].hash = "2".into();
    assert_eq!(words(&run("Always", &changed, &decision.history, &observed)), ["volume v", "save"]);
}

#[test]
fn init_containers_come_first_and_one_after_the_other() {
    let all = plan(vec![
        container("i", ContainerRole::Init, 0),
        container("j", ContainerRole::Init, 0),
        container("a", ContainerRole::App, 0),
    ]);
    let start =
        |decision: Decision| words(&decision).into_iter().filter(|w| w.starts_with("start")).collect::<Vec<_>>();
    let nothing = PodObserved::default();
    assert_eq!(start(run("Always", &all, &history(&[]), &nothing)), ["start i_0"]);
    assert_eq!(start(run("Always", &all, &history(&[("i", ended(0, 0, 1))]), &nothing)), ["start j_0"]);
    let done = [("i", ended(0, 0, 1)), ("j", ended(0, 0, 1))];
    assert_eq!(start(run("Always", &all, &history(&done), &nothing)), ["start a_0"]);
    // Init's history is lost, the app's is not: the pod was initialised.
    assert!(start(run("Always", &all, &history(&[("a", begun(0))]), &seen(&[("a", live("active", "x"))]))).is_empty());
    let again = plan(vec![container("i", ContainerRole::Init, 1), container("a", ContainerRole::App, 0)]);
    let bad = history(&[("i", ended(0, 1, NOW - 5))]);
    assert_eq!(start(run("Never", &again, &bad, &nothing)), Vec::<String>::new());
    assert_eq!(start(run("OnFailure", &again, &bad, &nothing)), ["start i_1"]);
    assert_eq!(start(run("Always", &again, &bad, &nothing)), ["start i_1"]);
}

#[test]
fn an_end_is_saved_before_it_is_cleaned_and_cleaned_before_the_next_start() {
    let first = run("Always", &app(0), &history(&[("a", begun(0))]), &seen(&[("a", failed(1))]));
    assert_eq!(words(&first), ["save", "clean a_0"]);
    assert_eq!(first.wake_at_ms, Some(NOW), "the plan is of the attempt that ended");
    let observed = seen(&[("a", failed(1))]);
    let next = run("Always", &app(1), &first.history, &observed);
    assert_eq!(words(&next), ["clean a_0", "save", "create a_1", "start a_1"]);
    let cleaned = run("Never", &app(1), &first.history, &PodObserved::default());
    assert_eq!((words(&cleaned), cleaned.wake_at_ms), (vec![], None));
    for (policy, code, starts) in
        [("OnFailure", 0, false), ("OnFailure", 1, true), ("Never", 1, false), ("Always", 0, true)]
    {
        let decision = run(policy, &app(1), &history(&[("a", ended(0, code, NOW - 5))]), &PodObserved::default());
        assert_eq!(words(&decision).contains(&"start a_1".to_owned()), starts, "{policy} {code}");
    }
}

#[test]
fn the_back_off_is_waited_for_and_doubles() {
    let mut known = begun(0);
    for (attempt, wait) in [0, 10_000, 20_000, 40_000].into_iter().enumerate() {
        let attempt = u32::try_from(attempt).unwrap();
        known.begin(attempt);
        known.end(Exit { attempt, finished_ms: NOW, exit_code: 1, ..Exit::default() }, NOW);
        let decision = run("Always", &app(attempt + 1), &history(&[("a", known.clone())]), &PodObserved::default());
        assert_eq!(decision.wake_at_ms, (wait > 0).then_some(NOW + wait));
        assert_eq!(decision.steps.is_empty(), wait > 0);
    }
    assert_eq!(known.restart_count, 3);
    known.begin(4);
    known.end(Exit { attempt: 4, started_ms: NOW - 600_001, finished_ms: NOW, ..Exit::default() }, NOW);
    assert_eq!(known.backoff.next_start(NOW), NOW, "a long run clears it");
    // The clock was put back by a day.
    let mut ahead = history(&[("a", known)]);
    ahead.containers.get_mut("a").unwrap().exit.as_mut().unwrap().finished_ms = NOW + 86_400_000;
    assert!(words(&run("Always", &app(5), &ahead, &PodObserved::default())).contains(&"start a_5".to_owned()));
}

#[test]
fn an_attempt_that_never_ran_is_no_restart_and_no_last_state() {
    let refused = StartRefusal { attempt: 1, reason: "CreateContainerError".into(), message: "no".into(), at_ms: NOW };
    let observed = seen(&[("a", AttemptObserved { refused: Some(refused), leftovers: true, ..Default::default() })]);
    let mut known = ended(0, 3, 5);
    known.begin(1);
    let decision = run("Never", &app(1), &history(&[("a", known)]), &observed);
    let after = &decision.history.containers["a"];
    assert!(after.exit.as_ref().unwrap().never_ran);
    assert_eq!((after.restart_count, after.previous.as_ref().unwrap().exit_code), (0, 3));
    let mut after = after.clone();
    after.begin(2);
    assert_eq!(after.previous.as_ref().unwrap().exit_code, 3);
    after.see_run(Run { invocation: "x".into(), started_ms: 1 });
    assert_eq!(after.restart_count, 1);
}

#[test]
fn images_are_waited_for() {
    let failed = |at| ImageState::Failed { reason: "ErrImagePull".into(), message: String::new(), retry_at_ms: at };
    let cases = [
        (ImageState::Needed, vec!["pull a_0"], None),
        (ImageState::Pulling { message: String::new() }, vec![], None),
        (failed(Some(NOW + 9)), vec![], Some(NOW + 9)),
        (failed(Some(NOW)), vec!["pull a_0"], None),
        (failed(None), vec![], None),
    ];
    for (image, expected, wake) in cases {
        let mut waits = app(0);
        waits.containers[0].image = image.clone();
        let decision = run("Always", &waits, &history(&[]), &PodObserved::default());
        assert_eq!(
            (words(&decision), decision.wake_at_ms),
            (expected.iter().map(|w| (*w).to_owned()).collect(), wake),
            "{image:?}"
        );
    }
}

#[test]
fn a_blocked_pod_starts_nothing_but_its_ends_are_kept() {
    let mut blocked = plan(vec![container("a", ContainerRole::App, 1), container("b", ContainerRole::App, 0)]);
    blocked.blocked = Some(Blocked::new("FailedMount", "no Secret"));
    let observed = seen(&[("a", failed(1)), ("b", live("active", "i0"))]);
    let decision = run("Always", &blocked, &history(&[("a", begun(0)), ("b", begun(0))]), &observed);
    assert_eq!(words(&decision), ["save", "clean a_0"]);
}

#[test]
fn a_stop_asks_once_and_kills_at_the_deadline() {
    let observed = seen(&[("a", live("active", "i0"))]);
    let first = stop(&history(&[("a", begun(0))]), &observed, 30_000, NOW);
    assert_eq!((words(&first), first.wake_at_ms), (vec!["save".to_owned(), "stop a_0".to_owned()], Some(NOW + 30_000)));
    let stopping = seen(&[("a", live("deactivating", "i0"))]);
    let second = stop(&first.history, &stopping, 30_000, NOW + 10_000);
    assert_eq!((words(&second), second.wake_at_ms), (vec![], Some(NOW + 30_000)), "over a restart of the agent too");
    let shorter = stop(&first.history, &stopping, 5_000, NOW + 10_000);
    assert_eq!((words(&shorter), shorter.wake_at_ms), (vec!["save".to_owned()], Some(NOW + 15_000)));
    let over = stop(&first.history, &stopping, 30_000, NOW + 30_000);
    assert_eq!((words(&over), over.wake_at_ms), (vec!["kill a_0".to_owned()], Some(NOW + 32_000)));
    let gone = stop(&first.history, &seen(&[("a", failed(1))]), 30_000, NOW + 31_000);
    assert_eq!(words(&gone), ["save", "clean a_0", "remove"]);
    assert!(gone.gone && !over.gone);
    let starting = stop(&history(&[("a", begun(0))]), &seen(&[("a", live("activating", "i0"))]), 0, NOW);
    assert_eq!(words(&starting), ["save", "stop a_0", "kill a_0"]);
}

#[test]
fn a_refused_pod_is_stopped_with_a_grace_and_kept() {
    let observed = seen(&[("a", live("active", "i0"))]);
    let decision = steps(Desired::Refused, &history(&[("a", begun(0))]), &observed, NOW);
    assert_eq!(
        (words(&decision), decision.wake_at_ms),
        (vec!["save".to_owned(), "stop a_0".to_owned()], Some(NOW + 30_000))
    );
    let ended = steps(Desired::Refused, &decision.history, &seen(&[("a", failed(0))]), NOW);
    assert_eq!(words(&ended), ["save", "clean a_0"]);
    assert!(!ended.gone);
    let nothing = steps(Desired::Refused, &history(&[]), &PodObserved::default(), NOW);
    assert_eq!((words(&nothing), nothing.history.deletion), (vec![], None));
    let plannable = PodHistory { deletion: Some(Deletion { requested_ms: 1, deadline_ms: 2 }), ..history(&[]) };
    assert_eq!(run("Always", &app(0), &plannable, &PodObserved::default()).history.deletion, None);
}

#[test]
fn a_unit_that_somebody_restarts_ends_once() {
    let mut known = begun(0);
    known.see_run(Run { invocation: "i0".into(), started_ms: 10 });
    let record = ExitRecord {
        version: 1,
        invocation: "i0".into(),
        result: "success".into(),
        code: "exited".into(),
        status: "3".into(),
        finished_at: "1970-01-01T00:01:00Z".into(),
    };
    let fresh = live("active", "i1");
    let recorded = AttemptObserved { exit_record: Some(record), ..fresh.clone() };
    let cases = [
        ("Always", &fresh, 137, true),
        ("Always", &recorded, 3, true),
        ("OnFailure", &recorded, 3, true),
        ("Never", &recorded, 3, false),
    ];
    for (policy, observed, code, adopted) in cases {
        let observed = seen(&[("a", observed.clone())]);
        let decision = run(policy, &app(0), &history(&[("a", known.clone())]), &observed);
        let after = &decision.history.containers["a"];
        let end = if adopted { after.previous.as_ref() } else { after.exit.as_ref() };
        assert_eq!((end.unwrap().exit_code, end.unwrap().started_ms), (code, 10), "{policy}");
        assert_eq!((after.exit.is_none(), after.restart_count), (adopted, u32::from(adopted)), "{policy}");
        let expected = if adopted { vec!["save"] } else { vec!["save", "stop a_0"] };
        assert_eq!(words(&decision), expected, "{policy}");
        if adopted {
            assert!(run(policy, &app(0), &decision.history, &observed).steps.is_empty(), "counted once");
        }
    }
    // Restarted before the agent ever saw it.
    let decision = run("Always", &app(0), &history(&[("a", begun(0))]), &seen(&[("a", recorded)]));
    assert_eq!(decision.history.containers["a"].restart_count, 1);
}

#[test]
fn nothing_of_a_pod_is_made_before_it_is_admitted() {
    let ports = |held| Some(PortHistory { since_ms: 5, held, claims: Vec::new() });
    let history = PodHistory { uid: "u".into(), ..PodHistory::default() };
    let look = |plan: &PodPlan, history: &PodHistory| {
        steps(Desired::Run { pod: &pod("Always"), plan }, history, &PodObserved::default(), NOW)
    };
    let waits = Admission::Waits(Blocked::new("NodePorts", "taken"));
    let waiting = look(&PodPlan { admission: waits, ports: ports(false), ..app(0) }, &history);
    assert!(matches!(waiting.steps[..], [Step::SaveHistory(_)]), "{:?}", waiting.steps);
    assert_eq!((waiting.wake_at_ms, waiting.history.ports.clone()), (None, ports(false)));
    // Its turn: that it holds the port is saved before anything is started.
    let admitted = look(&PodPlan { ports: ports(true), ..app(0) }, &waiting.history);
    let saved = admitted.steps.iter().position(|s| matches!(s, Step::SaveHistory(h) if h.ports == ports(true)));
    let started = admitted.steps.iter().position(|s| matches!(s, Step::StartUnit { .. }));
    assert!(saved < started && saved.is_some(), "{:?}", admitted.steps);

    let rejection = Rejection { reason: "NodePorts".into(), message: "taken".into() };
    let rejected = look(&PodPlan { admission: Admission::Rejected(rejection.clone()), ..app(0) }, &history);
    assert!(matches!(rejected.steps[..], [Step::SaveHistory(_)]), "{:?}", rejected.steps);
    assert_eq!(rejected.history.rejection, Some(rejection));
    let later = steps(Desired::Refused, &rejected.history, &PodObserved::default(), NOW + 1);
    assert_eq!((later.steps, later.wake_at_ms), (Vec::new(), None));
}
