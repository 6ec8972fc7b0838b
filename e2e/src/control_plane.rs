//! A control plane: etcd, API server, controller manager and scheduler of one unmodified Kubernetes release on the machine's
//! loopback address, with the Node authorizer and NodeRestriction in force.
//!
//! Takes a [`ControlPlaneSpec`]; gives a [`ControlPlane`] with a kubectl for any user of it. Its keys, its data and its port are its
//! own, so several run side by side. What uses the machine's network reaches it at the address in its kubeconfigs, sandboxes too;
//! a sandbox with a network of its own does not, except through a [`Relay`].

mod audit;
mod fault;
mod kubeconfig;
mod kubectl;
mod parts;
mod pki;
mod proxy;
mod record;
mod relay;
mod shared;
mod spec;
mod start;
mod users;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, Result, bail};
use serde_json::Value;

pub use self::audit::{AuditEvent, AuditUser, ObjectRef, ResponseStatus};
pub use self::kubectl::{Kubectl, Started};
pub use self::parts::Part;
pub use self::pki::{Identity, node_certificate_request};
pub use self::proxy::{Asked, Fault, Proxy, Seen, fingerprint};
pub use self::record::Record;
pub use self::relay::Relay;
pub use self::shared::Shared;
pub use self::spec::ControlPlaneSpec;
pub use self::start::READY;
use crate::command::Output;

/// A running control plane. Dropping it removes it, unless it was started to stay or only attached to.
#[derive(Debug)]
pub struct ControlPlane {
    record: Record,
    home: PathBuf,
    /// Held for as long as this process owns it.
    owner: Option<File>,
    /// Its programs, where they are our children and have to be waited for.
    children: BTreeMap<Part, Child>,
}

impl ControlPlane {
    /// Starts one that lives as long as the result, and waits until it is ready.
    pub fn start(spec: ControlPlaneSpec) -> Result<Self> {
        Self::start_new(spec, false)
    }

    /// The running control plane of that name, which stays when the result is dropped.
    pub fn attach(name: &str) -> Result<Self> {
        let Some(record) = Record::load(name)? else { bail!("there is no control plane `{name}`") };
        Ok(Self { home: Record::home(name)?, record, owner: None, children: BTreeMap::new() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// What is written down about it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The URL of the API server.
    pub fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.record.port)
    }

    /// kubectl as the administrator.
    pub fn admin(&self) -> Kubectl {
        Kubectl {
            program: self.record.programs.join("kubectl"),
            kubeconfig: self.home.join(users::ADMIN),
            cache: self.home.join("kubectl-cache"),
        }
    }

    /// Runs `kubectl` as the administrator, whatever its exit code.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        self.admin().output(arguments)
    }

    /// Creates or changes the objects of a manifest, as the administrator.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        self.admin().apply(manifest)
    }

    /// One object, or the list of them, as the administrator sees it.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        self.admin().get(arguments)
    }

    /// Asks for an object until it is as `is` wants it, for at most [`SOON`](crate::agent::SOON).
    pub fn wait_for(&self, what: &str, arguments: &[&str], is: impl Fn(&Value) -> bool) -> Result<Value> {
        self.admin().wait_for(what, crate::agent::SOON, arguments, is)
    }

    /// What the API server was asked for so far, oldest first. Only for one that was started with an audit log.
    pub fn audit(&self) -> Result<Vec<AuditEvent>> {
        audit::read(&self.home.join(parts::AUDIT_LOG))
    }

    /// Kills it and removes all that it had.
    pub fn stop(mut self) -> Result<()> {
        self.remove()
    }

    /// Lets go of it without ending it, as a killed process would: the next start reaps it.
    pub fn abandon(mut self) {
        self.owner = None;
    }

    fn remove(&mut self) -> Result<()> {
        self.record.kill_processes()?;
        for (part, mut child) in std::mem::take(&mut self.children) {
            child.wait().with_context(|| format!("wait for {}", part.program()))?;
        }
        let _registry = record::registry_lock()?;
        self.record.remove()?;
        self.owner = None;
        Ok(())
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if self.owner.is_none() || self.record.stays {
            return;
        }
        if let Err(error) = self.remove() {
            crate::progress::line(&format!("control plane {} was not removed: {error:#}", self.name()));
        }
    }
}

/// Writes a file that only its owner can read: most of them hold a key.
fn write_private(path: &Path, content: &str) -> Result<()> {
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content.as_bytes())).with_context(|| format!("write {}", path.display()))
}
