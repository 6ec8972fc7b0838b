//! Everything that a plan may know: what the pod needs ([`Needs`]), what the agent found for it ([`Gathered`]) and what
//! is true of the node ([`NodeFacts`]). Plain data; nothing here looks anything up.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde::{Deserialize, Serialize};

use crate::admission::Claimants;
use crate::vendor::{SpecifierFacts, VendorUnit};

mod cluster;

pub use cluster::{ApiServer, ClusterFacts, ServiceAddress, ServicePort, Token, TokenKey};

/// What has to be fetched before the pod can be planned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// ConfigMaps by name, in the pod's namespace.
    pub config_maps: Vec<String>,
    /// Secrets by name, in the pod's namespace.
    pub secrets: Vec<String>,
    /// Names of users whose passwd row is wanted (`runAsUserName`, and what a vendor unit's `User=` says).
    pub users: Vec<String>,
    /// Numeric users whose primary group is wanted.
    pub uids: Vec<u32>,
    /// Paths inside the container at which a volume is mounted and hostPath sources: what the host has there is wanted.
    pub host_paths: Vec<String>,
    /// Tokens of the pod's service account.
    pub tokens: Vec<TokenKey>,
    /// The services of the pod's namespace.
    pub services: bool,
}

/// What the agent found.
#[derive(Clone, Default)]
pub struct Gathered {
    /// The ConfigMaps that exist.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// The Secrets that exist.
    pub secrets: BTreeMap<String, Secret>,
    /// By container name: what its image turned out to be.
    pub images: BTreeMap<String, ImageState>,
    /// The passwd rows that exist, by name.
    pub users: BTreeMap<String, PasswdRow>,
    /// Primary group ids of the numeric users that exist.
    pub primary_groups: BTreeMap<u32, u32>,
    /// By the path asked for: what the host has there.
    pub host_paths: BTreeMap<String, HostPath>,
    /// Who claims ports of the host.
    pub claimants: Claimants,
    /// What the API server that the pod comes from says; None: the pod is a manifest's, which no API server knows.
    pub cluster: Option<ClusterFacts>,
}

/// One row of the host's user database, as `getent passwd` prints it, with the groups the user is a member of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswdRow {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups of which the user is a member on the host.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// What a container's image is at this moment.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageState {
    /// On the host and ready to be run.
    Present(ImageFacts),
    /// It has to be fetched for this attempt; nothing is under way.
    Needed,
    /// A pull or install is under way; `message` says what it waits for.
    Pulling {
        /// For people: what is being done at this moment.
        message: String,
    },
    /// The last attempt failed; `reason` is `ErrImagePull`, `ImagePullBackOff`, `ErrImageNeverPull` or `InvalidImageName`.
    Failed {
        /// Kubernetes' reason.
        reason: String,
        /// The package manager's own last lines, or why it was refused.
        message: String,
        /// When it is tried again, in milliseconds since the epoch; None: not before the pod or the node changes.
        retry_at_ms: Option<i64>,
    },
}

/// What the plan has to know of an image.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageFacts {
    /// An installed distribution package.
    Package(PackageFacts),
    /// A file of the host; the path is the container's program when the pod names none.
    HostBinary {
        /// Absolute path.
        path: String,
    },
}

/// An installed package.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PackageFacts {
    /// Its exact name.
    pub name: String,
    /// Its installed version.
    pub version: String,
    /// What its files take, in bytes.
    pub size: u64,
    /// Every path that it ships.
    pub files: Vec<PackagePath>,
    /// Every `.service` that it ships, with the drop-ins that apply to it.
    pub units: Vec<VendorUnit>,
}

/// One path of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackagePath {
    /// Absolute path.
    pub path: String,
    /// It is a directory on the host.
    pub directory: bool,
}

/// What the host has at a path.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HostPath {
    /// What is there once every symlink on the way is followed below the host's root; None: nothing.
    pub kind: Option<PathKind>,
    /// The deepest directory on the way that exists, symlinks resolved (the path itself when it is a directory).
    pub existing: String,
    /// The path with the symlinks of its existing part resolved.
    pub resolved: String,
    /// What `existing` holds, where the path itself is missing: name and kind, in name order.
    pub entries: Vec<(String, PathKind)>,
}

/// The kind of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symlink and its literal target.
    Symlink(String),
    /// A UNIX socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A FIFO or anything else.
    Other,
}

/// What is true of the node, the same for every pod.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeFacts {
    /// The node's name: `HOSTNAME` of its pods, and in `[X-Kubernetes]`.
    pub node_name: String,
    /// Internal addresses, first one first used.
    pub internal_ips: Vec<String>,
    /// External addresses; empty: the internal ones stand in.
    pub external_ips: Vec<String>,
    /// Major version of the running systemd.
    pub systemd_version: u32,
    /// Where the agent keeps what lives until reboot: `/run/systemk`.
    pub run_root: String,
    /// Where the agent keeps what survives a reboot: `/var/lib/systemk`.
    pub state_root: String,
    /// Where unit files are written: `/run/systemd/system`.
    pub unit_dir: String,
    /// The root of the pods' slices, without `.slice`: `kubepods`.
    pub slice_root: String,
    /// The agent's own binary on the host.
    pub binary: String,
    /// Top-level names of the host's root: directories and the usrmerge symlinks.
    pub root_entries: BTreeMap<String, PathKind>,
    /// By a top-level directory that containers are shown ([`crate::fields::root::shown`]): where the agent keeps a read-only
    /// view of it. A directory without one is made read-only by systemd, for each container.
    pub views: BTreeMap<String, String>,
    /// Further top-level directories to show read-only, or all of them (`--native-root`).
    pub native_root: NativeRoot,
    /// Host paths in /run that symlinks of /etc point to (resolv.conf), to be bound at the same place.
    pub etc_run_targets: Vec<String>,
    /// Values for the specifiers of vendor units.
    pub specifiers: SpecifierFacts,
    /// Cgroup controllers that systemd can use here: `cpu`, `memory`, `pids`, …
    pub controllers: Vec<String>,
    /// hostPath sources and native writable mount paths must lie below one of these; empty: no restriction.
    pub allowed_dirs: Vec<String>,
    /// Cores of the machine in millicores, what `resourceFieldRef: limits.cpu` yields without a limit.
    pub cpu_milli: i64,
    /// Memory of the machine in bytes, what `resourceFieldRef: limits.memory` yields without a limit.
    pub memory_bytes: i64,
}

/// Which of the host's top-level directories a native pod sees beside /usr, /etc, /opt and /srv.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum NativeRoot {
    /// The defaults.
    #[default]
    Default,
    /// These as well.
    Also(Vec<String>),
    /// Every one: the founding README's rule.
    All,
}
