//! A virtual machine that `systemk install` made a node, as its administrator would.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::{Deserializer, Value};

use super::VirtualMachine;
use crate::agent;
use crate::eventually::wait_within;
use crate::sandbox::Systemd;

/// How long anything that should happen may take, on a machine that builds at the same time.
pub const SOON: Duration = Duration::from_secs(240);

/// Each question costs the emulated processor a part of a second that what is waited for does not get.
const PAUSE: Duration = Duration::from_millis(500);

/// A machine with a running agent.
#[derive(Debug)]
pub struct VmNode {
    /// The machine.
    pub machine: VirtualMachine,
}

impl VmNode {
    /// Boots a machine and installs the agent on it.
    pub fn start(systemd: Systemd) -> Result<Self> {
        let machine = VirtualMachine::boot(systemd, &agent::binary()?)?;
        machine.sh("systemk install").context("make the machine a node")?;
        Ok(Self { machine })
    }

    /// Writes a manifest, whole and on the disk.
    pub fn apply(&self, file: &str, manifest: &str) -> Result<()> {
        self.machine.write_file(&format!("/etc/systemk/manifests/{file}"), manifest)
    }

    /// Removes a manifest.
    pub fn remove(&self, file: &str) -> Result<()> {
        self.machine.sh(&format!("rm /etc/systemk/manifests/{file}")).map(drop)
    }

    /// Every report: the agent's word on each pod.
    pub fn reports(&self) -> Vec<Value> {
        let Ok(output) = self.machine.exec("cat /run/systemk/pods/*/status.json") else { return Vec::new() };
        Deserializer::from_str(&output.stdout).into_iter().map_while(Result::ok).collect()
    }

    /// The report on the pod of that name in namespace `default`.
    pub fn report(&self, name: &str) -> Option<Value> {
        self.reports().into_iter().find(|report| report["pod"]["metadata"]["name"] == name)
    }

    /// Asks until there is an answer; the error shows the end of the agent's log.
    pub fn wait<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> Result<T> {
        wait_within(what, SOON, PAUSE, probe).with_context(|| {
            let log = self.machine.exec("journalctl -u systemk -n 30 --no-pager -o cat");
            format!("the agent's log:\n{}", log.map(|output| output.stdout).unwrap_or_default())
        })
    }

    /// Waits until a script succeeds.
    pub fn wait_sh(&self, what: &str, script: &str) -> Result<()> {
        self.wait(what, || self.machine.sh(script).ok().map(drop))
    }

    /// Waits until the pod's status is as `is` wants it; the error shows the last one.
    pub fn wait_status(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
        self.wait(what, || self.report(name).filter(|report| is(&report["pod"]["status"])))
            .with_context(|| format!("pod {name}: {:#}", self.report(name).unwrap_or_default()))
    }

    /// Waits until all containers of all those pods run and are ready.
    pub fn wait_ready(&self, names: &[&str]) -> Result<()> {
        let ready = |report: &Value| {
            let status = &report["pod"]["status"];
            let all = status["containerStatuses"].as_array();
            status["phase"] == "Running" && all.is_some_and(|all| all.iter().all(|c| c["ready"] == true))
        };
        let all = || {
            let reports = self.reports();
            let named = |name: &&str| reports.iter().any(|r| r["pod"]["metadata"]["name"] == **name && ready(r));
            names.iter().all(named).then_some(())
        };
        self.wait(&format!("{names:?} to be ready"), all).with_context(|| {
            let statuses = self.reports().into_iter().filter(|report| !ready(report));
            statuses.map(|report| format!("{:#}", report["pod"]["status"])).collect::<Vec<_>>().join("\n")
        })
    }

    /// The unit of a container's newest attempt.
    pub fn unit(&self, pod: &str, container: &str) -> Result<String> {
        let report = self.report(pod).ok_or_else(|| anyhow!("no report on pod {pod}"))?;
        let units = report["units"].as_array().cloned().unwrap_or_default();
        let found = units.iter().find(|u| u[0] == container).and_then(|u| u[1].as_str().map(str::to_owned));
        found.ok_or_else(|| anyhow!("pod {pod} has no unit for {container}: {report}"))
    }

    /// The directory of a unit's cgroup.
    pub fn cgroup(&self, unit: &str) -> Result<String> {
        let group = self.machine.sh(&format!("systemctl show -p ControlGroup --value {unit}"))?;
        Ok(format!("/sys/fs/cgroup{}", group.trim()))
    }
}
