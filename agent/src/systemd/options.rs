//! How the client of systemd is set up, and what it counts.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::error::BusError;
use super::jobs::LIMIT;

/// How the bus is reached and what is listened to.
#[derive(Clone, Debug)]
pub(crate) struct BusOptions {
    /// `None`: `DBUS_SYSTEM_BUS_ADDRESS`, or the system bus.
    pub(crate) address: Option<String>,
    /// Units whose names begin so make events.
    pub(crate) prefixes: Vec<String>,
    /// How long a call may go unanswered.
    pub(crate) call_timeout: Duration,
    /// How many jobs may be in flight.
    pub(crate) jobs: usize,
    /// How many events may wait for the receiver before they become one [`super::signals::UnitEvent::Resync`].
    pub(crate) events: usize,
    /// How old a job must be before systemd is asked whether it still exists.
    pub(crate) recheck: Duration,
}

impl BusOptions {
    /// The system's own bus, and events for units whose names begin with one of `prefixes`.
    pub(crate) fn new(prefixes: Vec<String>) -> Self {
        let half_a_minute = Duration::from_secs(30);
        Self { address: None, prefixes, call_timeout: half_a_minute, jobs: LIMIT, events: 1024, recheck: half_a_minute }
    }

    pub(super) async fn connect(&self) -> Result<zbus::Connection, BusError> {
        let builder = match &self.address {
            Some(address) => zbus::connection::Builder::address(address.as_str()),
            None => zbus::connection::Builder::system(),
        };
        builder.build().await.map_err(|error| BusError::Disconnected { reason: error.to_string() })
    }
}

/// What a metrics page shows about the connection to systemd.
#[derive(Debug, Default)]
pub(crate) struct BusCounters {
    /// Times that the signal connection had to be made again.
    pub(crate) reconnects: AtomicU64,
    /// Events dropped because nobody took them, and jobs that ended unseen.
    pub(crate) missed: AtomicU64,
}
