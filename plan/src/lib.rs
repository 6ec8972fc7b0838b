//! The pure core of systemk: pods to `Launch` and units, and units back to pod status. No I/O, no clock, no randomness.

pub mod launch;
pub mod note;
pub mod vendor;
