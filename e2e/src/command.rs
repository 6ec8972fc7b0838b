//! Running the machine's own tools: output on success, on failure an error with the command line and what it said; and
//! installing the Debian package of one that is missing.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `command` to its end and gives its stdout; an exit other than 0 is an error carrying the end of its output.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start `{shown}`"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    bail!("`{shown}` failed ({}):\n{}", output.status, tail(&format!("{stdout}{stderr}"), 30))
}

/// The last `count` lines of `text`.
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Makes sure that `program` can be started, by installing the Debian package `package` when it is not there.
pub fn require(program: &str, package: &str) -> Result<()> {
    if find(program).is_some() {
        return Ok(());
    }
    // Two test processes may miss the same program at once, and apt's own lock is an error, not a wait.
    let _lock =
        crate::cache::lock(&crate::cache::directory()?.join("apt.lock"), "another process to install packages")?;
    if find(program).is_some() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        bail!(
            "`{program}` is missing and this machine has no apt-get: install it by hand (Debian package `{package}`)"
        );
    }
    crate::progress::during(&format!("installing {package} (for `{program}`)"), || {
        let install = || run(apt_get().args(["install", "-y", "--no-install-recommends", package]));
        // A fresh machine has no package lists, and stale ones name files that the mirror no longer has.
        install().or_else(|_| run(apt_get().arg("update")).and_then(|_| install())).map(drop)
    })
    .with_context(|| format!("`{program}` is missing: install the package `{package}` and try again"))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "DPkg::Lock::Timeout=300"]);
    command
}

/// Where `program` is in PATH, or in the directories of the administrator's programs, which a user's PATH may lack.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
