#![allow(clippy::unwrap_used, reason = "a test: what is not there is a bug of the model")]
//! The world of the model test: units, what is on disk, and the truth about every run.

use std::collections::BTreeMap;

use plan::admission::Admission;
use plan::attempt::{AttemptObserved, FailureFile, StartRefusal};
use plan::blocked::Blocked;
use plan::history::PodHistory;
use plan::inputs::{ImageFacts, ImageState};
use plan::launch::exit::ExitRecord;
use plan::launch::{InheritEnv, Launch};
use plan::observed::{JobResult, UnitJob, UnitState};
use plan::pod_plan::{AttemptPlan, ContainerPlan, ContainerRole, PodPlan, VolumeContent, VolumePlan};
use plan::steps::{PodObserved, Step};
use plan::unit::name::service;

/// How a program ends if it is left alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ending {
    Exits(i32),
    Signal(i32),
    /// systemd cannot make the mounts: 226, no hook runs.
    SetUpFails,
    /// StartUnit is answered with an error.
    Refused,
    /// The start job is done and nothing happened.
    ConditionFalse,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    pub(crate) ending: Ending,
    pub(crate) runs_ms: i64,
    pub(crate) set_up_ms: i64,
    pub(crate) stops_ms: i64,
    pub(crate) hook_lost: bool,
}

#[derive(Clone, Debug)]
struct Unit {
    container: String,
    attempt: u32,
    program: Program,
    invocation: String,
    /// The program runs from here on.
    started: i64,
    ends: i64,
    /// SIGTERM was sent.
    stopping: bool,
    /// Code and status of a unit that stays loaded as failed.
    failed: Option<(i32, i32, &'static str)>,
}

/// The truth about one run.
#[derive(Clone, Debug)]
struct Truth {
    attempt: u32,
    invocation: String,
    code: Option<i32>,
    hook_lost: bool,
}

#[derive(Clone, Debug, Default)]
struct Dir {
    unit_file: bool,
    started: bool,
    failure: Option<FailureFile>,
    record: Option<ExitRecord>,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: i64,
    pub(crate) saved: Option<PodHistory>,
    programs: BTreeMap<String, (ContainerRole, Vec<Program>)>,
    order: Vec<String>,
    units: BTreeMap<String, Unit>,
    dirs: BTreeMap<(String, u32), Dir>,
    truth: BTreeMap<String, Vec<Truth>>,
    volume: Option<String>,
    image: bool,
    invocations: u32,
    meddled: bool,
    refused: BTreeMap<String, StartRefusal>,
    start_jobs: BTreeMap<String, JobResult>,
}

impl World {
    pub(crate) fn new(containers: &[(ContainerRole, Vec<Program>)]) -> Self {
        let order: Vec<String> = (0..containers.len()).map(|n| format!("c{n}")).collect();
        Self {
            now: 1_000_000_000,
            saved: None,
            programs: order.iter().cloned().zip(containers.iter().cloned()).collect(),
            order,
            units: BTreeMap::new(),
            dirs: BTreeMap::new(),
            truth: BTreeMap::new(),
            volume: None,
            image: false,
            invocations: 0,
            meddled: false,
            refused: BTreeMap::new(),
            start_jobs: BTreeMap::new(),
        }
    }

    /// What the agent only remembers.
    pub(crate) fn forget(&mut self) {
        self.refused.clear();
        self.start_jobs.clear();
    }

    /// The program of a container's n-th start; the last one ends well, or runs on where ends are followed by restarts.
    fn program(&self, container: &str, start: usize) -> Program {
        let (role, programs) = &self.programs[container];
        let lasting = match role {
            ContainerRole::Init => 1_000,
            ContainerRole::App => i64::MAX / 4,
        };
        let last = Program { ending: Ending::Exits(0), runs_ms: lasting, set_up_ms: 5, stops_ms: 0, hook_lost: false };
        programs.get(start).copied().unwrap_or(last)
    }

