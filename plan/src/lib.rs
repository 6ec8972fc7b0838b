//! The pure core of systemk: pods to `Launch` and units, and units back to pod status. No I/O, no clock, no randomness.
//!
//! Five entry points, in the order of the flow: [`pod::needs`] says what to fetch, [`pod::plan`] turns a pod and what was
//! fetched into units, [`steps::steps`] compares that with what is there, [`status::status`] reports it, and
//! [`manifest::parse`] reads the pods of a file. Start reading at `pod.rs`, then `container.rs` and one golden case.

pub mod admission;
pub mod attempt;
pub mod backoff;
pub mod blocked;
pub mod brief;
pub mod cni;
pub mod container;
pub mod correlation;
pub mod ends;
pub mod fields;
pub mod history;
pub mod image;
pub mod inputs;
pub mod journal;
pub mod kubelet_api;
pub mod launch;
pub mod manifest;
pub mod mirror;
pub mod node;
pub mod note;
pub mod observed;
pub mod oci;
pub mod pod;
pub mod pod_plan;
pub mod quantity;
pub mod status;
pub mod steps;
pub mod token;
pub mod unit;
pub mod vendor;
