//! systemd and the journal as the agent sees them: jobs and unit properties over D-Bus, signals folded into events, log lines.
//!
//! Two bus connections: one for calls, one for signals. zbus stops reading a connection while one of its streams is full,
//! so a flood of signals must not be able to hold up the reply to a call.

pub(crate) mod bus;
pub(crate) mod error;
pub(crate) mod jobs;
pub(crate) mod journal;
mod name;
pub(crate) mod notify;
pub(crate) mod options;
mod properties;
mod recheck;
pub(crate) mod set_up;
pub(crate) mod signals;

#[cfg(test)]
mod tests;
