//! `systemk`: a Kubernetes node whose container runtime is systemd.

#[allow(dead_code, unused_imports)] // until the parts that call it are here
mod config;
#[allow(dead_code, unused_imports)] // until the parts that call it are here
mod files;
#[allow(dead_code, unused_imports)] // until the parts that call it are here
mod manifests;

fn main() {}
