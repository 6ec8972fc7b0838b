//! The net below `JobRemoved`: jobs whose signal did not come are asked about.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::bus::{Bus, Shared};
use super::error::BusError;

/// Asks about jobs whose `JobRemoved` is overdue: after signals were lost, and now and then. So no waiter waits for ever.
pub(super) async fn recheck_jobs(shared: Weak<Shared>) {
    loop {
        let Some(bus) = shared.upgrade().map(|shared| Bus { shared }) else { return };
        let every = bus.shared.options.recheck;
        let at_least = tokio::select! {
            () = bus.shared.jobs.recheck.notified() => Duration::ZERO,
            () = tokio::time::sleep(every) => every,
        };
        let mut ended = Vec::new();
        for id in bus.shared.jobs.waiting_for(at_least) {
            match bus.job_exists(id).await {
                Ok(true) => {}
                Ok(false) => ended.push(id),
                // Too long without systemd: its waiters shall look for themselves.
                Err(BusError::Disconnected { .. }) if !at_least.is_zero() => ended.push(id),
                Err(error) => {
                    tracing::debug!(%error, "cannot ask about jobs");
                    break;
                }
            }
        }
        if !ended.is_empty() {
            // The signal may be on its way on the other connection.
            tokio::time::sleep(Duration::from_millis(250)).await;
            let unseen = bus.shared.jobs.ended_unseen(&ended);
            bus.shared.counters.missed.fetch_add(unseen as u64, Ordering::Relaxed);
        }
    }
}
