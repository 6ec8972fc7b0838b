//! A node with the release binary on it, and what is measured of its agent.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use e2e::eventually::wait_until;
use e2e::progress;
use e2e::release;
use e2e::sandbox::{Sandbox, SandboxSpec, Systemd};
use rustix::process::{Pid, Signal, kill_process};

use super::watch::Watch;

/// Where the agent is inside the node.
const AGENT: &str = "/usr/local/bin/systemk";

/// As `systemk install` has it in what matters here: a killed agent is started again, and its pods stay.
const SERVICE: &str = "[Service]\nType=notify\nExecStart=/usr/local/bin/systemk agent --node-ip 127.0.0.1\n\
    KillMode=process\nRestart=always\nRestartSec=100ms\nStartLimitIntervalSec=0\n";

/// Nothing here takes so long, on however busy a machine.
pub(super) const LONG: Duration = Duration::from_secs(180);

/// A booted node. Removed on drop.
pub(super) struct Node {
    pub(super) sandbox: Sandbox,
}

impl Node {
    /// Boots it on the machine's network, where programs report their start, and starts the agent.
    pub(super) fn start(systemd: Systemd, what: &str) -> Result<Self> {
        let binary = release::binary()?;
        let spec = SandboxSpec::for_test(systemd, &format!("bench-{what}")).bind_ro(binary, AGENT);
        let sandbox = progress::during(&format!("booting a node with systemd {}", systemd.version()), || {
            let sandbox = Sandbox::start(spec)?;
            sandbox.run(&["mkdir", "-p", "/etc/systemk/manifests"])?;
            sandbox.run(&["mkdir", "-p", "-m", "700", "/run/systemk/pods"])?;
            sandbox.write_file("/etc/systemd/system/systemk.service", SERVICE)?;
            sandbox.run(&["systemctl", "daemon-reload"])?;
            sandbox.run(&["systemctl", "start", "systemk"])?;
            Ok(sandbox)
        })?;
        Ok(Self { sandbox })
    }

    /// A watch on what the agent reports.
    pub(super) fn watch(&self) -> Result<Watch> {
        Watch::new(self.sandbox.path("/run/systemk/pods")?)
    }

    /// Writes a manifest as a careful program does: whole, by a rename.
    pub(super) fn apply(&self, file: &str, text: &str) -> Result<()> {
        let directory = self.sandbox.path("/etc/systemk/manifests")?;
        let scratch = directory.join(format!(".{file}.new"));
        fs::write(&scratch, text)
            .and_then(|()| fs::rename(&scratch, directory.join(file)))
            .with_context(|| format!("write the manifest {file}"))
    }

    /// Removes a manifest.
    pub(super) fn remove(&self, file: &str) -> Result<()> {
        let path = self.sandbox.path("/etc/systemk/manifests")?.join(file);
        fs::remove_file(path).with_context(|| format!("remove the manifest {file}"))
    }

    /// The agent's process as the machine sees it.
    pub(super) fn agent(&self) -> Result<Agent> {
        Agent::of(&self.sandbox)
    }

    /// Kills the agent and waits until the kernel has taken it away.
    pub(super) fn kill_agent(&self) -> Result<()> {
        self.agent()?.kill()
    }
}

/// The agent's process.
pub(super) struct Agent {
    pid: u32,
}

impl Agent {
    /// That of a node.
    pub(super) fn of(sandbox: &Sandbox) -> Result<Self> {
        let group = sandbox.record().cgroup.join("system.slice/systemk.service/cgroup.procs");
        let text = fs::read_to_string(&group).context("read the agent's cgroup")?;
        let pid = text.lines().next().and_then(|line| line.parse().ok()).context("the agent does not run")?;
        Ok(Self { pid })
    }

    /// Kills it and waits until the kernel has taken it away.
    pub(super) fn kill(&self) -> Result<()> {
        let pid = Pid::from_raw(self.pid.cast_signed()).context("a process id")?;
        kill_process(pid, Signal::KILL).context("kill the agent")?;
        wait_until("the agent to die", LONG, || self.cpu_ns().is_err().then_some(()))
    }

    /// The inodes of its sockets.
    pub(super) fn sockets(&self) -> Result<Vec<String>> {
        let path = format!("/proc/{}/fd", self.pid);
        let entries = fs::read_dir(&path).with_context(|| format!("list {path}"))?;
        let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let inode = |link: PathBuf| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
        Ok(links.filter_map(inode).collect())
    }

    /// Its proportional share of memory, in MB.
    pub(super) fn pss_mb(&self) -> Result<f64> {
        let path = PathBuf::from(format!("/proc/{}/smaps_rollup", self.pid));
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let pss = text.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok());
        let kilobytes: f64 = pss.context("the kernel tells no Pss")?;
        Ok(kilobytes * 1024.0 / 1_000_000.0)
    }

    /// The time it ran on a processor, in nanoseconds by the scheduler's account (ticks are too coarse for an idle agent).
    pub(super) fn cpu_ns(&self) -> Result<f64> {
        let path = format!("/proc/{}/task", self.pid);
        let mut sum = 0.0;
        for entry in fs::read_dir(&path).with_context(|| format!("list {path}"))? {
            let file = entry.context("list its threads")?.path().join("schedstat");
            // A thread may end in between.
            let text = fs::read_to_string(file).unwrap_or_default();
            sum += text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
        }
        if sum == 0.0 {
            bail!("this kernel keeps no account of processor time in schedstat");
        }
        Ok(sum)
    }
}

/// Lets time pass while something is measured.
#[expect(clippy::disallowed_methods, reason = "the length of a measurement, not a wait for an outcome")]
pub(super) fn during_window(window: Duration) {
    std::thread::sleep(window);
}
