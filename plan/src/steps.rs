//! `steps()`: the only place that compares what should be with what is. Its answer is data; `apply` carries it out.
//!
//! Every step is idempotent, and a history is saved before the effect that it announces, so the agent may die between any
//! two of them: the next look at the same facts yields the steps that are missing. (A volume's hash is the exception: it
//! says that the volume is written, so it is saved after that.)

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use crate::admission::Admission;
use crate::attempt::{AttemptObserved, Verdict, end_before_restart, is_stopping, verdict};
use crate::history::{HISTORY_VERSION, PackageUse, PodHistory, Run};
use crate::inputs::{ImageFacts, ImageState};
use crate::pod_plan::{AttemptPlan, ContainerPlan, ContainerRole, PodPlan, VolumeContent, VolumePlan};
use crate::unit::name;

pub use crate::pod_plan::RestartPolicy;

mod stop;

/// What the agent saw of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodObserved {
    /// By container name.
    pub containers: BTreeMap<String, AttemptObserved>,
}

/// What should become of the pod.
#[derive(Clone, Copy)]
pub enum Desired<'a> {
    /// It should run, by this plan.
    Run {
        /// As its source gave it.
        pod: &'a Pod,
        /// How.
        plan: &'a PodPlan,
    },
    /// It was refused: nothing of it runs. What does (an older agent took it) gets 30 s to stop.
    Refused,
    /// It should stop, and then nothing of it should be left.
    Stop {
        /// When that was asked for.
        requested_ms: i64,
        /// The time between SIGTERM and SIGKILL. It counts from when this is first seen, so a pod that was deleted while
        /// the agent was away has all of it; a shorter one shortens what is left.
        grace_ms: i64,
    },
}

/// One effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Save the history: always before what it announces.
    SaveHistory(Box<PodHistory>),
    /// Make a volume's directory and its contents as planned.
    PrepareVolume(VolumePlan),
    /// Fetch the image of a container for this attempt.
    Pull {
        /// The container.
        container: String,
        /// The attempt that waits for it.
        attempt: u32,
    },
    /// Make an attempt's directories, Launch and unit file, all anew.
    CreateAttempt(Box<AttemptPlan>),
    /// Ask systemd to start a unit.
    StartUnit {
        /// The unit.
        unit: String,
        /// Its container.
        container: String,
        /// Its attempt.
        attempt: u32,
    },
    /// Ask systemd to stop a unit, in its own way.
    StopUnit {
        /// The unit.
        unit: String,
        /// Its container.
        container: String,
    },
    /// SIGKILL to all that is left in a unit.
    KillUnit {
        /// The unit.
        unit: String,
        /// Its container.
        container: String,
    },
    /// Let systemd forget an ended unit and remove its file and directories.
    CleanAttempt {
        /// The unit.
        unit: String,
        /// Its container.
        container: String,
        /// Its attempt.
        attempt: u32,
    },
    /// Remove everything of the pod: slice, volumes, directories, made paths, history.
    RemovePod {
        /// Its uid.
        uid: String,
        /// Mount points that were made on the host for it.
        made_paths: Vec<String>,
    },
}

/// The answer of [`steps`].
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What to do, in this order; after a failure the rest is left for the next look, and the history is then that of the
    /// last SaveHistory that succeeded. A CreateAttempt that fails is to be observed as `refused`, so that it waits for its
    /// back-off and holds up no other container.
    pub steps: Vec<Step>,
    /// Look again then, even if nothing happens; milliseconds since the epoch.
    pub wake_at_ms: Option<i64>,
    /// The history once the steps are done: what `status()` shows.
    pub history: PodHistory,
    /// Nothing of the pod is left once the steps are done.
    pub gone: bool,
}

/// The first wait for `init` to be reached by a program that systemd has forked; no signal tells.
const SET_UP_MS: i64 = 250;

/// How often a pod that waits for something of the host is looked at: nothing tells the agent of a new path or user.
const RECHECK_MS: i64 = 5_000;

struct Steps<'a> {
    saved: &'a PodHistory,
    history: PodHistory,
    observed: &'a PodObserved,
    now_ms: i64,
    steps: Vec<Step>,
    wake_at_ms: Option<i64>,
}

