//! The fixtures themselves, on the real thing. Needs root and a package archive.
#![expect(clippy::unwrap_used, reason = "the lint's exception for tests does not reach the functions that they share")]

mod apt_repo;
mod cli;
mod control_plane;
mod go_defects;
mod packages;
mod pods;
mod release;
mod robust;
mod rootfs;
mod sandbox;
