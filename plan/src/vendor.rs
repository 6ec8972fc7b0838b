//! A distribution's unit file, turned into what a container's own unit needs of it.
//!
//! Takes the vendor's unit with its drop-ins and a few facts; gives the Exec lines as [`Line`]s, the directives to render
//! and one note for each directive that is not simply kept. It never reads a file, and it never decides what the pod's
//! own fields override: the plan does, with [`VendorService::take`].
//!
//! What happens to each directive stands in one table, [`directives`]; systemd's file syntax is in [`syntax`], its quoting
//! in [`words`], its `%` specifiers in [`specifier`], its command lines in [`exec`].

use std::fmt;

use crate::launch::{Capability, EnvVar, Line};
use crate::note::{Note, Refusal};

mod adopt;
mod choose;
pub mod directives;
pub mod exec;
mod fold;
mod name;
mod rewrite;
pub mod specifier;
pub mod syntax;
pub mod words;

pub use adopt::adopt;
pub use choose::choose;
pub use specifier::SpecifierFacts;

/// A unit as its package and the administrator have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendorUnit {
    /// `ssh.service`, a template `postgresql@.service` or an instance of one, `postgresql@15-main.service`.
    pub name: String,
    /// The main file first, then its drop-ins in systemd's order. A masked unit has one with no text.
    pub fragments: Vec<Fragment>,
}

/// One file of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Its absolute path, `/lib/systemd/system/ssh.service` (`%y`, and what refusals name).
    pub path: String,
    /// All of it; bytes that are no UTF-8 were replaced by the reader.
    pub text: String,
}

/// What the vendor's unit will find where it runs.
#[derive(Clone, Copy, Debug)]
pub struct VendorContext<'a> {
    /// Relative to /run, the host directory that is the container's /run: `systemk/pods/<uid>/<container>/<attempt>/run`.
    pub runtime_root: &'a str,
    /// The same directory as an absolute path of the host.
    pub run_dir: &'a str,
    /// The pod gives `command`, so the unit's own program does not run: templates, wrappers and D-Bus services are accepted.
    pub program_given: bool,
    /// The pod says who the container runs as, so the unit's `User=` and its like are left out.
    pub pod_identity: bool,
    /// What `%H`, `%m`, `%v`… stand for on this node.
    pub specifiers: &'a SpecifierFacts,
}

/// What the container's unit takes over from the vendor's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendorService {
    /// How systemd learns that the service is up. Never [`ServiceType::Dbus`]: that is refused, or `exec` with a pod's command.
    pub service_type: ServiceType,
    /// Every command line. With a pod's `command` the plan leaves out those whose key starts with `start.`.
    pub lines: Vec<ExecLine>,
    /// What to render into `[Unit]` and `[Service]`, in order, one logical line each. The facts below are in here too.
    pub directives: Vec<Directive>,
    /// `User=`, unless the pod has its own identity.
    pub user: Option<String>,
    /// `Group=`, unless the pod has its own identity.
    pub group: Option<String>,
    /// `SupplementaryGroups=`, unless the pod has its own identity.
    pub supplementary_groups: Vec<String>,
    /// `DynamicUser=`.
    pub dynamic_user: bool,
    /// The directories that systemd makes for the service.
    pub directories: Directories,
    /// `WorkingDirectory=`, with its `-` and `~`.
    pub working_directory: Option<String>,
    /// `PIDFile=` as a path of the host, where systemd reads it.
    pub pid_file: Option<String>,
    /// `PrivateDevices=`.
    pub private_devices: bool,
    /// `EnvironmentFile=`, with their `-`. PID 1 reads them outside the container's root.
    pub environment_files: Vec<String>,
    /// `KillSignal=`.
    pub stop_signal: Option<String>,
    /// `NotifyAccess=`, which the unit's renderer decides: a service that notifies from a child says `all` or `exec`.
    pub notify_access: Option<String>,
    /// `CapabilityBoundingSet=` where the pod has its own identity: init needs more to become it, so it is for the Launch to
    /// apply and not among `directives`. None: all, or as `directives` say.
    pub bounding_set: Option<Vec<Capability>>,
    /// One per directive that was dropped, rewritten or is unknown.
    pub notes: Vec<Note>,
}

