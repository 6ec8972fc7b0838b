//! What a node of a fleet takes for its systemd: units that start when they are asked to and stop when they are asked to, with
//! no program behind them. It keeps what a real one keeps, and counts the starts.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use zbus::Variant;

/// Its version, as systemd says it.
pub(super) const VERSION: &str = "257.9-1~deb13u1";

/// A unit that was started.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    active: bool,
    number: u32,
    since_us: u64,
    exit_us: u64,
}

/// One node's.
#[derive(Debug, Default)]
pub(super) struct Systemd {
    units: BTreeMap<String, Unit>,
    last_job: u32,
    /// How often each unit was started.
    pub(super) starts: BTreeMap<String, usize>,
}

type Properties = BTreeMap<&'static str, Variant<'static>>;

fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or_default()
}

impl Systemd {
    /// Starts a unit; gives its job.
    pub(super) fn start(&mut self, name: &str) -> u32 {
        self.last_job += 1;
        *self.starts.entry(name.to_owned()).or_default() += 1;
        let unit = Unit { active: true, number: self.last_job, since_us: now_us(), exit_us: 0 };
        self.units.insert(name.to_owned(), unit);
        self.last_job
    }

    /// Stops a unit, whose program obeys at once; gives the job. None: it is not loaded.
    pub(super) fn stop(&mut self, name: &str) -> Option<u32> {
        let unit = self.units.get_mut(name)?;
        (unit.active, unit.exit_us) = (false, now_us());
        self.last_job += 1;
        Some(self.last_job)
    }

    /// A unit that is over is unloaded.
    pub(super) fn unload(&mut self, name: &str) {
        self.units.remove(name);
    }

    /// Those that are loaded: name, active state, sub state.
    pub(super) fn list(&self) -> Vec<(String, &'static str, &'static str)> {
        self.units.iter().map(|(name, unit)| (name.clone(), unit.active_state(), unit.sub_state())).collect()
    }

    /// The properties of a unit: of every unit, or of a service.
    pub(super) fn properties(&self, name: &str, service: bool) -> Properties {
        match self.units.get(name) {
            Some(unit) if service => unit.service(),
            Some(unit) => unit.general(),
            None if service => Properties::new(),
            None => [
                ("LoadState", Variant::from("not-found")),
                ("ActiveState", "inactive".into()),
                ("SubState", "dead".into()),
            ]
            .into(),
        }
    }
}

impl Unit {
    fn active_state(&self) -> &'static str {
        if self.active { "active" } else { "inactive" }
    }

    fn sub_state(&self) -> &'static str {
        if self.active { "running" } else { "dead" }
    }

    fn general(&self) -> Properties {
        let mut invocation = vec![0x42; 12];
        invocation.extend(self.number.to_be_bytes());
        [
            ("LoadState", Variant::from("loaded")),
            ("ActiveState", self.active_state().into()),
            ("SubState", self.sub_state().into()),
            ("InvocationID", invocation.into()),
            ("StateChangeTimestamp", self.since_us.max(self.exit_us).into()),
            ("ConditionResult", true.into()),
            ("ConditionTimestamp", self.since_us.into()),
            ("AssertResult", true.into()),
        ]
        .into()
    }

    fn service(&self) -> Properties {
        // Ended by SIGTERM: CLD_KILLED and its number.
        let (pid, code, status) = if self.active { (1_000_000 + self.number, 0, 0) } else { (0, 2, 15) };
        [
            ("Result", Variant::from("success")),
            ("MainPID", pid.into()),
            ("ExecMainCode", code.into()),
            ("ExecMainStatus", status.into()),
            ("ExecMainStartTimestamp", self.since_us.into()),
            ("ExecMainExitTimestamp", self.exit_us.into()),
        ]
        .into()
    }
}
