//! Running commands inside an instance: in all of its namespaces, in a cgroup of their own, with a clean environment.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Sandbox, cgroup};
use crate::command::{self, Output};

/// How long [`Sandbox::exec`] lets a command run.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);

/// Joins a cgroup of the instance before its namespaces (else the command would show up as `/..` inside), then starts with
/// the environment of a service manager, not with the caller's.
const ENTER: &str = "group=$1 init=$2; shift 2; echo 0 >\"$group/cgroup.procs\" && exec nsenter --target \"$init\" --all -- \
     env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=\"${TERM:-dumb}\" \"$@\"";

/// A command that was left running inside; dropping it kills it with all that it started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    group: PathBuf,
    stdout: File,
    stderr: File,
}

impl Sandbox {
    /// The words that, put before a command, run it inside. Good until the instance is stopped or rebooted.
    pub fn enter_argv(&self) -> Result<Vec<String>> {
        self.enter(&self.record.cgroup.join("enter"))
    }

    /// Runs a command to its end, for at most [`DEFAULT_DEADLINE`].
    pub fn exec(&self, argv: &[&str]) -> Result<Output> {
        self.exec_within(DEFAULT_DEADLINE, argv)
    }

    /// Runs a command to its end; past the deadline it is killed with all that it started, which is an error.
    pub fn exec_within(&self, deadline: Duration, argv: &[&str]) -> Result<Output> {
        let mut running = self.spawn(argv)?;
        let Some(status) = running.wait(deadline)? else {
            let (stdout, stderr) = (running.stdout()?, running.stderr()?);
            bail!("`{}` still ran after {deadline:?} and was killed; it said:\n{}", argv.join(" "), stdout + &stderr);
        };
        let output = Output { code: command::code(status), stdout: running.stdout()?, stderr: running.stderr()? };
        running.leave();
        Ok(output)
    }

    /// Runs a command that must succeed and gives its stdout.
    pub fn run(&self, argv: &[&str]) -> Result<String> {
        self.exec(argv)?.ok().with_context(|| format!("`{}` in sandbox {}", argv.join(" "), self.name()))
    }

    /// Runs a shell script that must succeed and gives its stdout.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.run(&["bash", "-ec", script])
    }

    /// Starts a command and leaves it running.
    pub fn spawn(&self, argv: &[&str]) -> Result<Running> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let group = self.record.cgroup.join(format!("enter/{}-{number}", std::process::id()));
        let enter = self.enter(&group)?;
        // Files instead of pipes: a daemon that keeps its output open holds nobody up, and no reader is needed.
        let file = || tempfile::tempfile().context("make a temporary file");
        let (stdout, stderr) = (file()?, file()?);
        let child = Command::new(&enter[0])
            .args(&enter[1..])
            .args(argv)
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().context("share a temporary file")?)
            .stderr(stderr.try_clone().context("share a temporary file")?)
            .spawn()
            .with_context(|| format!("enter sandbox {}", self.name()))?;
        Ok(Running { child, group, stdout, stderr })
    }

    fn enter(&self, group: &Path) -> Result<Vec<String>> {
        let Some(init) = self.record.init.filter(|init| init.alive()) else {
            bail!("sandbox {} does not run (any more)", self.name());
        };
        fs::create_dir_all(group).with_context(|| format!("make the cgroup {}", group.display()))?;
        let group = group.to_string_lossy().into_owned();
        Ok(["sh", "-c", ENTER, "enter", &group, &init.pid.to_string()].map(str::to_owned).to_vec())
    }
}

impl Running {
    /// Waits for its end; nothing when it still runs at the deadline.
    pub fn wait(&mut self, deadline: Duration) -> Result<Option<ExitStatus>> {
        command::wait(&mut self.child, deadline)
    }

    /// What it wrote to stdout so far.
    pub fn stdout(&self) -> Result<String> {
        command::read(&self.stdout)
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> Result<String> {
        command::read(&self.stderr)
    }

    /// Kills it with all that it started.
    pub fn kill(&mut self) -> Result<()> {
        // The child as well: it may not have joined its cgroup yet.
        self.child.kill().context("kill the command")?;
        cgroup::kill(&self.group)?;
        self.child.wait().context("wait for the killed command")?;
        cgroup::remove(&self.group)
    }

    /// Ends the watch over a command that is over, leaving what it started in the background.
    fn leave(self) {
        // Busy when something stays in the background: it is removed with the instance.
        fs::remove_dir(&self.group).ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.group.exists() && matches!(self.child.try_wait(), Ok(None)) {
            // The instance's own end kills whatever could not be killed here.
            self.kill().ok();
        }
    }
}