/// Compares a pod's plan with what was observed.
///
/// `history` is the last one saved (for a pod never seen before: the default with uid, namespace and name filled in). Only
/// containers in it are stopped and cleaned up, so a history that was lost has to be rebuilt first: every container of which
/// a unit or a directory is found gets its highest attempt (`attempt`, and that as `restart_count` if nothing better is
/// known), and units of lower attempts are stopped by the agent itself.
pub fn steps(desired: Desired<'_>, history: &PodHistory, observed: &PodObserved, now_ms: i64) -> Decision {
    let mut state =
        Steps { saved: history, history: history.clone(), observed, now_ms, steps: Vec::new(), wake_at_ms: None };
    state.history.version = HISTORY_VERSION;
    if state.history.started_ms == 0 {
        state.history.started_ms = now_ms;
    }
    state.record(desired);
    let gone = match desired {
        Desired::Run { pod, plan } => {
            // What was under way was the stop of a refused pod.
            state.history.deletion = None;
            if !history.containers.is_empty() {
                state.save();
            }
            state.stop_stragglers();
            state.clean_ended();
            state.run(pod, plan);
            false
        }
        Desired::Refused => {
            state.refuse();
            false
        }
        Desired::Stop { requested_ms, grace_ms } => state.stop(requested_ms, grace_ms),
    };
    Decision { steps: state.steps, wake_at_ms: state.wake_at_ms, history: state.history, gone }
}

