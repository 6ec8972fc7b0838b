//! Starting cargo in this workspace, and the binary of the agent that it builds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use e2e::{progress, release};

/// The workspace's directory.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."))
}

/// The cargo that runs us, else the one in PATH, in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    release::as_from_a_shell(command.args(arguments).current_dir(workspace()));
    command
}

/// Runs cargo with its output on the terminal; an exit other than 0 is an error.
pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let status = cargo(arguments).envs(environment.iter().copied()).stdin(Stdio::null()).status();
    if !status.context("start cargo")?.success() {
        bail!("`cargo {}` failed", arguments.join(" "));
    }
    Ok(())
}

/// Builds the agent as it is developed (quick to build) and gives the path of its binary.
pub(crate) fn build_agent() -> Result<PathBuf> {
    progress::beside("building systemk", || release::executable(cargo(&["build", "--package", "systemk"])))
}
