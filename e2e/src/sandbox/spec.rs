//! What a sandbox is started with.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::rootfs::Release;

/// The versions of systemd there are sandboxes of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Systemd {
    /// 252, on Debian 12: the oldest that systemk runs on.
    V252,
    /// 255, on Ubuntu 24.04: for what depends on the distribution.
    V255,
    /// 257, on Debian 13.
    V257,
}

impl Systemd {
    /// Those of Debian, oldest first: every scenario holds on both.
    pub const ALL: [Self; 2] = [Self::V252, Self::V257];

    /// The version number.
    pub fn version(self) -> u32 {
        match self {
            Self::V252 => 252,
            Self::V255 => 255,
            Self::V257 => 257,
        }
    }

    /// The release that has it.
    pub fn release(self) -> Release {
        match self {
            Self::V252 => Release::Bookworm,
            Self::V255 => Release::Noble,
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
    /// Its systemd, and with it the release.
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

    /// Refuses what cannot be started, before anything is made.
    pub(super) fn check(&self) -> Result<()> {
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