    pub(crate) fn observe(&self, history: &PodHistory) -> PodObserved {
        let mut observed = PodObserved::default();
        for (container, known) in &history.containers {
            let Some(attempt) = known.attempt else { continue };
            let name = service("ns", "p", container, &history.uid, attempt);
            let dir = self.dirs.get(&(container.clone(), attempt));
            let seen = dir.cloned().unwrap_or_default();
            let state = self.units.get(&name).map(|u| self.unit_state(&name, u));
            observed.containers.insert(
                container.clone(),
                AttemptObserved {
                    attempt: Some(attempt),
                    unit: state,
                    exit_record: seen.record,
                    failure: seen.failure.unwrap_or_default(),
                    started: seen.started,
                    leftovers: dir.is_some(),
                    refused: self.refused.get(container).cloned(),
                    start_job: self.start_jobs.get(container).cloned(),
                    set_up_error: String::new(),
                },
            );
        }
        observed
    }

    fn unit_state(&self, name: &str, unit: &Unit) -> UnitState {
        let base = UnitState {
            name: name.to_owned(),
            load_state: "loaded".to_owned(),
            result: "success".to_owned(),
            invocation_id: unit.invocation.clone(),
            condition_result: true,
            assert_result: true,
            ..UnitState::default()
        };
        let us = |ms: i64| u64::try_from(ms).unwrap_or(0) * 1000;
        if let Some((code, status, result)) = unit.failed {
            return UnitState {
                active_state: "failed".to_owned(),
                sub_state: "failed".to_owned(),
                result: result.to_owned(),
                exec_main_code: code,
                exec_main_status: status,
                exec_main_start_us: us(unit.started),
                exec_main_exit_us: us(unit.ends),
                ..base
            };
        }
        if unit.invocation.is_empty() {
            let job = Some(UnitJob { id: 1, kind: "start".to_owned() });
            return UnitState { active_state: "inactive".to_owned(), sub_state: "dead".to_owned(), job, ..base };
        }
        let (active, sub) = match (unit.stopping, self.now < unit.started) {
            (true, _) => ("deactivating", "stop-sigterm"),
            (false, true) => ("activating", "start"),
            (false, false) => ("active", "running"),
        };
        let start = if self.now < unit.started { self.now } else { unit.started };
        UnitState {
            active_state: active.to_owned(),
            sub_state: sub.to_owned(),
            main_pid: 7,
            exec_main_start_us: us(start),
            ..base
        }
    }

    fn is_live(unit: &Unit) -> bool {
        unit.failed.is_none()
    }

    /// Carries a step out; false: it failed and the rest is left.
    pub(crate) fn apply(&mut self, step: &Step) -> bool {
        match step {
            Step::SaveHistory(history) => self.save(history),
            Step::PrepareVolume(volume) => self.volume = Some(volume.hash.clone()),
            Step::Pull { .. } => self.image = true,
            Step::CreateAttempt(plan) => {
                assert!(self.volume.is_some(), "created before its volumes");
                self.wipe(&plan.unit, &plan.container, plan.attempt);
                let dir = Dir { unit_file: true, failure: Some(FailureFile::Unreached), ..Dir::default() };
                self.dirs.insert((plan.container.clone(), plan.attempt), dir);
            }
            Step::StartUnit { unit, container, attempt } => self.start(unit, container, *attempt),
            Step::StopUnit { unit } => self.stop(unit),
            Step::KillUnit { unit } => self.kill(unit),
            Step::CleanAttempt { unit, container, attempt } => {
                assert!(!self.units.get(unit).is_some_and(Self::is_live), "cleaned under a live unit");
                self.units.remove(unit);
                self.dirs.remove(&(container.clone(), *attempt));
                self.refused.remove(container);
                self.start_jobs.remove(container);
            }
            Step::RemovePod { .. } => {
                self.volume = None;
                self.saved = None;
            }
        }
        true
    }

