//! Starting cargo in this workspace, and the binary of the agent that it builds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use e2e::progress;

/// The workspace's directory.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."))
}

/// The cargo that runs us, else the one in PATH, in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(workspace());
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
    progress::during("building systemk", || {
        let mut build = cargo(&["build", "--quiet", "--package", "systemk"]);
        build.args(["--message-format", "json-render-diagnostics"]);
        let output = build.stderr(Stdio::inherit()).output().context("start cargo")?;
        if !output.status.success() {
            bail!("`cargo build --package systemk` failed");
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let binary =
            artifacts.filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?))).next_back();
        binary.context("cargo built no executable named systemk")
    })
}