/// The directories that systemd makes, by the vendor's names: relative, with specifiers expanded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directories {
    /// Below the container's own /run.
    pub runtime: Vec<String>,
    /// Below /var/lib, the host's own.
    pub state: Vec<String>,
    /// Below /var/cache, the host's own.
    pub cache: Vec<String>,
    /// Below /var/log, the host's own.
    pub logs: Vec<String>,
    /// Below /etc, the host's own.
    pub configuration: Vec<String>,
}

/// `Type=` of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceType {
    /// Up once forked.
    Simple,
    /// Up once executed.
    Exec,
    /// Up when the first process ends; the main one is in `PIDFile=`.
    Forking,
    /// Up when it has ended.
    Oneshot,
    /// Up when it says `READY=1`.
    Notify,
    /// As `notify`, and reloads by signal (systemd 253 and later).
    NotifyReload,
    /// As `simple`, after the other jobs.
    Idle,
    /// Up when it has its bus name.
    Dbus,
}

impl ServiceType {
    /// The type that `Type=` names.
    pub fn parse(value: &str) -> Option<Self> {
        Some(match value {
            "simple" => Self::Simple,
            "exec" => Self::Exec,
            "forking" => Self::Forking,
            "oneshot" => Self::Oneshot,
            "notify" => Self::Notify,
            "notify-reload" => Self::NotifyReload,
            "idle" => Self::Idle,
            "dbus" => Self::Dbus,
            _ => return None,
        })
    }
}

impl fmt::Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Simple => "simple",
            Self::Exec => "exec",
            Self::Forking => "forking",
            Self::Oneshot => "oneshot",
            Self::Notify => "notify",
            Self::NotifyReload => "notify-reload",
            Self::Idle => "idle",
            Self::Dbus => "dbus",
        })
    }
}

/// One command line of the vendor's unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecLine {
    /// Its key in `Launch::lines`: `start.0`, `start-pre.0`, `stop-post.1`.
    pub key: String,
    /// `ExecStart`, `ExecStartPre`, …
    pub directive: &'static str,
    /// What stands before the path in our unit: the vendor's `-`, `+`, `!`, `!!`, and always `:`, because init expands variables.
    pub prefix: String,
    /// What init executes.
    pub line: Line,
}

/// The two sections of a unit that a container's unit has from its vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// `[Unit]`.
    Unit,
    /// `[Service]`.
    Service,
    /// `[Install]`, of which nothing is kept.
    Install,
}

impl Section {
    /// The section of that name, if it is one that systemd reads in a service.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "Unit" => Self::Unit,
            "Service" => Self::Service,
            "Install" => Self::Install,
            _ => return None,
        })
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unit => "Unit",
            Self::Service => "Service",
            Self::Install => "Install",
        })
    }
}

/// One line to render: `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Where it goes.
    pub section: Section,
    /// Its current name: `ReadWritePaths` also for a vendor's `ReadWriteDirectories`.
    pub name: String,
    /// Its value: specifiers are expanded, what `%` is left is escaped; it holds no line break.
    pub value: String,
}

impl fmt::Display for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl VendorService {
    /// Takes the directives of that name out, for the plan to replace or leave out.
    pub fn take(&mut self, name: &str) -> Vec<Directive> {
        self.directives.extract_if(.., |directive| directive.name == name).collect()
    }

    /// What `$RUNTIME_DIRECTORY` has to be inside the container: systemd sets the path of the host, which is not there.
    pub fn runtime_directory_variable(&self) -> Option<EnvVar> {
        if self.directories.runtime.is_empty() {
            return None;
        }
        let paths: Vec<String> = self.directories.runtime.iter().map(|name| format!("/run/{name}")).collect();
        Some(EnvVar::new("RUNTIME_DIRECTORY", paths.join(":")))
    }
}

/// The path of a note or refusal about a directive: `ssh.service [Service] Restart=`.
fn directive_path(unit: &str, section: Section, name: &str) -> String {
    format!("{unit} [{section}] {name}=")
}

/// A refusal of the whole unit.
fn unit_refusal(unit: &str, text: impl Into<String>) -> Refusal {
    Refusal::new(unit, text)
}
