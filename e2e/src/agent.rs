//! A sandbox node with the agent under test in it, as its own systemd service.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde_json::Value;

use crate::eventually::wait_until;
use crate::release;
use crate::sandbox::{Sandbox, SandboxSpec, Systemd};

/// How long anything that should happen may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// How long a package may take to be there: it is written through to a disk that others write to, and one comes after another.
pub const INSTALLED: Duration = Duration::from_secs(90);

/// The agent's flags on a node without a cluster.
const STANDALONE: &str = "--node-ip 10.0.0.1 --node-external-ip 192.0.2.7";

/// The service that runs the agent; `systemk install` writes a hardened one, which has tests of its own.
fn service(flags: &str) -> String {
    format!(
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=notify\nExecStart=/usr/local/bin/systemk agent {flags}\n\
         KillMode=process\nRestart=always\nRestartSec=100ms\n\
         EnvironmentFile=-/etc/systemk.env\n"
    )
}

/// The agent's binary: `SYSTEMK_BINARY`, else built here.
pub fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || -> Result<PathBuf> {
        if let Some(path) = std::env::var_os("SYSTEMK_BINARY") {
            return Ok(PathBuf::from(path));
        }
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "systemk"]);
        release::executable(cargo)
    };
    BUILT.get_or_init(|| build().map_err(|e| format!("{e:#}"))).clone().map_err(|text| anyhow!(text))
}

/// A node with a running agent. Everything is removed on drop.
pub struct Node {
    /// The machine.
    pub sandbox: Sandbox,
    /// How long each wait for a pod of it lasts at most.
    pub patience: Duration,
}

impl Node {
    /// Boots a node and starts the agent on it.
    pub fn start(systemd: Systemd, what: &str) -> Result<Self> {
        let node = Self::without_agent(systemd, what)?;
        node.start_agent()?;
        Ok(node)
    }

    /// Boots a node with everything in place but the agent.
    pub fn without_agent(systemd: Systemd, what: &str) -> Result<Self> {
        Self::boot(SandboxSpec::for_test(systemd, what).netns(), STANDALONE)
    }

    /// Boots a node with everything in place but the agent, which will have these flags.
    pub fn boot(spec: SandboxSpec, flags: &str) -> Result<Self> {
        Self::boot_with(&binary()?, spec, &format!("{flags} --log-level debug"))
    }

    /// The same with a binary of the caller's.
    pub fn boot_with(binary: &Path, spec: SandboxSpec, flags: &str) -> Result<Self> {
        let sandbox = Sandbox::start(spec.bind_ro(binary, "/usr/local/bin/systemk"))?;
        sandbox.run(&["mkdir", "-p", "/etc/systemk/manifests"])?;
        sandbox.write_file("/etc/systemd/system/systemk.service", service(flags))?;
        sandbox.run(&["systemctl", "daemon-reload"])?;
        Ok(Self { sandbox, patience: SOON })
    }

    /// Starts the agent and waits until it says that it is ready.
    pub fn start_agent(&self) -> Result<()> {
        self.sandbox.run(&["systemctl", "start", "systemk"]).context("start the agent").map(drop)
    }

    /// Writes a manifest as an editor that renames does.
    pub fn apply(&self, file: &str, manifest: &str) -> Result<()> {
        let path = format!("/etc/systemk/manifests/{file}");
        self.sandbox.write_file(format!("{path}.tmp~"), manifest)?;
        self.sandbox.run(&["mv", &format!("{path}.tmp~"), &path]).map(drop)
    }

    /// Removes a manifest.
    pub fn remove(&self, file: &str) -> Result<()> {
        self.sandbox.run(&["rm", &format!("/etc/systemk/manifests/{file}")]).map(drop)
    }

    /// Every report: the agent's word on each pod. Read from outside, as many ask for it again and again.
    pub fn reports(&self) -> Vec<Value> {
        let Ok(pods) = self.sandbox.path("/run/systemk/pods") else { return Vec::new() };
        let entries = std::fs::read_dir(pods).into_iter().flatten().flatten();
        let texts = entries.filter_map(|entry| std::fs::read(entry.path().join("status.json")).ok());
        texts.filter_map(|text| serde_json::from_slice(&text).ok()).collect()
    }

    /// The report on the pod of that name in namespace `default`.
    pub fn report(&self, name: &str) -> Option<Value> {
        self.reports().into_iter().find(|r| r["pod"]["metadata"]["name"] == name)
    }

    /// Waits until the pod's status is as `is` wants it; the error shows the last one.
    pub fn wait_status(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
        let found = wait_until(what, self.patience, || self.report(name).filter(|r| is(&r["pod"]["status"])));
        found.with_context(|| {
            let log = self.sandbox.sh("journalctl -u systemk -n 30 --no-pager -o cat").unwrap_or_default();
            format!("pod {name}: {:#}\nthe agent's log:\n{log}", self.report(name).unwrap_or_default())
        })
    }

    /// Waits until all of the pod's containers run and are ready.
    pub fn wait_ready(&self, name: &str) -> Result<Value> {
        self.wait_status(name, "the pod to be ready", |status| {
            let all = status["containerStatuses"].as_array();
            status["phase"] == "Running" && all.is_some_and(|all| all.iter().all(|c| c["ready"] == true))
        })
    }

    /// Waits until the first container waits for that reason with a message that has each of `parts`; gives the report. A
    /// failed pull is a back-off two seconds later, and either will do for `ErrImagePull`.
    pub fn wait_waiting(&self, name: &str, reason: &str, parts: &[&str]) -> Result<Value> {
        self.wait_status(name, &format!("{reason} {parts:?}"), |status| {
            let waiting = &status["containerStatuses"][0]["state"]["waiting"];
            let is = waiting["reason"] == reason || reason == "ErrImagePull" && waiting["reason"] == "ImagePullBackOff";
            let message = waiting["message"].as_str().unwrap_or_default();
            is && parts.iter().all(|part| message.contains(part))
        })
    }

    /// Waits until nothing of the pod is reported any more.
    pub fn wait_gone(&self, name: &str) -> Result<()> {
        wait_until("the pod to be gone", self.patience, || self.report(name).is_none().then_some(()))
    }

    /// The unit of a container's newest attempt.
    pub fn unit(&self, pod: &str, container: &str) -> Result<String> {
        let report = self.report(pod).ok_or_else(|| anyhow!("no report on pod {pod}"))?;
        let units = report["units"].as_array().cloned().unwrap_or_default();
        let found = units.iter().find(|u| u[0] == container).and_then(|u| u[1].as_str().map(str::to_owned));
        found.ok_or_else(|| anyhow!("pod {pod} has no unit for {container}: {report}"))
    }

    /// All lines that a container's newest attempt wrote.
    pub fn log(&self, pod: &str, container: &str) -> Result<String> {
        let unit = self.unit(pod, container)?;
        self.sandbox.run(&["journalctl", "--no-pager", "-o", "cat", &format!("_SYSTEMD_UNIT={unit}")])
    }

    /// Waits for a line with `text` in a container's output.
    pub fn wait_log(&self, pod: &str, container: &str, text: &str) -> Result<String> {
        let found = wait_until(text, self.patience, || self.log(pod, container).ok().filter(|log| log.contains(text)));
        found.with_context(|| format!("log of {pod}/{container}:\n{}", self.log(pod, container).unwrap_or_default()))
    }

    /// One property of a unit, as `systemctl show` prints it.
    pub fn property(&self, unit: &str, name: &str) -> Result<String> {
        let text = self.sandbox.run(&["systemctl", "show", "-p", name, "--value", unit])?;
        Ok(text.trim().to_owned())
    }
}
