//! A plan for programs.

use plan::inputs::NodeFacts;
use plan::launch::Launch;
use plan::note::{Note, Refusal};
use plan::pod_plan::{ContainerPlan, ContainerRole, HostPathCreate, Make, MakeKind, VolumeContent, VolumePlan};
use serde::Serialize;

use super::Planned;
use super::text::unknown;
use crate::cli::manifest_file::pod_name;

#[derive(Serialize)]
pub(super) struct Data {
    pods: Vec<PodData>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PodData {
    namespace: String,
    name: String,
    uid: String,
    refusals: Vec<Refusal>,
    notes: Vec<Note>,
    /// What all containers wait for.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slice: Option<File>,
    volumes: Vec<VolumeData>,
    containers: Vec<ContainerData>,
}

#[derive(Serialize)]
struct VolumeData {
    name: String,
    #[serde(flatten)]
    content: Content,
}

/// Modes are octal text, as people and `chmod` write them.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Content {
    Empty {
        path: String,
        mode: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tmpfs_bytes: Option<u64>,
    },
    /// What they hold may be secret.
    Files {
        path: String,
        mode: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
        files: Vec<FileSize>,
    },
    Host {
        path: String,
        /// What is made if nothing is there.
        #[serde(skip_serializing_if = "Option::is_none")]
        create: Option<&'static str>,
    },
}

#[derive(Serialize)]
struct FileSize {
    path: String,
    mode: String,
    bytes: usize,
}

#[derive(Serialize)]
struct File {
    path: String,
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerData {
    name: String,
    init: bool,
    /// Why there is neither unit nor launch.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<File>,
    #[serde(skip_serializing_if = "Option::is_none")]
    launch: Option<LaunchData>,
    /// Emptied before an attempt and removed after it.
    own_dirs: Vec<String>,
    /// Made in them.
    make: Vec<MakeData>,
    /// Made on the host, below directories of the package; they go with the pod.
    host_paths: Vec<String>,
}

#[derive(Serialize)]
struct MakeData {
    path: String,
    mode: String,
    #[serde(flatten)]
    kind: MadeKind,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
enum MadeKind {
    Directory,
    File { bytes: usize },
    Symlink { target: String },
}

#[derive(Serialize)]
struct LaunchData {
    path: String,
    content: Launch,
}

pub(super) fn data(planned: &[Planned], facts: &NodeFacts) -> Data {
    Data { pods: planned.iter().map(|pod| pod_data(pod, facts)).collect() }
}

fn pod_data(pod: &Planned, facts: &NodeFacts) -> PodData {
    let (namespace, name) = pod_name(&pod.pod);
    let uid = pod.pod.metadata.uid.clone().unwrap_or_default();
    let none = PodData {
        namespace,
        name,
        uid,
        refusals: Vec::new(),
        notes: Vec::new(),
        blocked: None,
        slice: None,
        volumes: Vec::new(),
        containers: Vec::new(),
    };
    match &pod.plan {
        Err(refusals) => PodData { refusals: refusals.clone(), ..none },
        Ok(plan) => {
            let slice_text = plan.containers.iter().find_map(|c| Some(c.attempt.as_ref().ok()?.slice_text.clone()));
            PodData {
                notes: plan.notes.clone(),
                blocked: plan.blocked.as_ref().map(|blocked| blocked.message.clone()),
                slice: slice_text.map(|text| File { path: format!("{}/{}", facts.unit_dir, plan.slice), text }),
                volumes: plan.volumes.iter().map(volume_data).collect(),
                containers: plan.containers.iter().map(|container| container_data(container, pod, facts)).collect(),
                ..none
            }
        }
    }
}

fn container_data(container: &ContainerPlan, pod: &Planned, facts: &NodeFacts) -> ContainerData {
    let none = ContainerData {
        name: container.name.clone(),
        init: container.role == ContainerRole::Init,
        unknown: None,
        unit: None,
        launch: None,
        own_dirs: Vec::new(),
        make: Vec::new(),
        host_paths: Vec::new(),
    };
    match &container.attempt {
        Ok(attempt) => ContainerData {
            unit: Some(File { path: format!("{}/{}", facts.unit_dir, attempt.unit), text: attempt.unit_text.clone() }),
            launch: Some(LaunchData { path: attempt.launch_path.clone(), content: attempt.launch.clone() }),
            own_dirs: attempt.own_dirs.clone(),
            make: attempt.make.iter().map(make_data).collect(),
            host_paths: attempt.host_paths.clone(),
            ..none
        },
        Err(blocked) => {
            let why = unknown(container, pod).unwrap_or_else(|| format!("{}: {}", blocked.reason, blocked.message));
            ContainerData { unknown: Some(why), ..none }
        }
    }
}

fn octal(mode: u32) -> String {
    format!("{mode:04o}")
}

fn volume_data(volume: &VolumePlan) -> VolumeData {
    let content = match &volume.content {
        VolumeContent::Empty { path, mode, gid, tmpfs_bytes } => {
            Content::Empty { path: path.clone(), mode: octal(*mode), gid: *gid, tmpfs_bytes: *tmpfs_bytes }
        }
        VolumeContent::Files { path, files } => {
            let sizes = files.files.iter().map(|file| FileSize {
                path: file.path.clone(),
                mode: octal(file.mode),
                bytes: file.data.len(),
            });
            Content::Files { path: path.clone(), mode: octal(files.dir_mode), gid: files.gid, files: sizes.collect() }
        }
        VolumeContent::Host { path, create } => {
            let create = create.map(|create| match create {
                HostPathCreate::Directory => "directory",
                HostPathCreate::File => "file",
            });
            Content::Host { path: path.clone(), create }
        }
    };
    VolumeData { name: volume.name.clone(), content }
}

fn make_data(make: &Make) -> MakeData {
    let kind = match &make.kind {
        MakeKind::Directory => MadeKind::Directory,
        MakeKind::File(text) => MadeKind::File { bytes: text.len() },
        MakeKind::Symlink(target) => MadeKind::Symlink { target: target.clone() },
    };
    MakeData { path: make.path.clone(), mode: octal(make.mode), kind }
}

#[cfg(test)]
mod tests {
    use plan::fields::files::{VolumeFile, VolumeFiles};
    use serde_json::{json, to_value};