    /// The agent dies in the middle of it.
    pub(crate) fn half_apply(&mut self, step: &Step) {
        match step {
            Step::CreateAttempt(plan) => {
                self.wipe(&plan.unit, &plan.container, plan.attempt);
                self.dirs.insert((plan.container.clone(), plan.attempt), Dir::default());
            }
            Step::CleanAttempt { unit, container, attempt } => {
                self.units.remove(unit);
                if let Some(dir) = self.dirs.get_mut(&(container.clone(), *attempt)) {
                    *dir = Dir::default();
                }
            }
            Step::RemovePod { .. } => self.volume = None,
            Step::SaveHistory(_)
            | Step::PrepareVolume(_)
            | Step::Pull { .. }
            | Step::StartUnit { .. }
            | Step::StopUnit { .. }
            | Step::KillUnit { .. } => {}
        }
    }

    fn save(&mut self, history: &PodHistory) {
        for (container, known) in &history.containers {
            for exit in known.exit.iter().chain(&known.previous).filter(|e| !e.never_ran) {
                let runs = self.truth.get(container).map(Vec::as_slice).unwrap_or_default();
                let of = |t: &&Truth| {
                    if exit.invocation.is_empty() { t.attempt == exit.attempt } else { t.invocation == exit.invocation }
                };
                let Some(truth) = runs.iter().find(of) else { panic!("an end of no run: {exit:?} {runs:?}") };
                if exit.reason == "ContainerStatusUnknown" {
                    assert!(truth.hook_lost || self.meddled, "an end was known and is not: {exit:?} {truth:?}");
                } else {
                    assert_eq!(truth.code, Some(exit.exit_code), "{exit:?} {truth:?}");
                }
            }
        }
        self.saved = Some(history.clone());
    }

    fn wipe(&mut self, unit: &str, container: &str, attempt: u32) {
        assert!(!self.units.contains_key(unit), "created anew while its unit is loaded");
        let ran = self.truth.get(container).is_some_and(|t| t.iter().any(|r| r.attempt == attempt));
        assert!(!ran, "attempt {attempt} of {container} is made anew after it ran");
    }

    fn start(&mut self, name: &str, container: &str, attempt: u32) {
        assert!(self.dirs.get(&(container.to_owned(), attempt)).is_some_and(|d| d.unit_file), "no unit file");
        let others = self.units.values().filter(|u| u.container == container && Self::is_live(u)).count();
        assert_eq!(others, 0, "a second unit of {container}");
        self.start_jobs.remove(container);
        let program = self.program(container, usize::try_from(attempt).unwrap());
        match program.ending {
            Ending::Refused => {
                let refusal = StartRefusal {
                    attempt,
                    reason: "CreateContainerError".to_owned(),
                    message: "no".to_owned(),
                    at_ms: self.now,
                };
                self.refused.insert(container.to_owned(), refusal);
            }
            Ending::ConditionFalse => {
                self.start_jobs.insert(container.to_owned(), JobResult::Done);
            }
            Ending::Exits(_) | Ending::Signal(_) | Ending::SetUpFails => {
                let unit = Unit {
                    container: container.to_owned(),
                    attempt,
                    program,
                    invocation: String::new(),
                    started: self.now + 1,
                    ends: 0,
                    stopping: false,
                    failed: None,
                };
                self.units.insert(name.to_owned(), unit);
            }
        }
    }

    /// systemd takes the start job up.
    fn begin(&mut self, name: &str) {
        self.invocations += 1;
        let invocation = format!("inv{}", self.invocations);
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.invocation.clone_from(&invocation);
        unit.started = self.now + unit.program.set_up_ms;
        unit.ends = unit.started.saturating_add(unit.program.runs_ms);
        unit.stopping = false;
        let dir = self.dirs.get_mut(&(unit.container.clone(), unit.attempt)).unwrap();
        dir.started = true;
        dir.failure = Some(FailureFile::Unreached);
        if unit.program.ending == Ending::SetUpFails {
            unit.ends = unit.started;
            return;
        }
        let truth = Truth { attempt: unit.attempt, invocation, code: None, hook_lost: unit.program.hook_lost };
        self.truth.entry(unit.container.clone()).or_default().push(truth);
    }

    fn stop(&mut self, name: &str) {
        let Some(unit) = self.units.get_mut(name) else { return };
        if unit.invocation.is_empty() {
            // The stop job takes the place of the start job.
            self.units.remove(name);
            return;
        }
        assert!(!unit.stopping || unit.failed.is_some(), "asked to stop twice");
        if unit.failed.is_none() {
            unit.stopping = true;
            unit.ends = unit.ends.min(self.now + unit.program.stops_ms);
        }
    }

