//! The release binary: static, so that one file runs on every distribution. Cargo keeps it between builds.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::progress;

/// What it may weigh, in bytes.
pub const LARGEST: u64 = 16_000_000;

/// Builds the binary that is released and gives its path. Minutes when something changed (the whole program is optimized
/// at once), a moment when not.
pub fn binary() -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    progress::beside("building the release binary (some minutes after a change)", || {
        let mut build = Command::new(&cargo);
        build.args(["build", "--release", "--package", "systemk", "--target", &target]);
        // glibc linked in, and still loadable at any address. RUSTFLAGS would win over it, and an explicit target keeps it
        // from build scripts.
        build.env_remove("RUSTFLAGS").env(flags, "-C target-feature=+crt-static");
        executable(build)
    })
}

/// Takes away what cargo tells the program that it runs: build scripts look at it (ring's, at all of it), and a cargo within
/// another would compile half of the tree anew, and so would the next one outside.
pub fn as_from_a_shell(command: &mut Command) -> &mut Command {
    let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in std::env::vars_os() {
        if told.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a `cargo build` of the agent and gives the path of the executable that it says it made.
pub fn executable(mut build: Command) -> Result<PathBuf> {
    build.args(["--message-format", "json-render-diagnostics"]).stdin(Stdio::null());
    build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("find the workspace")?);
    let output = as_from_a_shell(&mut build).stderr(Stdio::inherit()).output().context("start cargo")?;
    if !output.status.success() {
        let words: Vec<_> = build.get_args().map(OsStr::to_string_lossy).collect();
        bail!("`cargo {}` failed", words.join(" "));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let binary = artifacts.filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?))).next_back();
    binary.context("cargo built no executable named systemk")
}
