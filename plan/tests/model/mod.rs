#![allow(clippy::unwrap_used, reason = "a test: what is not there is a bug of the model")]
//! The world of the model test: units, what is on disk, and the truth about every run.

use std::collections::BTreeMap;

use plan::attempt::{FailureFile, StartRefusal};
use plan::history::PodHistory;
use plan::launch::exit::ExitRecord;
use plan::observed::JobResult;
use plan::pod_plan::ContainerRole;

mod agent;
mod plan_of;
mod systemd;

pub(crate) use plan_of::plan_of;

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

    fn is_live(unit: &Unit) -> bool {
        unit.failed.is_none()
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