    fn kill(&mut self, name: &str) {
        if let Some(unit) = self.units.get_mut(name).filter(|u| Self::is_live(u) && !u.invocation.is_empty()) {
            unit.program.ending = Ending::Signal(9);
            unit.program.set_up_ms = 0;
            unit.ends = self.now;
            unit.started = unit.started.min(self.now);
        }
    }

    /// `systemctl restart` of the first unit that runs.
    pub(crate) fn restart_something(&mut self) {
        let now = self.now;
        let running = |u: &Unit| Self::is_live(u) && !u.invocation.is_empty() && !u.stopping && u.started <= now;
        let Some(name) = self.units.iter().find(|(_, u)| running(u)).map(|(n, _)| n.clone()) else { return };
        self.meddled = true;
        let unit = self.units[&name].clone();
        self.end(&name, &unit, 143);
        let fresh = Unit { failed: None, stopping: false, ..unit };
        self.units.insert(name.clone(), fresh);
        self.begin(&name);
    }

    /// A run ends: its truth, its record, and the unit as systemd keeps it.
    fn end(&mut self, name: &str, unit: &Unit, code: i32) {
        let dir = self.dirs.get_mut(&(unit.container.clone(), unit.attempt)).unwrap();
        let runs = self.truth.entry(unit.container.clone()).or_default();
        match runs.iter_mut().find(|t| t.invocation == unit.invocation) {
            Some(truth) => truth.code = Some(code),
            // Killed while it was set up.
            None => runs.push(Truth {
                attempt: unit.attempt,
                invocation: unit.invocation.clone(),
                code: Some(code),
                hook_lost: unit.program.hook_lost,
            }),
        }
        let (kind, status) = if code > 128 { ("killed", code - 128) } else { ("exited", code) };
        let result = match code {
            0 | 143 => "success",
            137 => "signal",
            _ => "exit-code",
        };
        dir.failure = Some(FailureFile::Reached);
        if !unit.program.hook_lost {
            dir.record = Some(ExitRecord {
                version: 1,
                invocation: unit.invocation.clone(),
                result: result.to_owned(),
                code: kind.to_owned(),
                status: status.to_string(),
                finished_at: jiff::Timestamp::from_millisecond(self.now).unwrap().to_string(),
            });
        }
        if result == "success" {
            self.units.remove(name);
        } else if let Some(unit) = self.units.get_mut(name) {
            unit.failed = Some((if kind == "exited" { 1 } else { 2 }, status, result));
            unit.ends = self.now;
        }
    }

    /// When something happens next without the agent.
    pub(crate) fn next_event(&self) -> Option<i64> {
        let live = self.units.values().filter(|u| Self::is_live(u));
        let at = |u: &Unit| match u {
            u if u.invocation.is_empty() => u.started,
            u if self.now < u.started && !u.stopping => u.started,
            u => u.ends,
        };
        live.map(at).filter(|at| *at < i64::MAX / 8).min()
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, ms: i64) {
        let until = self.now + ms;
        while let Some(at) = self.next_event().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let due: Vec<String> = self.units.keys().cloned().collect();
            for name in due {
                let unit = self.units[&name].clone();
                if unit.failed.is_some() {
                    continue;
                }
                if unit.invocation.is_empty() {
                    if unit.started <= self.now {
                        self.begin(&name);
                    }
                } else if unit.ends <= self.now {
                    self.finish(&name, &unit);
                } else if unit.started <= self.now
                    && let Some(dir) = self.dirs.get_mut(&(unit.container.clone(), unit.attempt))
                {
                    dir.failure = Some(FailureFile::Reached);
                }
            }
            if self.next_event() == Some(at) && at <= self.now && self.units.values().all(|u| u.ends > self.now) {
                break;
            }
        }
        self.now = until;
    }

