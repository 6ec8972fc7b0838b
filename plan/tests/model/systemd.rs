//! systemd: runs begin and end, whoever asked for it, as time passes.

use plan::attempt::FailureFile;
use plan::launch::exit::ExitRecord;
use plan::observed::{UnitJob, UnitState};

use super::*;

impl World {
    pub(super) fn unit_state(&self, name: &str, unit: &Unit) -> UnitState {
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

    pub(super) fn stop(&mut self, name: &str) {
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

    pub(super) fn kill(&mut self, name: &str) {
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
}
