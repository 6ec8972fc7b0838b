//! What the agent sees of the world, and what its steps do to it.

use plan::attempt::{AttemptObserved, FailureFile, StartRefusal};
use plan::history::PodHistory;
use plan::observed::JobResult;
use plan::steps::{PodObserved, Step};
use plan::unit::name::service;

use super::*;

impl World {
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
            Step::StopUnit { unit, .. } => self.stop(unit),
            Step::KillUnit { unit, .. } => self.kill(unit),
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
}
