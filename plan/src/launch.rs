//! `Launch`: everything about a container's processes that is not the unit's envelope.
//!
//! The plan writes it, one of the tiny consumers (`systemk init`, later `shim` and `enter`) applies it. It reaches the
//! consumer as JSON on standard input (`StandardInput=file:`), so nothing a pod says becomes part of a unit file, of argv
//! or of a file that other users may read.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub mod capability;
pub mod exit;
pub mod expand;

pub use capability::Capability;

/// The version that this build writes. A consumer refuses a newer one and reads one version back.
pub const LAUNCH_VERSION: u32 = 1;

/// The key in [`Launch::lines`] of the container's own program.
pub const MAIN_LINE: &str = "start.0";

/// How to become the container's program (or one of its vendor unit's other Exec lines).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// [`LAUNCH_VERSION`] of the writer.
    pub version: u32,
    /// Each Exec line of the unit by its key: `start.0` is the container's program, `start-pre.0`, `stop.1`… are the
    /// vendor unit's other lines. The unit says `ExecStartPre=:… init start-pre.0`.
    pub lines: BTreeMap<String, Line>,
    /// Laid over the inherited environment, in order; a later one of the same name wins. Names are any printable string.
    pub env: Vec<EnvVar>,
    /// What of the environment that systemd made is kept.
    pub inherit: InheritEnv,
    /// The working directory, in the container's root; made (0755, owned by the identity) when missing, as the kubelet does.
    /// None: where the unit's own `WorkingDirectory=` put the process.
    pub cwd: Option<String>,
    /// Who to become last, after everything that needs root. None: whoever systemd's `User=` made of the process.
    pub identity: Option<Identity>,
    /// Directories made for this container alone that are given to `identity` first: never a path of the host's own.
    pub chown: Vec<String>,
    /// The bounding set, and the permitted and effective sets of a root process; None leaves them as the unit has them.
    pub capabilities: Option<Vec<Capability>>,
    /// `no_new_privs` before the program starts.
    pub no_new_privileges: bool,
    /// Where a consumer that fails before the program runs says why (a [`Failure`] as JSON, 4 KiB at most).
    pub failure_file: String,
}

/// One program to execute.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The program and its arguments; the program may be a bare name, looked up in the final environment's `PATH`.
    pub argv: Vec<String>,
    /// What the program is told it is called, where that is not `argv[0]` (systemd's `@` prefix).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arg0: Option<String>,
    /// Expand `$VAR` and `${VAR}` by systemd's rules over the final environment: vendor lines without the `:` prefix.
    /// A pod's own command was expanded by Kubernetes' rules in the plan.
    pub expand: bool,
    /// systemd's `+` prefix: runs as root, so identity, capabilities and `no_new_privileges` are not applied.
    pub full_privileges: bool,
}

/// argv may hold secrets that a pod expanded from its environment: it is shown by length only.
impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("program", &self.argv.first())
            .field("args", &self.argv.len().saturating_sub(1))
            .field("expand", &self.expand)
            .finish_non_exhaustive()
    }
}

/// One variable. Its value may be a secret, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Any printable string without `=`; Kubernetes allows more than systemd's `Environment=` does.
    pub name: String,
    /// Any bytes but NUL.
    pub value: String,
}

impl EnvVar {
    /// `name=value`.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

impl fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=<{} bytes>", self.name, self.value.len())
    }
}

/// What a program keeps of the environment that systemd made for the unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InheritEnv {
    /// All of it: a vendor unit's `Environment=`, `EnvironmentFile=`, `NOTIFY_SOCKET`, `STATE_DIRECTORY`, …
    All,
    /// Only these names: a program that has no unit of its own sees what a container would.
    Only(Vec<String>),
}

/// Numeric identity; no name is ever resolved by a consumer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id, 0 ..= 2^31-1.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups: exactly these, host memberships of the uid do not leak in.
    pub groups: Vec<u32>,
}

/// Why a consumer could not start the program; the kubelet's StartError or RunContainerError.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The key of the line that failed.
    pub line: String,
    /// The step: `read-launch`, `chdir`, `chown`, `identity`, `capabilities`, `exec`, …
    pub step: String,
    /// The kernel's error number, 0 where there is none.
    pub errno: i32,
    /// What a person reads, for example `exec "/usr/bin/foo": no such file or directory`.
    pub message: String,
    /// 127 not found, 126 found but not executable, 128 anything else, as runc and the kubelet report it.
    pub exit_code: i32,
}
