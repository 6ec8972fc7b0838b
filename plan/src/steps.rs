//! `steps()`: the only place that compares what should be with what is. Its answer is data; `apply` carries it out.
//!
//! Every step is idempotent, and a history is saved before the effect that it announces, so the agent may die between any
//! two of them: the next look at the same facts yields the steps that are missing.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use crate::attempt::{AttemptObserved, Verdict, verdict};
use crate::history::{ContainerHistory, Deletion, Exit, HISTORY_VERSION, PodHistory};
use crate::inputs::ImageState;
use crate::pod_plan::{AttemptPlan, ContainerPlan, ContainerRole, PodPlan, VolumePlan};
use crate::unit::name;

/// What the agent saw of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodObserved {
    /// By container name.
    pub containers: BTreeMap<String, AttemptObserved>,
}

/// What should become of the pod.
#[derive(Clone, Copy, Debug)]
pub enum Desired<'a> {
    /// It should run, by this plan.
    Run {
        /// As its source gave it.
        pod: &'a Pod,
        /// How.
        plan: &'a PodPlan,
    },
    /// It was refused: nothing of it runs.
    Refused,
    /// It should stop, and then nothing of it should be left.
    Stop {
        /// When that was asked for.
        requested_ms: i64,
        /// The time between SIGTERM and SIGKILL.
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
    },
    /// SIGKILL to all that is left in a unit.
    KillUnit {
        /// The unit.
        unit: String,
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
    /// What to do, in this order; after a failure the rest is left for the next look.
    pub steps: Vec<Step>,
    /// Look again then, even if nothing happens; milliseconds since the epoch.
    pub wake_at_ms: Option<i64>,
    /// The history once the steps are done: what `status()` shows.
    pub history: PodHistory,
    /// Nothing of the pod is left once the steps are done.
    pub gone: bool,
}

/// How often a pod that waits for something of the host is looked at: nothing tells the agent of a new path or user.
const RECHECK_MS: i64 = 5_000;

