//! Vendor unit files (being built): the shapes that others refer to.

use serde::{Deserialize, Serialize};

/// A unit file and its drop-ins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorUnit {
    /// `ssh.service`.
    pub name: String,
    /// Main file first, then drop-ins in systemd's order.
    pub fragments: Vec<Fragment>,
}

/// One file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragment {
    /// Where it was read.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Values for specifiers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecifierFacts {}
