//! What a plan has to tell the person who wrote the pod: one sentence per field or directive that was not simply obeyed.
//!
//! Invariant 5: nothing is dropped in silence. A field is mapped, refused (the pod does not run, all reasons are listed)
//! or it leaves a [`Note`] here, which becomes an event and a line of `systemk plan`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What happened to the field or directive that a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoteKind {
    /// It has no meaning here and the pod runs without it.
    Ignored,
    /// A vendor directive that is left out of the pod's unit.
    Dropped,
    /// A vendor directive that is written differently.
    Rewritten,
    /// A directive that systemk does not know and passes on unchanged.
    KeptUnknown,
    /// It is obeyed, but the user should know something about it.
    Warned,
}

impl fmt::Display for NoteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ignored => "ignored",
            Self::Dropped => "dropped",
            Self::Rewritten => "rewritten",
            Self::KeptUnknown => "kept",
            Self::Warned => "warning",
        })
    }
}

/// One remark about one field (`spec.containers[0].resources.limits[cpu]`) or directive (`ssh.service [Service] Restart=`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Note {
    /// What happened.
    pub kind: NoteKind,
    /// The field's path in the pod, or the vendor unit's name, section and directive.
    pub path: String,
    /// Why, and what to do about it; one sentence, no full stop.
    pub text: String,
}

impl Note {
    /// A note of `kind` about `path`.
    pub fn new(kind: NoteKind, path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { kind, path: path.into(), text: text.into() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.path, self.text, self.kind)
    }
}

/// One reason why a pod cannot run as written. A pod is refused with all of its reasons, not the first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refusal {
    /// The field's path in the pod, or the vendor unit's name, section and directive.
    pub path: String,
    /// Why, and what to do about it; one sentence, no full stop.
    pub text: String,
}

impl Refusal {
    /// A refusal of what stands at `path`.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}
