//! What the node asked the API server for, by the audit log, and whose processor time it took: where the time of a hundred
//! pods goes.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use e2e::control_plane::AuditEvent;
use e2e::eventually::wait_within;
use e2e::fleet::Usage;
use e2e::member::Member;
use e2e::progress;

use super::super::node::{Agent, LONG};

/// Processor time so far of those who take part, by name.
pub(super) struct Shares(Vec<(&'static str, f64)>);

impl Shares {
    pub(super) fn now(member: &Member) -> Result<Self> {
        let agent = ("agent", Agent::of(&member.sandbox)?.cpu_ns()?);
        let init = member.sandbox.record().init.map(|init| ("systemd", init.pid));
        let parts = member.cluster.record().processes.iter().map(|(part, process)| (part.program(), process.pid));
        let others = parts.chain(init).map(|(name, pid)| Ok((name, Usage::of(pid)?.cpu_ns)));
        Ok(Self([Ok(agent)].into_iter().chain(others).collect::<Result<_>>()?))
    }

    /// Tells whose processor time it was since then.
    pub(super) fn tell(&self, what: &str, member: &Member) -> Result<()> {
        let now = Self::now(member)?.0;
        let took = self.0.iter().zip(now).map(|((name, then), (_, now))| format!("{name} {:.2} s", (now - then) / 1e9));
        progress::line(&format!("  processor time of {what}: {}", took.collect::<Vec<_>>().join(", ")));
        Ok(())
    }
}

/// The log as it is now: what comes later is counted.
pub(super) struct Since(f64);

impl Since {
    pub(super) fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64())
    }

    /// Requests of the node since then but for heartbeats, once it asks for nothing more.
    pub(super) fn settled(&self, member: &Member) -> Result<Vec<AuditEvent>> {
        let mut count = 0;
        wait_within("the node to be quiet", LONG, Duration::from_secs(2), || {
            let now = self.requests(member).ok()?.len();
            (std::mem::replace(&mut count, now) == now && now > 0).then_some(())
        })?;
        self.requests(member)
    }

    fn requests(&self, member: &Member) -> Result<Vec<AuditEvent>> {
        let user = format!("system:node:{}", member.name);
        let mut events = member.cluster.audit()?;
        events.retain(|event| event.received >= self.0 && event.user.username == user && event.is_request());
        events.retain(|event| event.object_ref.resource != "leases");
        Ok(events)
    }
}

/// How often each thing was asked for, and how long the API server took for it: told beside the figures.
pub(super) fn tell(events: &[AuditEvent]) {
    let mut kinds: BTreeMap<String, Vec<&AuditEvent>> = BTreeMap::new();
    events.iter().for_each(|event| kinds.entry(event.what()).or_default().push(event));
    let first = events.iter().map(|event| event.received).fold(f64::INFINITY, f64::min);
    for (kind, events) in kinds {
        let took: f64 = events.iter().map(|event| event.reached - event.received).sum();
        let last = events.iter().map(|event| event.reached).fold(0.0, f64::max);
        let mean = took / f64::from(u32::try_from(events.len()).unwrap_or(u32::MAX)) * 1000.0;
        progress::line(&format!(
            "  {kind}: {} requests, {mean:.1} ms each, the last answered {:.2} s after the first of all",
            events.len(),
            last - first
        ));
    }
}