    fn finish(&mut self, name: &str, unit: &Unit) {
        let code = match unit.program.ending {
            Ending::SetUpFails => {
                let unit = self.units.get_mut(name).unwrap();
                unit.failed = Some((1, 226, "exit-code"));
                return;
            }
            Ending::Signal(signal) => 128 + signal,
            _ if unit.stopping => 143,
            Ending::Exits(code) => code,
            Ending::Refused | Ending::ConditionFalse => 0,
        };
        self.end(name, unit, code);
    }

    /// What holds at any time.
    pub(crate) fn check(&self) {
        for container in &self.order {
            let live = self.units.values().filter(|u| u.container == *container && Self::is_live(u)).count();
            assert!(live <= 1, "{live} live units of {container}");
        }
    }

    /// What holds once the pod runs, or ended, undisturbed.
    pub(crate) fn assert_settled(&self, policy: &str) {
        let history = self.saved.as_ref().expect("a history");
        let mut failed_init = false;
        for container in &self.order {
            let runs = self.truth.get(container).map(Vec::as_slice).unwrap_or_default();
            let known = history.containers.get(container).cloned().unwrap_or_default();
            let live = self.units.values().any(|u| u.container == *container && Self::is_live(u));
            if failed_init {
                assert!(runs.is_empty(), "{container} ran after an init container failed");
                continue;
            }
            let last = runs.last().unwrap_or_else(|| panic!("{container} never ran: {self:?}"));
            let init = self.programs[container].0 == ContainerRole::Init;
            assert!(live != (init || last.code.is_some()), "{container}: live {live} {last:?}");
            if !self.meddled {
                assert_eq!(usize::try_from(known.restart_count).unwrap() + 1, runs.len(), "{known:?} {runs:?}");
                let seen = known.exit.as_ref().is_some_and(|e| e.reason == "ContainerStatusUnknown");
                let well = last.code == Some(0) && !seen;
                match (policy, init) {
                    ("Never", _) => assert_eq!(runs.len(), 1),
                    (_, true) | ("OnFailure", false) => assert!(live || well, "{last:?}"),
                    (_, false) => assert!(live),
                }
            }
            failed_init = init && known.exit.as_ref().is_some_and(|e| e.exit_code != 0);
        }
    }

    pub(crate) fn assert_empty(&self) {
        assert!(self.units.is_empty() && self.dirs.is_empty(), "{self:?}");
        assert!(self.volume.is_none() && self.saved.is_none(), "{self:?}");
    }
}

/// A plan of the containers, as the agent would make it with this history.
pub(crate) fn plan_of(world: &World, history: &PodHistory, volume: u8, blocked: bool) -> PodPlan {
    let container = |name: &String| {
        let attempt = history.containers.get(name).map_or(0, plan::history::ContainerHistory::next_attempt);
        let image = ImageFacts::HostBinary { path: "/bin/x".to_owned() };
        ContainerPlan {
            name: name.clone(),
            role: world.programs[name].0,
            image: if world.image { ImageState::Present(image) } else { ImageState::Needed },
            attempt: Ok(attempt_plan(&history.uid, name, attempt)),
        }
    };
    let content = VolumeContent::Empty { path: "/v".to_owned(), mode: 0o777, gid: None, tmpfs_bytes: None };
    PodPlan {
        slice: "p.slice".to_owned(),
        volumes: vec![VolumePlan { name: "v".to_owned(), content, hash: volume.to_string() }],
        containers: world.order.iter().map(container).collect(),
        notes: Vec::new(),
        blocked: blocked.then(|| Blocked::new("FailedMount", "a Secret is missing")),
        admission: Admission::Admitted,
        ports: None,
    }
}

fn attempt_plan(uid: &str, container: &str, attempt: u32) -> AttemptPlan {
    AttemptPlan {
        container: container.to_owned(),
        attempt,
        unit: service("ns", "p", container, uid, attempt),
        unit_text: String::new(),
        slice: "p.slice".to_owned(),
        slice_text: String::new(),
        launch: Launch {
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
        },
        own_dirs: Vec::new(),
        make: Vec::new(),
        host_paths: Vec::new(),
        launch_path: String::new(),
    }
}