impl Steps<'_> {
    /// Saves the history unless it is the one that is saved already.
    fn save(&mut self) {
        let last =
            self.steps.iter().rev().find_map(|s| if let Step::SaveHistory(h) = s { Some(h.as_ref()) } else { None });
        if last.unwrap_or(self.saved) != &self.history {
            self.steps.push(Step::SaveHistory(Box::new(self.history.clone())));
        }
    }

    fn wake_at(&mut self, at_ms: i64) {
        self.wake_at_ms = Some(self.wake_at_ms.map_or(at_ms, |old| old.min(at_ms)));
    }

    fn verdict(&self, container: &str) -> Verdict {
        let history = self.history.containers.get(container).cloned().unwrap_or_default();
        let observed = self.observed.containers.get(container).cloned().unwrap_or_default();
        verdict(&history, &observed, self.now_ms)
    }

    /// What was seen of the container's newest attempt.
    fn seen(&self, container: &str) -> Option<&AttemptObserved> {
        let attempt = self.history.containers.get(container)?.attempt?;
        self.observed.containers.get(container).filter(|o| o.is_of(attempt))
    }

    fn unit_name(&self, container: &str, attempt: u32) -> String {
        name::service(&self.history.namespace, &self.history.name, container, &self.history.uid, attempt)
    }

    /// Runs and ends go into the history, ends before anything of the ended attempt is removed.
    fn record(&mut self, desired: Desired<'_>) {
        let names: Vec<String> = self.history.containers.keys().cloned().collect();
        for container in names {
            self.record_restart(&container, desired);
            let verdict = self.verdict(&container);
            let now_ms = self.now_ms;
            let Some(history) = self.history.containers.get_mut(&container) else { continue };
            match verdict {
                Verdict::Running { started_ms, invocation, stopping: false, .. } => {
                    history.see_run(Run { invocation, started_ms });
                }
                Verdict::Ended(exit) if history.exit.is_none() => history.end(exit, now_ms),
                Verdict::Ended(_) => {
                    // The clock was put back: an end in the future would hold up the next start until then.
                    if let Some(exit) = history.exit.as_mut().filter(|e| e.finished_ms > now_ms) {
                        exit.finished_ms = now_ms;
                    }
                }
                // One that is stopped may not have got as far as its program: its end tells.
                Verdict::Running { stopping: true, .. } | Verdict::NotStarted | Verdict::Starting => {}
            }
        }
    }

    /// A unit that runs as another invocation than the one known was restarted by somebody else. That is one end; where the
    /// pod restarts such an end the new run is it, elsewhere it is stopped.
    fn record_restart(&mut self, container: &str, desired: Desired<'_>) {
        let Some((seen, unit)) = self.seen(container).and_then(|s| Some((s, s.live_unit()?))) else { return };
        let Some(history) = self.history.containers.get(container).filter(|h| h.exit.is_none()) else { return };
        let previous = history.previous.as_ref().map_or("", |e| e.invocation.as_str());
        let old = match (&history.run, &seen.exit_record) {
            (Some(run), _) => run.clone(),
            // Restarted before it was ever seen.
            (None, Some(record)) if record.invocation != previous => {
                Run { invocation: record.invocation.clone(), started_ms: 0 }
            }
            (None, _) => return,
        };
        if unit.invocation_id.is_empty() || old.invocation.is_empty() || unit.invocation_id == old.invocation {
            return;
        }
        let exit = end_before_restart(history.attempt.unwrap_or(0), &old, seen, self.now_ms);
        let started_ms = i64::try_from(unit.exec_main_start_us / 1000).unwrap_or(i64::MAX);
        let new = Run { invocation: unit.invocation_id.clone(), started_ms };
        let adopted = match desired {
            Desired::Run { pod, plan } => {
                let role = plan.containers.iter().find(|c| c.name == container).map_or(ContainerRole::App, |c| c.role);
                RestartPolicy::of(pod).restarts_as(role, &exit)
            }
            // It is stopped anyway, with its grace.
            Desired::Refused | Desired::Stop { .. } => true,
        };
        let now_ms = self.now_ms;
        let Some(history) = self.history.containers.get_mut(container) else { return };
        if adopted {
            history.restarted(exit, new, now_ms);
        } else {
            history.see_run(old);
            history.end(exit, now_ms);
        }
    }

    /// The unit of an attempt whose end is known runs (again): it is stopped before anything else of the container.
    fn is_straggling(&self, container: &str) -> bool {
        let ended = self.history.containers.get(container).is_some_and(|h| h.exit.is_some());
        ended && self.seen(container).is_some_and(|s| s.live_unit().is_some())
    }

    fn ended(&self) -> Vec<(String, u32)> {
        let ended = self.history.containers.iter().filter(|(_, h)| h.exit.is_some());
        ended.filter_map(|(c, h)| Some((c.clone(), h.attempt?))).collect()
    }

    fn stop_stragglers(&mut self) {
        for (container, attempt) in self.ended() {
            let live = self.seen(&container).and_then(AttemptObserved::live_unit);
            if live.is_some_and(|u| !is_stopping(u)) {
                let unit = self.unit_name(&container, attempt);
                self.steps.push(Step::StopUnit { unit, container });
            }
        }
    }

    /// An ended attempt is removed as soon as its end is saved.
    fn clean_ended(&mut self) {
        for (container, attempt) in self.ended() {
            if self.seen(&container).is_some_and(|s| s.live_unit().is_none() && s.is_dirty()) {
                let unit = self.unit_name(&container, attempt);
                self.steps.push(Step::CleanAttempt { unit, container, attempt });
            }
        }
    }

    fn run(&mut self, pod: &Pod, plan: &PodPlan) {
        if plan.ports.is_some() {
            self.history.ports.clone_from(&plan.ports);
        }
        match &plan.admission {
            Admission::Admitted => {}
            // The end of the pod that it waits for is told: there is no need to look for it.
            Admission::Waits(_) => return self.save(),
            Admission::Rejected(rejection) => {
                self.history.rejection = Some(rejection.clone());
                return self.save();
            }
        }
        if plan.blocked.is_some() {
            self.wake_at(self.now_ms + RECHECK_MS);
            return self.save();
        }
        self.prepare_volumes(plan);
        let begins = self.steps.len();
        self.run_containers(RestartPolicy::of(pod), plan);
        if self.steps[begins..].iter().any(|step| matches!(step, Step::CreateAttempt(_))) {
            // What the host lacks is made for a start and never else: what is unmounted below a container that runs is the
            // administrator's.
            let made = plan.volumes.iter().filter(|v| is_made_on_host(v)).cloned().map(Step::PrepareVolume);
            self.steps.splice(begins..begins, made);
        }
        // One write for the volumes and the first attempt.
        self.save();
    }

    fn run_containers(&mut self, policy: RestartPolicy, plan: &PodPlan) {
        let of_role = |role| plan.containers.iter().filter(move |c| c.role == role);
        let initialized = self.history.is_initialized(plan);
        for container in of_role(ContainerRole::Init).filter(|_| !initialized) {
            match self.verdict(&container.name) {
                Verdict::Ended(exit) if exit.exit_code == 0 && !exit.never_ran => {}
                Verdict::Ended(exit) if policy.restarts_as(ContainerRole::Init, &exit) => return self.start(container),
                Verdict::Ended(_) => return,
                Verdict::NotStarted => return self.start(container),
                Verdict::Starting => return self.await_set_up(&container.name),
                Verdict::Running { .. } => return,
            }
        }
        self.history.anew = false;
        for container in of_role(ContainerRole::App) {
            match self.verdict(&container.name) {
                Verdict::NotStarted => self.start(container),
                Verdict::Ended(exit) if policy.restarts(&exit) => self.start(container),
                Verdict::Starting => self.await_set_up(&container.name),
                Verdict::Ended(_) | Verdict::Running { .. } => {}
            }
        }
    }

    /// A oneshot or notify service gives no signal when its program is reached: looks again soon, then ever more rarely.
    fn await_set_up(&mut self, container: &str) {
        let main = self.seen(container).and_then(AttemptObserved::live_unit).filter(|u| u.main_pid != 0);
        if let Some(unit) = main {
            let started_ms = i64::try_from(unit.exec_main_start_us / 1000).unwrap_or(i64::MAX);
            let age_ms = self.now_ms.saturating_sub(started_ms).clamp(0, 60_000);
            self.wake_at(self.now_ms + SET_UP_MS + age_ms);
        }
    }

    fn prepare_volumes(&mut self, plan: &PodPlan) {
        for volume in &plan.volumes {
            // What the host has is seen at each start: nothing to remember.
            if matches!(volume.content, VolumeContent::Host { .. }) {
                continue;
            }
            if self.history.volumes.get(&volume.name) == Some(&volume.hash) {
                continue;
            }
            self.history.volumes.insert(volume.name.clone(), volume.hash.clone());
            self.steps.push(Step::PrepareVolume(volume.clone()));
        }
    }

    /// Starts a container's next attempt, or says when that is due and what it waits for.
    fn start(&mut self, container: &ContainerPlan) {
        if self.is_straggling(&container.name) {
            return;
        }
        let known = self.history.containers.get(&container.name).cloned().unwrap_or_default();
        if let Some(exit) = &known.exit {
            let due_ms = known.backoff.next_start(exit.finished_ms);
            if due_ms > self.now_ms {
                return self.wake_at(due_ms);
            }
        }
        let attempt = known.next_attempt();
        let pull = Step::Pull { container: container.name.clone(), attempt };
        match &container.image {
            ImageState::Present(_) => {}
            ImageState::Needed => return self.steps.push(pull),
            ImageState::Pulling { .. } => return,
            ImageState::Failed { retry_at_ms: None, .. } => return,
            ImageState::Failed { retry_at_ms: Some(at_ms), .. } if *at_ms > self.now_ms => return self.wake_at(*at_ms),
            ImageState::Failed { retry_at_ms: Some(_), .. } => return self.steps.push(pull),
        }
        let Ok(planned) = &container.attempt else { return self.wake_at(self.now_ms + RECHECK_MS) };
        if planned.attempt != attempt {
            // The plan was made before the end of the last attempt was known: look again with that known.
            return self.wake_at(self.now_ms);
        }
        self.history.begin(container, attempt, &planned.host_paths);
        self.save();
        let unit = planned.unit.clone();
        self.steps.push(Step::CreateAttempt(Box::new(planned.clone())));
        self.steps.push(Step::StartUnit { unit, container: container.name.clone(), attempt });
    }
}

fn is_made_on_host(volume: &VolumePlan) -> bool {
    matches!(volume.content, VolumeContent::Host { create: Some(_), .. })
}

impl PodHistory {
    /// Notes that an attempt begins, what it runs and what it makes on the host.
    fn begin(&mut self, container: &ContainerPlan, attempt: u32, host_paths: &[String]) {
        for path in host_paths {
            if !self.made_paths.contains(path) {
                self.made_paths.push(path.clone());
            }
        }
        let known = self.containers.entry(container.name.clone()).or_default();
        known.begin(attempt);
        known.package = match &container.image {
            ImageState::Present(ImageFacts::Package(package)) => {
                Some(PackageUse { name: package.name.clone(), version: package.version.clone() })
            }
            _ => None,
        };
    }

    /// Whether the init containers are done because an app container has an attempt, whatever is (still) known of them.
    pub(crate) fn is_initialized(&self, plan: &PodPlan) -> bool {
        let begun = |c: &ContainerPlan| self.containers.get(&c.name).is_some_and(|h| h.attempt.is_some());
        !self.anew && plan.containers.iter().any(|c| c.role == ContainerRole::App && begun(c))
    }
}

#[cfg(test)]
mod tests;
