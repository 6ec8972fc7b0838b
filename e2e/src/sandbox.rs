//! A sandbox node: a real systemd as process 1 of its own namespaces over a Debian root file system, at native speed.
//!
//! Takes a [`SandboxSpec`]; gives a [`Sandbox`] to run commands in. Each has its own /etc and /var (kept over a reboot),
//! cgroup subtree, pid, mount, uts, ipc and, when asked, network namespace. Needs root; never touches the machine's own
//! mounts, cgroups or service manager. Limits hold only where the machine's cgroup2 has controllers.

mod cgroup;
mod exec;
mod record;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

pub use self::exec::{DEFAULT_DEADLINE, Output, Running};
pub use self::record::{Process, Record};
use crate::eventually::wait_until;
use crate::rootfs::{self, Release};
use crate::{cache, command};

const BOOT: &str = include_str!("sandbox/boot.sh");

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

/// The versions of systemd there are sandboxes of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Systemd {
    /// 252, on Debian 12: the oldest that systemk runs on.
    V252,
    /// 257, on Debian 13.
    V257,
}

impl Systemd {
    /// Both, oldest first.
    pub const ALL: [Self; 2] = [Self::V252, Self::V257];

    /// The version number.
    pub fn version(self) -> u32 {
        match self {
            Self::V252 => 252,
            Self::V257 => 257,
        }
    }

    fn release(self) -> Release {
        match self {
            Self::V252 => Release::Bookworm,
            Self::V257 => Release::Trixie,
        }
    }
}

/// A file or directory of the machine that the sandbox sees.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bind {
    /// The path on the machine.
    pub host: PathBuf,
    /// The path inside; made when missing.
    pub inside: PathBuf,
    /// Whether the inside may only read it.
    pub read_only: bool,
}

/// What a sandbox is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Its systemd, and with it the Debian release.
    pub systemd: Systemd,
    /// Its name and host name: letters, digits and dashes. One instance has it at a time.
    pub name: String,
    /// Whether it has a network namespace of its own: only loopback then, and no archive.
    pub netns: bool,
    /// What it sees of the machine.
    pub binds: Vec<Bind>,
}

impl SandboxSpec {
    /// On the machine's network, without binds.
    pub fn new(systemd: Systemd, name: impl Into<String>) -> Self {
        Self { systemd, name: name.into(), netns: false, binds: Vec::new() }
    }

    /// For a test: `what` with the version and a suffix that no other test process has.
    pub fn for_test(systemd: Systemd, what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self::new(systemd, format!("{what}-{}-{process}-{number}", systemd.version()))
    }

    /// With a network namespace of its own.
    pub fn netns(self) -> Self {
        Self { netns: true, ..self }
    }

    /// With `host` of the machine at `inside`, read-only.
    pub fn bind_ro(mut self, host: impl Into<PathBuf>, inside: impl Into<PathBuf>) -> Self {
        self.binds.push(Bind { host: host.into(), inside: inside.into(), read_only: true });
        self
    }

    /// With `host` of the machine at `inside`.
    pub fn bind(mut self, host: impl Into<PathBuf>, inside: impl Into<PathBuf>) -> Self {
        self.binds.push(Bind { host: host.into(), inside: inside.into(), read_only: false });
        self
    }

    fn check(&self) -> Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if self.name.is_empty() || self.name.len() > 63 || !self.name.chars().all(plain) || self.name.starts_with('-') {
            bail!("`{}` is no name for a sandbox: up to 63 letters, digits and dashes", self.name);
        }
        if !rustix::process::geteuid().is_root() {
            bail!("only root can start a sandbox (namespaces, mounts, cgroups): run this as root");
        }
        match self.binds.iter().find(|bind| !bind.host.exists()) {
            Some(bind) => bail!("cannot show {} to the sandbox: it does not exist", bind.host.display()),
            None => Ok(()),
        }
    }
}

/// A running instance. Dropping it removes it, unless it was started to stay or only attached to.
#[derive(Debug)]
pub struct Sandbox {
    record: Record,
    home: PathBuf,
    /// Held for as long as this process owns the instance.
    owner: Option<File>,
    /// The supervisor, where it is our child and has to be waited for.
    child: Option<Child>,
}

impl Sandbox {
    /// Boots an instance that lives as long as the result, and waits until its systemd is `running`.
    pub fn start(spec: SandboxSpec) -> Result<Self> {
        Self::boot_new(spec, false)
    }

    /// Boots an instance that outlives this process: [`Sandbox::attach`] finds it again.
    pub fn start_to_stay(spec: SandboxSpec) -> Result<Self> {
        Self::boot_new(spec, true)
    }

    /// The running instance of that name, which stays when the result is dropped.
    pub fn attach(name: &str) -> Result<Self> {
        let Some(record) = Record::load(name)? else { bail!("there is no sandbox `{name}`") };
        Ok(Self { home: Record::home(name)?, record, owner: None, child: None })
    }

