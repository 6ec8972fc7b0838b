//! Fixtures: the real parts our tests, benchmarks and demo run against, made once and kept in the user's cache.
//!
//! Takes a machine (Linux, root, apt for what is missing); gives systemd instances, virtual machines, root file systems, a
//! package repository and Kubernetes control planes. Never touches the machine's own mounts, cgroups, network or service manager.

pub mod agent;
pub mod apt_repo;
pub mod cache;
pub mod command;
pub mod control_plane;
pub mod debian_repo;
pub mod eventually;
pub mod fleet;
pub mod kubernetes;
pub mod member;
pub mod process;
pub mod progress;
pub mod release;
pub mod rootfs;
pub mod sandbox;
pub mod scenarios;
pub mod virtual_machine;
