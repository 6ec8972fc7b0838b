//! Running the machine's own tools: output on success, on failure an error with the command line and what it said; and
//! installing the Debian package of one that is missing.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// What a command gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit code, or 128 and the number of the signal that ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Output {
    /// Its stdout if it exited with 0, else an error with all it said.
    pub fn ok(self) -> Result<String> {
        if self.code == 0 {
            return Ok(self.stdout);
        }
        bail!("exit code {}:\n{}", self.code, tail(&format!("{}{}", self.stdout, self.stderr), 40))
    }
}

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

/// Runs `command` to its end with `input` on its stdin, whatever its exit code; past the deadline it is killed, which is an
/// error. For commands that start no others.
pub fn run_within(deadline: Duration, command: &mut Command, input: &[u8]) -> Result<Output> {
    let shown = show(command);
    let file = || tempfile::tempfile().context("make a temporary file");
    let (mut stdin, stdout, stderr) = (file()?, file()?, file()?);
    stdin.write_all(input).and_then(|()| stdin.rewind()).context("write the command's input")?;
    command.stdin(stdin).stdout(stdout.try_clone().context("share a temporary file")?);
    command.stderr(stderr.try_clone().context("share a temporary file")?);
    let mut child = command.spawn().with_context(|| format!("start `{shown}`"))?;
    let Some(status) = wait(&mut child, deadline)? else {
        child.kill().and_then(|()| child.wait()).with_context(|| format!("kill `{shown}`"))?;
        bail!("`{shown}` still ran after {deadline:?} and was killed; it said:\n{}", read(&stdout)? + &read(&stderr)?);
    };
    Ok(Output { code: code(status), stdout: read(&stdout)?, stderr: read(&stderr)? })
}

/// Waits for a child's end; nothing when it still runs at the deadline.
pub(crate) fn wait(child: &mut Child, deadline: Duration) -> Result<Option<ExitStatus>> {
    if let Some(status) = child.try_wait().context("look at the command")? {
        return Ok(Some(status));
    }
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("watch the command (pidfd_open, Linux 5.3)")?;
    let timeout = Timespec::try_from(deadline).context("a deadline that long")?;
    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)).context("wait for the command")?;
    child.try_wait().context("look at the command")
}

/// The exit code, or 128 and the number of the signal.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// The whole of a file that a command writes, without moving the offset at which it does.
pub(crate) fn read(file: &File) -> Result<String> {
    let length = file.metadata().context("look at the command's output")?.len();
    let mut bytes = vec![0; usize::try_from(length).context("an output that fits into memory")?];
    file.read_exact_at(&mut bytes, 0).context("read the command's output")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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
