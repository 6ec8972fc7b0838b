//! kubectl of the same release as one user of a control plane.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{self, Output};
use crate::eventually::wait_until;

/// How long a command may take; that much only where the API server is paused or the machine very busy.
const DEADLINE: Duration = Duration::from_secs(60);

/// A user's kubectl.
#[derive(Clone, Debug)]
pub struct Kubectl {
    pub(super) program: PathBuf,
    pub(super) kubeconfig: PathBuf,
    /// What kubectl remembers of the API server's resources: not in the home of whoever runs us.
    pub(super) cache: PathBuf,
}

/// A kubectl that was left running; dropping it kills it.
#[derive(Debug)]
pub struct Started {
    child: Child,
    stdout: File,
    stderr: File,
}

impl Started {
    /// What it wrote to stdout so far.
    pub fn stdout(&self) -> Result<String> {
        command::read(&self.stdout)
    }

    /// Waits for its end; an error when it still runs at the deadline.
    pub fn ended(mut self, deadline: Duration) -> Result<Output> {
        let status = command::wait(&mut self.child, deadline)?;
        let (stdout, stderr) = (self.stdout()?, command::read(&self.stderr)?);
        let Some(status) = status else { bail!("kubectl still runs; it said:\n{stdout}{stderr}") };
        Ok(Output { code: command::code(status), stdout, stderr })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Over already, mostly.
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }
}

impl Kubectl {
    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The kubeconfig that it uses.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs a command, whatever its exit code.
    pub fn output(&self, arguments: &[&str]) -> Result<Output> {
        self.output_with(DEADLINE, arguments, "")
    }

    /// Runs a command with a deadline of its own and text on its standard input.
    pub fn output_with(&self, deadline: Duration, arguments: &[&str], input: &str) -> Result<Output> {
        command::run_within(deadline, &mut self.command(arguments), input.as_bytes())
    }

    /// Starts a command and leaves it running.
    pub fn start(&self, arguments: &[&str]) -> Result<Started> {
        let file = || tempfile::tempfile().context("make a temporary file");
        let (stdout, stderr) = (file()?, file()?);
        let mut command = self.command(arguments);
        command.stdin(Stdio::null());
        command.stdout(stdout.try_clone().context("share a temporary file")?);
        command.stderr(stderr.try_clone().context("share a temporary file")?);
        let child = command.spawn().with_context(|| format!("start `kubectl {}`", arguments.join(" ")))?;
        Ok(Started { child, stdout, stderr })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(&self.cache).args(arguments);
        // The preferences of whoever runs us would change what comes out.
        command.env("KUBECTL_KUBERC", "false");
        command
    }

    /// Runs a command that must succeed and gives its stdout.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        self.output(arguments)?.ok().with_context(|| format!("`kubectl {}`", arguments.join(" ")))
    }

    /// Creates or changes the objects of a manifest.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        self.output_with(DEADLINE, &["apply", "-f", "-"], manifest)?.ok().map(drop).context("`kubectl apply`")
    }

    /// One object, or the list of them, as JSON: `get(&["pod", "x", "-n", "y"])`.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let Some(found) = self.find(arguments)? else { bail!("`kubectl get {}` found nothing", arguments.join(" ")) };
        Ok(found)
    }

    /// Like [`Kubectl::get`]; nothing when there is no such object.
    pub fn find(&self, arguments: &[&str]) -> Result<Option<Value>> {
        let text = self.run(&[&["get", "-o", "json", "--ignore-not-found"], arguments].concat())?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&text).map(Some).with_context(|| format!("read what kubectl gave: {text}"))
    }

    /// Asks for the object until it is as `is` wants it; the error shows the last one.
    pub fn wait_for(
        &self,
        what: &str,
        deadline: Duration,
        arguments: &[&str],
        is: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = None;
        let found = wait_until(what, deadline, || {
            last = Some(self.find(arguments));
            last.as_ref()?.as_ref().ok()?.clone().filter(&is)
        });
        found.with_context(|| match last {
            Some(Ok(Some(object))) => format!("last seen: {object:#}"),
            Some(Ok(None)) => format!("`kubectl get {}` found nothing", arguments.join(" ")),
            Some(Err(error)) => format!("{error:#}"),
            None => String::new(),
        })
    }
}
