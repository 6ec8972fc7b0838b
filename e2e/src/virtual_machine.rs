//! A virtual machine with a kernel, a cgroup2 hierarchy and a power switch of its own: what a sandbox cannot show.
//!
//! Takes a release's systemd and the agent's binary; gives a [`VirtualMachine`] to run scripts in, to reboot and to cut the
//! power of. QEMU emulates it, which is some twenty times slower than a sandbox and depends on what else the machine does:
//! nothing here is about time. It has no network. A power cut loses what is not yet written to the disk; what its own
//! cache would lose beyond that is not tried.

mod channel;
mod home;
mod image;
mod kernel;
mod node;
mod qemu;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use self::home::Home;
pub use self::image::DEFAULT_TASKS_MAX;
use self::kernel::Kernel;
pub use self::node::{SOON, VmNode};
use self::qemu::Qemu;
use crate::command::{self, Output};
use crate::sandbox::Systemd;

/// How long a boot or a shutdown may take: 10 s on an idle machine.
const BOOT_DEADLINE: Duration = Duration::from_secs(300);

/// How long a script may run.
const SCRIPT_DEADLINE: Duration = Duration::from_secs(240);

/// A machine, switched on or off. Everything it had is removed on drop.
#[derive(Debug)]
pub struct VirtualMachine {
    power: Mutex<Option<Qemu>>,
    kernel: Kernel,
    home: Home,
}

impl VirtualMachine {
    /// Makes a machine with `agent` as its `/usr/local/bin/systemk`, not installed yet, and boots it.
    pub fn boot(systemd: Systemd, agent: &Path) -> Result<Self> {
        ensure!(std::env::consts::ARCH == "x86_64", "virtual machines are emulated for x86-64 programs only");
        command::require("qemu-system-x86_64", "qemu-system-x86")?;
        command::require("setpriv", "util-linux")?;
        command::require("debugfs", "e2fsprogs")?;
        let (kernel, base) = (Kernel::of(systemd)?, image::base(systemd)?);
        let home = Home::make()?;
        image::instance(&base, agent, &home.disk())?;
        let mut machine = Self { power: Mutex::new(None), kernel, home };
        machine.power_on()?;
        Ok(machine)
    }

    /// Switches it on and waits until its systemd is `running`.
    pub fn power_on(&mut self) -> Result<()> {
        let power = self.power.get_mut().unwrap_or_else(PoisonError::into_inner);
        ensure!(power.is_none(), "the machine is on already");
        *power = Some(Qemu::start(&self.kernel, &self.home.disk(), &self.home.console())?);
        let state =
            "systemctl is-system-running --wait || { systemctl --failed --no-legend; journalctl -n 20 -p warning; }";
        let state = self.exec_within(BOOT_DEADLINE, state).context("boot the machine")?.stdout;
        if state != "running\n" {
            bail!("after its boot the machine is {state}");
        }
        Ok(())
    }

    /// Ends the machine between two instructions.
    pub fn power_cut(&mut self) {
        *self.power.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Shuts it down as its administrator would.
    pub fn shut_down(&mut self) -> Result<()> {
        self.exec_within(SCRIPT_DEADLINE, "systemctl --no-block poweroff")?.ok()?;
        let power = self.power.get_mut().unwrap_or_else(PoisonError::into_inner);
        let off = power.as_mut().map_or(Ok(true), |qemu| qemu.wait(BOOT_DEADLINE))?;
        *power = None;
        ensure!(off, "the machine does not shut down:\n{}", self.home.console_tail());
        Ok(())
    }

    /// Shuts it down and boots it.
    pub fn reboot(&mut self) -> Result<()> {
        self.shut_down()?;
        self.power_on()
    }

    /// Whether its file system is sound; the machine has to be shut down.
    pub fn check_disk(&self) -> Result<()> {
        ensure!(self.power.lock().unwrap_or_else(PoisonError::into_inner).is_none(), "the machine is on");
        image::check(&self.home.disk())
    }

    /// Runs a shell script (`set -e`) to its end. One at a time; one that hangs is the end of the machine's use.
    pub fn exec(&self, script: &str) -> Result<Output> {
        self.exec_within(SCRIPT_DEADLINE, script)
    }

    /// Runs a shell script that must succeed and gives its stdout.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.exec(script)?.ok().with_context(|| format!("in the virtual machine: {script}"))
    }

    /// Writes a file, with its parents, under its name only once it is whole and on the disk.
    pub fn write_file(&self, path: &str, content: &str) -> Result<()> {
        let directory = Path::new(path).parent().unwrap_or(Path::new("/")).display();
        let quoted = content.replace('\'', r"'\''");
        let script = format!(
            "mkdir -p {directory}; printf %s '{quoted}' >{path}.tmp~; sync {path}.tmp~; mv {path}.tmp~ {path}; sync {directory}"
        );
        self.sh(&script).map(drop)
    }

    fn exec_within(&self, deadline: Duration, script: &str) -> Result<Output> {
        let mut power = self.power.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(qemu) = power.as_mut() else { bail!("the machine is off") };
        qemu.channel.call(script, deadline).with_context(|| {
            format!("`{script}` in the virtual machine; the end of its console:\n{}", self.home.console_tail())
        })
    }
}