    /// The instances that there are, after removing those that nobody needs any more.
    pub fn list() -> Result<Vec<Record>> {
        let _registry = record::registry_lock()?;
        record::reap_stale()?;
        record::list()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.record.spec.name
    }

    /// What is written down about it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// `inside` as a path on the machine. Symbolic links to absolute paths lead out of it: name their target.
    pub fn path(&self, inside: impl AsRef<Path>) -> Result<PathBuf> {
        let Some(init) = self.record.init else { bail!("sandbox {} does not run", self.name()) };
        let inside = inside.as_ref();
        Ok(Path::new(&format!("/proc/{}/root", init.pid)).join(inside.strip_prefix("/").unwrap_or(inside)))
    }

    /// Writes a file inside, with its parents.
    pub fn write_file(&self, inside: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(&inside)?;
        let parents = path.parent().map_or(Ok(()), fs::create_dir_all);
        parents
            .and_then(|()| fs::write(&path, content))
            .with_context(|| format!("write {} in sandbox {}", inside.as_ref().display(), self.name()))
    }

    /// Writes an executable file inside, with its parents.
    pub fn write_program(&self, inside: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
        self.write_file(&inside, content)?;
        fs::set_permissions(self.path(&inside)?, fs::Permissions::from_mode(0o755)).context("make it executable")
    }

    /// Reads a file inside.
    pub fn read_file(&self, inside: impl AsRef<Path>) -> Result<String> {
        let path = self.path(&inside)?;
        fs::read_to_string(path)
            .with_context(|| format!("read {} in sandbox {}", inside.as_ref().display(), self.name()))
    }

    /// Kills everything in the instance at once, as a power cut would, and boots it again with the same /etc and /var.
    /// Units may have failed afterwards: that is the caller's to judge.
    pub fn reboot(&mut self) -> Result<()> {
        if self.owner.is_none() {
            self.owner = Some(record::own(&self.home)?);
        }
        self.end()?;
        cgroup::remove(&self.record.cgroup)?;
        self.boot()?;
        self.await_boot().map(drop)
    }

    /// Kills everything in the instance and removes all that it had.
    pub fn stop(mut self) -> Result<()> {
        self.remove()
    }

    /// Lets go of the instance without ending it, as a killed process would: the next start reaps it.
    pub fn abandon(mut self) {
        self.owner = None;
    }

    fn boot_new(spec: SandboxSpec, stays: bool) -> Result<Self> {
        spec.check()?;
        command::require("unshare", "util-linux")?;
        let lower = rootfs::directory(spec.systemd.release())?;
        let home = Record::home(&spec.name)?;
        let cgroup = cgroup::root()?.join(format!("systemk-sandbox-{}", spec.name));
        let record = Record { spec, lower, cgroup, init: None, supervisor: None, stays };
        let owner = {
            let _registry = record::registry_lock()?;
            record::reap_stale()?;
            if home.exists() {
                bail!("a sandbox `{}` is up already: stop it or take another name", record.spec.name);
            }
            fs::create_dir(&home).with_context(|| format!("make {}", home.display()))?;
            let owner = record::own(&home)?;
            record.save()?;
            owner
        };
        let mut sandbox = Self { record, home, owner: Some(owner), child: None };
        let started = sandbox.furnish().and_then(|()| sandbox.boot()).and_then(|()| sandbox.await_boot());
        match started.and_then(|state| if state == "running" { Ok(()) } else { bail!("{}", sandbox.ill(&state)) }) {
            Ok(()) => Ok(sandbox),
            Err(error) => {
                sandbox.remove()?;
                Err(error)
            }
        }
    }

    /// Fills the layers that are this instance's own.
    fn furnish(&self) -> Result<()> {
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
    fn boot(&mut self) -> Result<()> {
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
        for bind in &self.record.spec.binds {
            unshare.args([&bind.host, &bind.inside]).arg(if bind.read_only { "ro" } else { "rw" });
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

    /// Waits for the end of the boot and gives the state that systemd reports.
    fn await_boot(&mut self) -> Result<String> {
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

    fn ill(&self, state: &str) -> String {
        let failed = self.sh("systemctl --failed --no-legend; journalctl -b -p err --no-pager | tail -20");
        format!("sandbox {} booted to `{state}`:\n{}", self.name(), failed.unwrap_or_else(|error| error.to_string()))
    }

    fn end(&mut self) -> Result<()> {
        self.record.kill_processes()?;
        if let Some(mut child) = self.child.take() {
            child.wait().context("wait for the sandbox's supervisor")?;
        }
        Ok(())
    }

    fn remove(&mut self) -> Result<()> {
        self.end()?;
        let _registry = record::registry_lock()?;
        self.record.remove()?;
        self.owner = None;
        Ok(())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.owner.is_none() || self.record.stays {
            return;
        }
        if let Err(error) = self.remove() {
            crate::progress::line(&format!("sandbox {} was not removed: {error:#}", self.name()));
        }
    }
}
