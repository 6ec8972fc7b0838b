//! QEMU with one machine in it: software emulation, so that it is the same wherever the tests run.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::channel::Channel;
use super::kernel::Kernel;
use crate::command;

/// Enough for what limits are tried with; taken from the machine only as it is touched.
const MEMORY_MIB: u32 = 768;

/// `quiet`: the serial line is slow. `panic=-1` with `-no-reboot` makes a kernel's panic the end of QEMU, which is noticed
/// at once. No mitigations: there is nobody to keep out.
const KERNEL_COMMAND_LINE: &str =
    "console=ttyS0 root=/dev/vda rw quiet panic=-1 mitigations=off random.trust_cpu=on systemd.show_status=0";

/// A machine that is switched on. Dropping it is a power cut.
#[derive(Debug)]
pub(super) struct Qemu {
    child: Child,
    pub(super) channel: Channel,
}

impl Qemu {
    /// Switches on a machine with `disk`. What it writes to its console is added to `console`.
    pub(super) fn start(kernel: &Kernel, disk: &Path, console: &Path) -> Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(console).context("open the console's log")?;
        // A test process that is killed takes its machines with it.
        let mut qemu = Command::new("setpriv");
        qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        // An older processor than `max`: without the vector instructions that emulation is slow at.
        qemu.args(["-machine", "q35,accel=tcg", "-cpu", "Nehalem", "-smp", "1"]).args(["-m", &MEMORY_MIB.to_string()]);
        qemu.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(&kernel.initrd);
        qemu.args(["-append", KERNEL_COMMAND_LINE]);
        qemu.arg("-drive").arg(option("if=none,id=disk,format=raw,file=", disk));
        qemu.args(["-device", "virtio-blk-pci,drive=disk"]);
        qemu.args(["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"]);
        qemu.args(["-device", "virtio-serial-pci", "-chardev", "stdio,id=channel,signal=off"]);
        qemu.args(["-device", "virtserialport,chardev=channel,name=channel"]);
        qemu.arg("-chardev").arg(option("file,id=console,append=on,path=", console));
        qemu.args(["-serial", "chardev:console"]);
        let mut child =
            qemu.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().context("start QEMU (setpriv)")?;
        let requests = child.stdin.take().context("QEMU's end of the requests")?;
        let answers = child.stdout.take().context("QEMU's end of the answers")?;
        Ok(Self { child, channel: Channel::new(requests, answers) })
    }

    /// Waits until the machine has switched itself off; not within the deadline is false.
    pub(super) fn wait(&mut self, deadline: Duration) -> Result<bool> {
        Ok(command::wait(&mut self.child, deadline)?.is_some())
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An option whose last value is a path, in which QEMU has commas doubled.
fn option(start: &str, path: &Path) -> String {
    format!("{start}{}", path.display().to_string().replace(',', ",,"))
}
