//! When the agent was started, by its systemd's own clock, which is the machine's: how long `systemctl` takes to ask for it, and
//! systemd to wait before a restart, are not the agent's times.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::eventually::wait_until;
use e2e::member::Member;
use rustix::time::{ClockId, clock_gettime};

use super::super::node::LONG;

/// Since the machine's boot.
fn monotonic() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
}

/// Seconds from the start of the agent that runs now to `at`.
pub(super) fn since_start(member: &Member, at: Instant) -> Result<f64> {
    let started = wait_until("the agent to be up", LONG, || {
        member.sandbox.run(&["systemctl", "is-active", "systemk"]).ok()?;
        let text =
            member.sandbox.run(&["systemctl", "show", "-P", "ExecMainStartTimestampMonotonic", "systemk"]).ok()?;
        text.trim().parse().ok().map(Duration::from_micros)
    })?;
    let at = monotonic().checked_sub(at.elapsed()).context("a time before the boot")?;
    Ok(at.as_secs_f64() - started.as_secs_f64())
}
