//! kubectl of the same release as one user of a control plane.

use std::path::{Path, PathBuf};
use std::process::Command;
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
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(&self.cache).args(arguments);
        // The preferences of whoever runs us would change what comes out.
        command.env("KUBECTL_KUBERC", "false");
        command::run_within(deadline, &mut command, input.as_bytes())
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
