//! `systemk`: a Kubernetes node whose container runtime is systemd.

#[allow(dead_code)]
mod systemd;

fn main() {}
