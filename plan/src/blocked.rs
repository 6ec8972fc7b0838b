//! Why a container cannot be planned: for good ([`Unplannable::Refused`]) or until something outside the pod changes
//! ([`Unplannable::Blocked`]).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::note::Refusal;

/// The kubelet's reason for a container whose ConfigMap, Secret or key is missing.
pub const CREATE_CONTAINER_CONFIG_ERROR: &str = "CreateContainerConfigError";

/// The kubelet's event reason for a volume that cannot be made; the containers stay in `ContainerCreating`.
pub const FAILED_MOUNT: &str = "FailedMount";

/// What the pod waits for. It is planned again when a ConfigMap, a Secret or the pod changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// Kubernetes' reason: [`CREATE_CONTAINER_CONFIG_ERROR`] (a waiting reason) or [`FAILED_MOUNT`] (an event's).
    pub reason: String,
    /// The kubelet's own wording.
    pub message: String,
}

impl Blocked {
    /// Waiting with `reason`.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into() }
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unplannable {
    /// The pod cannot run as written; all reasons.
    Refused(Vec<Refusal>),
    /// Something that the pod names is not there, or not usable, yet.
    Blocked(Blocked),
}

impl Unplannable {
    /// A refusal for one reason.
    pub fn refused(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Refused(vec![Refusal::new(path, text)])
    }
}

/// Gathers every reason of one group before it gives up.
#[derive(Debug, Default)]
pub(crate) struct Reasons {
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) blocked: Vec<Blocked>,
}

impl Reasons {
    pub(crate) fn refuse(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.refusals.push(Refusal::new(path, text));
    }

    pub(crate) fn block(&mut self, reason: &str, message: impl Into<String>) {
        self.blocked.push(Blocked::new(reason, message));
    }

    /// What there is of `result`; its reasons are kept.
    pub(crate) fn take<T>(&mut self, result: Result<T, Unplannable>) -> Option<T> {
        match result {
            Ok(value) => return Some(value),
            Err(Unplannable::Refused(mut refusals)) => self.refusals.append(&mut refusals),
            Err(Unplannable::Blocked(blocked)) => self.blocked.push(blocked),
        }
        None
    }

    /// `value`, unless there is a reason. Refusals come before what might still appear: waiting would be in vain.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, Unplannable> {
        if !self.refusals.is_empty() {
            return Err(Unplannable::Refused(self.refusals));
        }
        match self.blocked.into_iter().next() {
            Some(first) => Err(Unplannable::Blocked(first)),
            None => Ok(value),
        }
    }
}
