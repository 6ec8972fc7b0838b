//! The pure core of systemk: pods to `Launch` and units, and units back to pod status. No I/O, no clock, no randomness.

pub mod backoff;
pub mod blocked;
pub mod fields;
pub mod image;
pub mod inputs;
pub mod launch;
pub mod manifest;
pub mod note;
pub mod unit;
pub mod quantity;
pub mod vendor;
pub mod journal;
pub mod observed;