    use super::*;

    fn volume(content: VolumeContent) -> serde_json::Value {
        to_value(volume_data(&VolumePlan { name: "v".into(), content, hash: String::new() })).unwrap()
    }

    #[test]
    fn volumes_are_told_without_what_they_hold() {
        let empty = VolumeContent::Empty { path: "/e".into(), mode: 0o777, gid: Some(7), tmpfs_bytes: Some(4096) };
        assert_eq!(
            volume(empty),
            json!({"name": "v", "kind": "empty", "path": "/e", "mode": "0777", "gid": 7, "tmpfsBytes": 4096})
        );
        let file = VolumeFile { path: "key".into(), data: b"hunter2".to_vec(), mode: 0o400, uid: None };
        let files = VolumeFiles { files: vec![file], dir_mode: 0o755, gid: None, hash: String::new() };
        assert_eq!(
            volume(VolumeContent::Files { path: "/f".into(), files }),
            json!({"name": "v", "kind": "files", "path": "/f", "mode": "0755",
                "files": [{"path": "key", "mode": "0400", "bytes": 7}]})
        );
        let host = |create| volume(VolumeContent::Host { path: "/h".into(), create });
        assert_eq!(host(None), json!({"name": "v", "kind": "host", "path": "/h"}));
        assert_eq!(host(Some(HostPathCreate::File))["create"], "file");
    }

    #[test]
    fn what_is_made_for_a_container() {
        let make = |kind| to_value(make_data(&Make { path: "/p".into(), kind, mode: 0o644 })).unwrap();
        assert_eq!(make(MakeKind::Directory), json!({"path": "/p", "mode": "0644", "kind": "directory"}));
        assert_eq!(
            make(MakeKind::File("four".into())),
            json!({"path": "/p", "mode": "0644", "kind": "file", "bytes": 4})
        );
        assert_eq!(make(MakeKind::Symlink("/t".into()))["target"], "/t");
    }
}