/// How long after a SIGKILL the agent looks again, should no signal come.
const AFTER_KILL_MS: i64 = 2_000;

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
/// `history` is the last one saved (for a pod never seen before: the default with uid, namespace and name filled in).
pub fn steps(desired: Desired<'_>, history: &PodHistory, observed: &PodObserved, now_ms: i64) -> Decision {
    let mut state =
        Steps { saved: history, history: history.clone(), observed, now_ms, steps: Vec::new(), wake_at_ms: None };
    state.history.version = HISTORY_VERSION;
    if state.history.started_ms == 0 {
        state.history.started_ms = now_ms;
    }
    state.record_exits();
    let gone = match desired {
        Desired::Run { pod, plan } => {
            state.clean_ended();
            state.run(pod, plan);
            false
        }
        Desired::Refused => {
            state.stop_all(now_ms, now_ms);
            state.clean_ended();
            state.save();
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

    fn unit_name(&self, container: &str, attempt: u32) -> String {
        name::service(&self.history.namespace, &self.history.name, container, &self.history.uid, attempt)
    }

    /// Ends go into the history before anything of the ended attempt is removed.
    fn record_exits(&mut self) {
        let names: Vec<String> = self.history.containers.keys().cloned().collect();
        for container in names {
            if let Verdict::Ended(exit) = self.verdict(&container)
                && let Some(history) = self.history.containers.get_mut(&container)
                && history.exit.is_none()
            {
                let ran_ms = if exit.started_ms > 0 { exit.finished_ms - exit.started_ms } else { 0 };
                history.backoff.on_exit(ran_ms);
                history.exit = Some(exit);
            }
        }
        self.save();
    }

    /// An ended attempt is removed as soon as its end is saved.
    fn clean_ended(&mut self) {
        let mut clean = Vec::new();
        for (container, history) in &self.history.containers {
            let (Some(attempt), Some(_)) = (history.attempt, &history.exit) else { continue };
            let left = self.observed.containers.get(container).is_some_and(|o| o.leftovers || is_loaded(o));
            if left {
                clean.push((container.clone(), attempt));
            }
        }
        for (container, attempt) in clean {
            let unit = self.unit_name(&container, attempt);
            self.steps.push(Step::CleanAttempt { unit, container, attempt });
        }
    }

    fn run(&mut self, pod: &Pod, plan: &PodPlan) {
        self.save();
        if plan.blocked.is_some() {
            return self.wake_at(self.now_ms + RECHECK_MS);
        }
        self.prepare_volumes(plan);
        let policy = RestartPolicy::of(pod);
        for container in plan.containers.iter().filter(|c| c.role == ContainerRole::Init) {
            match self.verdict(&container.name) {
                Verdict::Ended(exit) if exit.exit_code == 0 && !exit.never_ran => {}
                Verdict::Ended(_) if policy == RestartPolicy::Never && !self.never_ran(&container.name) => return,
                Verdict::Ended(_) | Verdict::NotStarted => return self.start(container),
                Verdict::Starting | Verdict::Running { .. } => return,
            }
        }
        for container in plan.containers.iter().filter(|c| c.role == ContainerRole::App) {
            match self.verdict(&container.name) {
                Verdict::NotStarted => self.start(container),
                Verdict::Ended(exit) if policy.restarts(&exit) => self.start(container),
                Verdict::Ended(_) | Verdict::Starting | Verdict::Running { .. } => {}
            }
        }
    }

    fn never_ran(&self, container: &str) -> bool {
        self.history.containers.get(container).and_then(|h| h.exit.as_ref()).is_some_and(|e| e.never_ran)
    }

    fn prepare_volumes(&mut self, plan: &PodPlan) {
        for volume in &plan.volumes {
            if self.history.volumes.get(&volume.name) == Some(&volume.hash) {
                continue;
            }
            self.history.volumes.insert(volume.name.clone(), volume.hash.clone());
            self.steps.push(Step::PrepareVolume(volume.clone()));
        }
        self.save();
    }

    /// Starts a container's next attempt, or says when that is due and what it waits for.
    fn start(&mut self, container: &ContainerPlan) {
        let history = self.history.containers.entry(container.name.clone()).or_default();
        if let Some(exit) = &history.exit {
            let due_ms = history.backoff.next_start(exit.finished_ms);
            if due_ms > self.now_ms {
                return self.wake_at(due_ms);
            }
        }
        let attempt = history.next_attempt();
        match &container.image {
            ImageState::Present(_) => {}
            ImageState::Needed => {
                self.steps.push(Step::Pull { container: container.name.clone(), attempt });
                return;
            }
            ImageState::Pulling { .. } => return,
            ImageState::Failed { retry_at_ms, .. } => {
                if let Some(at_ms) = *retry_at_ms {
                    self.wake_at(at_ms);
                }
                return;
            }
        }
        let Ok(planned) = &container.attempt else { return self.wake_at(self.now_ms + RECHECK_MS) };
        if planned.attempt != attempt {
            // The plan was made before the end of the last attempt was known: look again with that known.
            return self.wake_at(self.now_ms);
        }
        self.history.begin(&container.name, attempt, &planned.host_paths);
        self.save();
        let unit = planned.unit.clone();
        self.steps.push(Step::CreateAttempt(Box::new(planned.clone())));
        self.steps.push(Step::StartUnit { unit, container: container.name.clone(), attempt });
    }

    /// Asks every live unit to stop; after the deadline nothing is asked any more. True when nothing runs.
    fn stop_all(&mut self, requested_ms: i64, deadline_ms: i64) -> bool {
        let mut all_ended = true;
        let names: Vec<(String, u32)> =
            self.history.containers.iter().filter_map(|(c, h)| h.attempt.map(|a| (c.clone(), a))).collect();
        for (container, attempt) in names {
            let stopping = match self.verdict(&container) {
                Verdict::NotStarted | Verdict::Ended(_) => continue,
                Verdict::Running { stopping, .. } => stopping,
                Verdict::Starting => false,
            };
            all_ended = false;
            let unit = self.unit_name(&container, attempt);
            if !stopping {
                self.steps.push(Step::StopUnit { unit: unit.clone() });
            }
            if self.now_ms >= deadline_ms {
                self.steps.push(Step::KillUnit { unit });
            }
        }
        if !all_ended {
            let next = if self.now_ms >= deadline_ms { self.now_ms + AFTER_KILL_MS } else { deadline_ms };
            self.wake_at(next.max(requested_ms));
        }
        all_ended
    }

    fn stop(&mut self, requested_ms: i64, grace_ms: i64) -> bool {
        let wanted = Deletion { requested_ms, deadline_ms: requested_ms.saturating_add(grace_ms.max(0)) };
        let deletion = match self.history.deletion {
            // A stop that is under way keeps what is left of its grace over a restart of the agent; it may be shortened.
            Some(known) => Deletion { deadline_ms: known.deadline_ms.min(wanted.deadline_ms), ..known },
            None => wanted,
        };
        self.history.deletion = Some(deletion);
        self.save();
        if !self.stop_all(deletion.requested_ms, deletion.deadline_ms) {
            return false;
        }
        let attempts: Vec<(String, u32)> =
            self.history.containers.iter().filter_map(|(c, h)| h.attempt.map(|a| (c.clone(), a))).collect();
        for (container, attempt) in attempts {
            let unit = self.unit_name(&container, attempt);
            self.steps.push(Step::CleanAttempt { unit, container, attempt });
        }
        let made_paths = self.history.made_paths.clone();
        self.steps.push(Step::RemovePod { uid: self.history.uid.clone(), made_paths });
        true
    }
}

fn is_loaded(observed: &AttemptObserved) -> bool {
    observed.unit.as_ref().is_some_and(|u| u.load_state != "not-found")
}

impl PodHistory {
    /// Notes that an attempt begins: the one before it becomes `lastState`.
    fn begin(&mut self, container: &str, attempt: u32, host_paths: &[String]) {
        for path in host_paths {
            if !self.made_paths.contains(path) {
                self.made_paths.push(path.clone());
            }
        }
        let history: &mut ContainerHistory = self.containers.entry(container.to_owned()).or_default();
        history.attempt = Some(attempt);
        if let Some(exit) = history.exit.take() {
            if !exit.never_ran {
                history.restart_count += 1;
            }
            history.previous = Some(exit);
        }
    }
}

/// `spec.restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever the end was.
    Always,
    /// Only after a failure.
    OnFailure,
    /// Not at all.
    Never,
}

impl RestartPolicy {
    /// A pod's policy; `Always` unless it says otherwise.
    pub fn of(pod: &Pod) -> Self {
        match pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            Some(_) | None => Self::Always,
        }
    }

    /// Whether an app container that ended so is started again. One that never ran is always tried again, as the kubelet
    /// does with a container that it could not create.
    pub fn restarts(self, exit: &Exit) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit.never_ran || exit.exit_code != 0,
            Self::Never => exit.never_ran,
        }
    }
}
