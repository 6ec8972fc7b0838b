//! `imagePullPolicy`.

use std::fmt;

/// When to ask the package sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// The newest candidate that the pin allows; nothing is reinstalled when that is what is there.
    Always,
    /// What is installed will do if the pin allows it.
    #[default]
    IfNotPresent,
    /// Only what is installed: otherwise `ErrImageNeverPull`.
    Never,
}

/// A value that Kubernetes does not have either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("imagePullPolicy {0:?} is none of Always, IfNotPresent and Never")]
pub struct UnknownPullPolicy(pub String);

impl PullPolicy {
    /// The field's value. A value is always honoured, whoever wrote it: the API server fills in `Always` for an image
    /// without a tag or with `:latest`, so on a cluster a bare `nginx` means *the newest candidate* unless the pod says
    /// otherwise. Only where nobody filled it in (a pod from a file) does it default here, to `IfNotPresent` for every
    /// image: a package's version is the distribution's to move, and a restart should not need the network.
    ///
    /// # Errors
    /// [`UnknownPullPolicy`]; an API server would have refused it.
    pub fn from_field(value: Option<&str>) -> Result<Self, UnknownPullPolicy> {
        match value {
            None | Some("") => Ok(Self::default()),
            Some("Always") => Ok(Self::Always),
            Some("IfNotPresent") => Ok(Self::IfNotPresent),
            Some("Never") => Ok(Self::Never),
            Some(other) => Err(UnknownPullPolicy(other.to_owned())),
        }
    }
}

impl fmt::Display for PullPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        })
    }
}
