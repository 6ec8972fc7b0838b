//! `systemk init` and `systemk exit-hook` as systemd would start them, without systemd. Needs root.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

mod directories;
mod environment;
mod failures;
mod identity;
mod support;
