//! systemk: a Kubernetes node whose container runtime is systemd.

#[allow(dead_code, reason = "the loop that calls it is being written")]
mod packages;

fn main() {}
