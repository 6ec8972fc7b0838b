//! `PodPlan`: everything that `apply` needs to make a pod real, with no choice left to it.

use k8s_openapi::api::core::v1::Pod;

use crate::admission::{Admission, PortHistory};
use crate::blocked::Blocked;
use crate::history::Exit;
use crate::inputs::ImageState;
use crate::launch::Launch;
use crate::note::Note;

/// How one pod is to run.
#[derive(Clone, Debug, PartialEq)]
pub struct PodPlan {
    /// The pod's slice.
    pub slice: String,
    /// Its volumes' directories and contents, in the pod's order.
    pub volumes: Vec<VolumePlan>,
    /// Init containers first, each group in the pod's order.
    pub containers: Vec<ContainerPlan>,
    /// What the user should know.
    pub notes: Vec<Note>,
    /// Something that all containers need is missing, such as a volume's ConfigMap.
    pub blocked: Option<Blocked>,
    /// Whether it may run at all. What one that may not waits for is in `blocked` as well.
    pub admission: Admission,
    /// What is remembered of its ports; None: nothing new.
    pub ports: Option<PortHistory>,
}

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerRole {
    /// Runs to its end before the next one.
    Init,
    /// Runs beside the others.
    App,
}

/// How one container is to run.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerPlan {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: ContainerRole,
    /// Its image, as far as that is.
    pub image: ImageState,
    /// Its next attempt, or why there can be none yet.
    pub attempt: Result<AttemptPlan, Blocked>,
}

/// One attempt of one container.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptPlan {
    /// The container.
    pub container: String,
    /// Its number.
    pub attempt: u32,
    /// The unit's name.
    pub unit: String,
    /// The unit file.
    pub unit_text: String,
    /// The pod's slice and its unit file.
    pub slice: String,
    /// The slice's unit file.
    pub slice_text: String,
    /// What init applies.
    pub launch: Launch,
    /// Directories that are emptied before this attempt and removed after it: root only, never the host's own.
    pub own_dirs: Vec<String>,
    /// What is made in them, in this order.
    pub make: Vec<Make>,
    /// Directories made on the host, below writable paths of the package, because a volume is mounted there.
    pub host_paths: Vec<String>,
    /// Where the Launch is written.
    pub launch_path: String,
}

/// One thing to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Make {
    /// Absolute path, below one of the attempt's own directories.
    pub path: String,
    /// What.
    pub kind: MakeKind,
    /// Permission bits.
    pub mode: u32,
}

/// The kinds of [`Make`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MakeKind {
    /// A directory, its parents made 0755.
    Directory,
    /// A file with this text.
    File(String),
    /// A symlink with this target.
    Symlink(String),
}

/// One volume's directory.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumePlan {
    /// The volume's name.
    pub name: String,
    /// What it holds.
    pub content: VolumeContent,
    /// Changes when the directory or its contents have to be made anew.
    pub hash: String,
}

/// What a volume is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum VolumeContent {
    /// An empty directory that the pod fills.
    Empty {
        /// Where.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Its group, with setgid.
        gid: Option<u32>,
        /// A tmpfs of this many bytes is mounted there.
        tmpfs_bytes: Option<u64>,
    },
    /// Files that follow an object, swapped atomically.
    Files {
        /// Where.
        path: String,
        /// The files.
        files: crate::fields::files::VolumeFiles,
    },
    /// A path of the host, made first if its type says so.
    Host {
        /// Where.
        path: String,
        /// `DirectoryOrCreate` or `FileOrCreate`.
        create: Option<HostPathCreate>,
    },
}

/// What a hostPath volume makes when nothing is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPathCreate {
    /// 0755, root's.
    Directory,
    /// 0644, root's; its directory must exist.
    File,
}

impl PodPlan {
    /// What can be said of a pod that is not planned any more because it stops: its containers, for [`crate::status`].
    pub fn unplanned(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let init = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
        let app = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
        let container = |role| {
            move |c: &k8s_openapi::api::core::v1::Container| ContainerPlan {
                name: c.name.clone(),
                role,
                image: ImageState::Needed,
                attempt: Err(Blocked::new("ContainerCreating", "")),
            }
        };
        let containers =
            init.iter().map(container(ContainerRole::Init)).chain(app.iter().map(container(ContainerRole::App)));
        Self {
            slice: String::new(),
            volumes: Vec::new(),
            containers: containers.collect(),
            notes: Vec::new(),
            blocked: None,
            admission: Admission::Admitted,
            ports: None,
        }
    }
}

/// `spec.restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever the end was.
    Always,
    /// Only after a failure.
    OnFailure,
    /// Not at all.
    Never,
}

impl RestartPolicy {
    /// A pod's policy; `Always` unless it says otherwise.
    pub fn of(pod: &Pod) -> Self {
        match pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            Some(_) | None => Self::Always,
        }
    }

    /// Whether an app container that ended so is started again. One that never ran is always tried again, as the kubelet
    /// does with a container that it could not create.
    pub fn restarts(self, exit: &Exit) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit.never_ran || exit.exit_code != 0,
            Self::Never => exit.never_ran,
        }
    }

    /// The same for either role: an init container that ended well is done.
    pub fn restarts_as(self, role: ContainerRole, exit: &Exit) -> bool {
        match role {
            ContainerRole::Init => self.restarts(exit) && (exit.exit_code != 0 || exit.never_ran),
            ContainerRole::App => self.restarts(exit),
        }
    }
}
