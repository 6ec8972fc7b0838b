//! A sandbox node: a real systemd as process 1 of its own namespaces over a Debian root file system, at native speed.
//!
//! Takes a [`SandboxSpec`]; gives a [`Sandbox`] to run commands in. Each has its own /etc and /var (kept over a reboot),
//! cgroup subtree, pid, mount, uts, ipc and, when asked, network namespace. Needs root; never touches the machine's own
//! mounts, cgroups or service manager. Limits hold only where the machine's cgroup2 has controllers.

mod boot;
mod cgroup;
mod exec;
mod record;
mod spec;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, Result, bail};

pub use self::exec::{DEFAULT_DEADLINE, Running};
pub use self::record::Record;
pub use self::spec::{Bind, SandboxSpec, Systemd};
pub use crate::command::Output;
pub use crate::process::Process;
use crate::{command, rootfs};

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

    /// Writes a file inside that is only its owner's to read, with its parents.
    pub fn write_secret(&self, inside: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
        self.write_file(&inside, "")?;
        fs::set_permissions(self.path(&inside)?, fs::Permissions::from_mode(0o600)).context("keep it from others")?;
        self.write_file(&inside, content)
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

    /// Stops everything in the instance where it is, as a machine that sleeps, or lets it go on. Its clocks go on meanwhile.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let file = self.record.cgroup.join("cgroup.freeze");
        fs::write(&file, if frozen { "1" } else { "0" }).with_context(|| format!("write {}", file.display()))
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
