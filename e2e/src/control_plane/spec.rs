//! What a control plane is started with.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};

use super::parts::Part;

/// What a control plane is started with.
#[derive(Clone, Debug)]
pub struct ControlPlaneSpec {
    /// Its name: letters, digits and dashes. One has it at a time.
    pub name: String,
    /// Its programs, in the order in which they start.
    pub parts: Vec<Part>,
    /// Whether the API server writes an audit log.
    pub audit: bool,
}

impl ControlPlaneSpec {
    /// With all four programs, without an audit log.
    pub fn new(name: impl Into<String>) -> Self {
        let parts = vec![Part::Etcd, Part::ApiServer, Part::ControllerManager, Part::Scheduler];
        Self { name: name.into(), parts, audit: false }
    }

    /// For a test: `what` with a suffix that no other test process has.
    pub fn for_test(what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        Self::new(format!("{what}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Without the controller manager and the scheduler: half the time and memory, for tests that bind their pods themselves.
    /// The default service account is there all the same, as no pod can be created without it.
    pub fn api_only(mut self) -> Self {
        self.parts.retain(|part| matches!(part, Part::Etcd | Part::ApiServer));
        self
    }

    /// With an audit log: see [`ControlPlane::audit`](super::ControlPlane::audit).
    pub fn audited(self) -> Self {
        Self { audit: true, ..self }
    }

    /// Refuses what cannot be started, before anything is made.
    pub(super) fn check(&self) -> Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if self.name.is_empty() || !self.name.chars().all(plain) || self.name.starts_with('-') {
            bail!("`{}` is no name for a control plane: letters, digits and dashes", self.name);
        }
        Ok(())
    }
}
