//! From a spec to a systemd that runs: the instance's own layers, its namespaces (by `boot.sh`), the wait for the boot.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::spec::Bind;
use super::{Process, Sandbox, cgroup};
use crate::eventually::wait_until;
use crate::{cache, command};

const BOOT: &str = include_str!("boot.sh");

/// Boots in 0.3 s alone; the rest is for machines that build at the same time.
const BOOT_DEADLINE: Duration = Duration::from_secs(90);

/// Units that would act on the machine (devices, sysctls, modules, kernel-wide registrations), want hardware or a terminal
/// that is not there, or start work at a random time in the middle of a test.
const MASKED: &[&str] = &[
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-sysctl.service",
    "systemd-modules-load.service",
    "modprobe@.service",
    "systemd-binfmt.service",
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-journald-audit.socket",
    "systemd-timesyncd.service",
    "systemd-networkd-wait-online.service",
    "console-getty.service",
    "container-getty@.service",
    "getty@.service",
    "serial-getty@.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
];

impl Sandbox {
    /// Fills the layers that are this instance's own.
    pub(super) fn furnish(&self) -> Result<()> {
        let etc = self.home.join("upper/etc");
        let units = etc.join("systemd/system");
        for directory in [&units, &self.home.join("root")] {
            fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        }
        command::run(
            Command::new("cp")
                .args(["-a", "--reflink=auto"])
                .args([self.record.lower.join("var"), self.home.join("var")]),
        )?;
        for unit in MASKED {
            std::os::unix::fs::symlink("/dev/null", units.join(unit)).with_context(|| format!("mask {unit}"))?;
        }
        let name = self.name();
        let machine_id: String =
            fs::read_to_string("/proc/sys/kernel/random/uuid").context("make a machine id")?.replace('-', "");
        let mut files = vec![
            ("hostname", format!("{name}\n")),
            ("machine-id", machine_id),
            ("hosts", format!("127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 {name}\n")),
        ];
        if !self.record.spec.netns {
            files.extend(fs::read_to_string("/etc/resolv.conf").ok().map(|text| ("resolv.conf", text)));
            let machine = fs::read_to_string("/etc/hosts").unwrap_or_default();
            files[2].1 += &machine;
        }
        for (file, content) in files {
            fs::write(etc.join(file), content).with_context(|| format!("write /etc/{file} of sandbox {name}"))?;
        }
        Ok(())
    }

    /// Starts process 1 in fresh namespaces and writes down who it is.
    pub(super) fn boot(&mut self) -> Result<()> {
        // Left by the last boot, with overlay's mark that it was not unmounted: it holds nothing that is needed.
        let work = self.home.join("work");
        cache::remove(&work)?;
        fs::create_dir(&work).with_context(|| format!("make {}", work.display()))?;
        cgroup::make(&self.record.cgroup)?;

        let log = File::create(self.home.join("boot.log")).context("make the boot log")?;
        let mut unshare = Command::new("setsid");
        // The cgroup namespace comes last, as its root is the cgroup that the process is in by then; and the waiting
        // parent stays outside, as systemd needs that cgroup without other processes.
        unshare.args(["unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc"]);
        unshare.args(self.record.spec.netns.then_some("--net"));
        unshare.args(["sh", "-c", r#"echo 0 >"$1/cgroup.procs"; shift; exec unshare --cgroup sh -c "$@""#, "join"]);
        unshare.arg(&self.record.cgroup).args([BOOT, "boot"]).args([&self.home, &self.record.lower]);
        for (number, bind) in self.record.spec.binds.iter().enumerate() {
            let mode = if bind.read_only { "ro" } else { "rw" };
            unshare.args([&self.kept(number, bind), &bind.inside]).arg(mode);
        }
        unshare
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the boot log")?)
            .stderr(log)
            .current_dir("/");
        let child = unshare.spawn().context("start the sandbox's supervisor")?;
        self.record.supervisor = Process::of(child.id());
        self.child = Some(child);
        self.record.save()?;
        self.record.init =
            Some(self.while_booting("the sandbox's process 1", |sandbox| {
                sandbox.record.supervisor.and_then(Process::child)
            })?);
        self.record.save()
    }

    /// A name of the instance's own for a file that is bound: a build exchanges the agent's, and what is mounted from a file
    /// that has no name any more cannot be mounted on. Directories, and files of other file systems, are bound as they are.
    fn kept(&self, number: usize, bind: &Bind) -> PathBuf {
        let link = self.home.join(format!("bind-{number}"));
        // A link to a symlink would be another symlink.
        let host = bind.host.canonicalize().unwrap_or_else(|_| bind.host.clone());
        let kept = bind.read_only && host.is_file() && (link.exists() || fs::hard_link(&host, &link).is_ok());
        if kept { link } else { host }
    }

    /// Waits for the end of the boot and gives the state that systemd reports.
    pub(super) fn await_boot(&mut self) -> Result<String> {
        self.while_booting("the sandbox's systemd", |sandbox| {
            let socket = sandbox.path("/run/systemd/private").ok()?;
            socket.exists().then_some(())
        })?;
        let state = self.exec_within(BOOT_DEADLINE, &["systemctl", "is-system-running", "--wait"])?;
        Ok(state.stdout.trim().to_owned())
    }

    /// Waits for a step of the boot, which fails at once when the supervisor ends before.
    fn while_booting<T>(&mut self, what: &str, probe: impl Fn(&Self) -> Option<T>) -> Result<T> {
        let found = wait_until(what, BOOT_DEADLINE, || match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(_)) | Err(_)) => Some(None),
            _ => probe(self).map(Some),
        });
        match found {
            Ok(Some(found)) => Ok(found),
            Ok(None) => bail!(self.boot_failure("its boot ended early")),
            Err(error) => Err(error.context(self.boot_failure("its boot hangs"))),
        }
    }

    fn boot_failure(&self, what: &str) -> String {
        let log = fs::read_to_string(self.home.join("boot.log")).unwrap_or_default();
        let log = command::tail(&log, 20);
        let hint = "If overlay was refused, point SYSTEMK_CACHE to a directory on a disk (ext4, xfs, btrfs)";
        format!("sandbox {}: {what}. {hint}. Its boot log:\n{log}", self.name())
    }

    pub(super) fn ill(&self, state: &str) -> String {
        let failed = self.sh("systemctl --failed --no-legend; journalctl -b -p err --no-pager | tail -20");
        format!("sandbox {} booted to `{state}`:\n{}", self.name(), failed.unwrap_or_else(|error| error.to_string()))
    }
}
