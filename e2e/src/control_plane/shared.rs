//! A control plane that sandbox nodes share: started for the first of them, gone with the last.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::record::{self, Record};
use super::{ControlPlane, ControlPlaneSpec};
use crate::cache;

/// Stands for `cargo xtask control-plane up` among the users: no node's name has a dot.
const BY_HAND: &str = "by.hand";

/// The control plane of a name that nodes share, whether it runs or not.
#[derive(Debug)]
pub struct Shared {
    name: String,
}

impl ControlPlane {
    /// The one that the nodes of `cargo xtask node up` share.
    pub fn shared() -> Shared {
        Shared { name: "shared".to_owned() }
    }
}

impl Shared {
    /// One with the name of a spec: for a test, which must not meet the user's own.
    pub fn of(spec: ControlPlaneSpec) -> Self {
        Self { name: spec.name }
    }

    /// Gives the control plane to the node of that name, until it leaves: the one that runs, else a new one. What of it was
    /// killed is started again.
    pub fn join(&self, node: &str) -> Result<ControlPlane> {
        let _lock = self.lock()?;
        let runs = |record: &Record| record.processes.values().any(|process| process.alive());
        let control_plane = if Record::load(&self.name)?.is_some_and(|record| runs(&record)) {
            let mut control_plane = ControlPlane::attach(&self.name)?;
            control_plane.run().with_context(|| format!("find the control plane `{}` ready", self.name))?;
            control_plane
        } else {
            let mut control_plane = ControlPlane::start_new(ControlPlaneSpec::new(&self.name), true)?;
            control_plane.owner = None;
            control_plane
        };
        let users = self.directory()?;
        fs::create_dir_all(&users)
            .and_then(|()| File::create(users.join(node)))
            .with_context(|| format!("note that {node} uses the control plane `{}`", self.name))?;
        Ok(control_plane)
    }

    /// Gives the control plane to the developer who asked for it, until [`Shared::down`].
    pub fn join_by_hand(&self) -> Result<ControlPlane> {
        self.join(BY_HAND)
    }

    /// The control plane, if the node of that name uses it.
    pub fn used_by(&self, node: &str) -> Result<Option<ControlPlane>> {
        let _lock = self.lock()?;
        if !self.directory()?.join(node).exists() {
            return Ok(None);
        }
        ControlPlane::attach(&self.name).map(Some)
    }

    /// Says that the node of that name does not need it any more; the last one takes it along. Nothing happens when it never
    /// did. Gives whether it went.
    pub fn leave(&self, node: &str) -> Result<bool> {
        let _lock = self.lock()?;
        let users = self.directory()?;
        if !users.join(node).exists() {
            return Ok(false);
        }
        cache::remove(&users.join(node))?;
        if fs::read_dir(&users).context("list the users of the control plane")?.next().is_some() {
            return Ok(false);
        }
        ControlPlane::attach(&self.name)?.stop()?;
        Ok(true)
    }

    /// Removes it, whoever uses it. Gives whether there was one.
    pub fn down(&self) -> Result<bool> {
        let _lock = self.lock()?;
        if Record::load(&self.name)?.is_none() {
            return Ok(false);
        }
        ControlPlane::attach(&self.name)?.stop()?;
        Ok(true)
    }

    /// Where there is a file for each user.
    fn directory(&self) -> Result<PathBuf> {
        Ok(Record::home(&self.name)?.join("users"))
    }

    /// Held while it is started or removed, or its users change.
    fn lock(&self) -> Result<File> {
        cache::lock(&record::directory()?.join(".shared.lock"), "another process to start a shared control plane")
    }
}
