//! `volumes`: each one's own directory on the host and what it holds. What of it a container sees: [`super::mounts`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume};

use super::files::{FilesInput, VolumeFiles, volume_files, with_fs_group};
use super::mounts::{Mountable, allowed, normal};
use crate::blocked::{Blocked, Unplannable};
use crate::container::shown;
use crate::inputs::{Gathered, NodeFacts, PathKind};
use crate::note::{Note, NoteKind, Refusal};
use crate::pod_plan::{HostPathCreate, VolumeContent, VolumePlan};
use crate::quantity::Quantity;
use crate::unit::escape::check_path;
use crate::unit::name::{PodDirs, hex_sha256};

/// A pod's volumes.
#[derive(Debug, Default)]
pub struct Volumes {
    /// What to make, in the pod's order.
    pub plans: Vec<VolumePlan>,
    /// How containers mount them, by name.
    pub mountable: BTreeMap<String, Mountable>,
    /// What the user should know.
    pub notes: Vec<Note>,
    /// Why the pod can never run as written.
    pub refusals: Vec<Refusal>,
    /// Why it cannot run yet.
    pub blocked: Option<Blocked>,
}

/// Plans every volume of a pod.
pub fn volumes(pod: &Pod, gathered: &Gathered, facts: &NodeFacts, dirs: &PodDirs) -> Volumes {
    let mut volumes = Volumes::default();
    let spec = pod.spec.as_ref();
    let fs_group = spec.and_then(|s| s.security_context.as_ref()).and_then(|c| c.fs_group);
    let gid = fs_group.and_then(|g| u32::try_from(g).ok());
    for (index, volume) in spec.and_then(|s| s.volumes.as_ref()).into_iter().flatten().enumerate() {
        let path = format!("spec.volumes[{index}]");
        let default = EmptyDirVolumeSource::default();
        let files = volume_files(&FilesInput { pod, volume, path: path.clone(), gathered, facts });
        let planned = if let Some(empty) = &volume.empty_dir {
            empty_dir(empty, volume, &path, dirs, gid, &mut volumes.notes)
        } else if let Some(host) = &volume.host_path {
            host_path(host, volume, &path, gathered, facts)
        } else {
            match files {
                Ok(Some(files)) => Ok(file_volume(volume, files, dirs, gid)),
                // A volume of no kind is an emptyDir, as the API server has it.
                Ok(None) => empty_dir(&default, volume, &path, dirs, gid, &mut volumes.notes),
                Err(unplannable) => Err(unplannable),
            }
        };
        match planned {
            Ok((plan, mountable)) => {
                volumes.plans.push(plan);
                volumes.mountable.insert(volume.name.clone(), mountable);
            }
            Err(Unplannable::Refused(mut found)) => volumes.refusals.append(&mut found),
            Err(Unplannable::Blocked(blocked)) => volumes.blocked = volumes.blocked.or(Some(blocked)),
        }
    }
    volumes
}

type Planned = Result<(VolumePlan, Mountable), Unplannable>;

fn refused(path: String, text: impl Into<String>) -> Unplannable {
    Unplannable::Refused(vec![Refusal::new(path, text)])
}

fn empty_dir(
    empty: &EmptyDirVolumeSource,
    volume: &Volume,
    path: &str,
    dirs: &PodDirs,
    gid: Option<u32>,
    notes: &mut Vec<Note>,
) -> Planned {
    let EmptyDirVolumeSource { medium, mode, size_limit } = empty;
    let limit = match size_limit {
        None => None,
        Some(text) => match Quantity::parse(&text.0).map(|q| q.value()) {
            Ok(bytes) if bytes >= 0 => u64::try_from(bytes).ok().filter(|b| *b > 0),
            Ok(_) | Err(_) => {
                return Err(refused(format!("{path}.emptyDir.sizeLimit"), format!("{:?} is not a size", text.0)));
            }
        },
    };
    let in_memory = match medium.as_deref() {
        None | Some("") => false,
        Some("Memory") => true,
        Some(other) => {
            return Err(refused(
                format!("{path}.emptyDir.medium"),
                format!("{other:?} is not supported: use Memory or leave it out"),
            ));
        }
    };
    if limit.is_some() && !in_memory {
        let text = "is not enforced yet on disk; medium: Memory enforces it";
        notes.push(Note::new(NoteKind::Warned, format!("{path}.emptyDir.sizeLimit"), text));
    }
    let mode = match mode {
        None => 0o777,
        Some(mode) => match u32::try_from(*mode) {
            Ok(mode) if mode <= 0o7777 => mode,
            Ok(_) | Err(_) => {
                return Err(refused(
                    format!("{path}.emptyDir.mode"),
                    format!("{mode} is not a mode between 0 and 07777"),
                ));
            }
        },
    };
    let directory = dirs.volume(!in_memory, &volume.name);
    let tmpfs_bytes = limit.filter(|_| in_memory);
    let hash = hex_sha256(&format!("empty {mode} {gid:?} {tmpfs_bytes:?}"));
    let mode = if gid.is_some() { mode | 0o2070 } else { mode };
    let content = VolumeContent::Empty { path: directory.clone(), mode, gid, tmpfs_bytes };
    let mountable = Mountable { source: directory, always_read_only: false, is_file: false, from_host: false };
    Ok((VolumePlan { name: volume.name.clone(), content, hash }, mountable))
}

fn host_path(
    host: &HostPathVolumeSource,
    volume: &Volume,
    path: &str,
    gathered: &Gathered,
    facts: &NodeFacts,
) -> Planned {
    let at = format!("{path}.hostPath.path");
    if let Err(bad) = check_path(&host.path) {
        return Err(refused(at, format!("{:?} {bad}", shown(&host.path))));
    }
    let source = normal(&host.path);
    if !allowed(facts, &source) {
        return Err(refused(at, format!("{source} lies below none of this node's --dir directories")));
    }
    let blocked = |why: String| {
        let message = format!("MountVolume.SetUp failed for volume {:?} : {why}", volume.name);
        Unplannable::Blocked(Blocked { reason: "FailedMount".to_owned(), message })
    };
    // Without an answer nobody knows where it leads.
    let Some(found) = gathered.host_paths.get(&source) else {
        return Err(blocked(format!("{source} cannot be looked up on the host")));
    };
    let resolved = normal(&found.resolved);
    if !allowed(facts, &resolved) {
        return Err(refused(
            at,
            format!("{source} leads to {resolved}, which lies below none of this node's --dir directories"),
        ));
    }
    let kind = found.kind.clone();
    let mismatch = |what: &str| blocked(format!("hostPath type check failed: {source} is not {what}"));
    let is_dir = kind == Some(PathKind::Directory);
    let create = match (host.type_.as_deref().unwrap_or_default(), &kind) {
        ("" | "DirectoryOrCreate", None) => Some(HostPathCreate::Directory),
        ("FileOrCreate", None) => Some(HostPathCreate::File),
        ("", Some(_)) => None,
        ("DirectoryOrCreate" | "Directory", _) if is_dir => None,
        ("DirectoryOrCreate" | "Directory", _) => return Err(mismatch("a directory")),
        ("FileOrCreate" | "File", Some(PathKind::File)) => None,
        ("FileOrCreate" | "File", _) => return Err(mismatch("a file")),
        ("Socket", Some(PathKind::Socket)) => None,
        ("Socket", _) => return Err(mismatch("a socket file")),
        ("CharDevice" | "BlockDevice", _) => {
            return Err(refused(
                format!("{path}.hostPath.type"),
                "devices are not supported yet: use a privileged container",
            ));
        }
        (other, _) => {
            return Err(refused(format!("{path}.hostPath.type"), format!("{other:?} is not a type of hostPath")));
        }
    };
    let is_file = !(is_dir || create == Some(HostPathCreate::Directory));
    let hash = hex_sha256(&format!("host {source}"));
    let mountable = Mountable { source, always_read_only: false, is_file, from_host: true };
    // Made where it was found to lead, not where a symlink that is exchanged meanwhile would.
    let content = VolumeContent::Host { path: resolved, create };
    Ok((VolumePlan { name: volume.name.clone(), content, hash }, mountable))
}

fn file_volume(volume: &Volume, mut files: VolumeFiles, dirs: &PodDirs, gid: Option<u32>) -> (VolumePlan, Mountable) {
    if let Some(gid) = gid {
        with_fs_group(&mut files, gid);
    }
    let directory = dirs.volume(false, &volume.name);
    let hash = hex_sha256(&format!("files {} {gid:?}", files.hash));
    let mountable = Mountable { source: directory.clone(), always_read_only: true, is_file: false, from_host: false };
    let content = VolumeContent::Files { path: directory, files };
    (VolumePlan { name: volume.name.clone(), content, hash }, mountable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::fixtures::{facts, pod};
    use crate::inputs::HostPath;

    const POD: &str = "{metadata: {name: p}, spec: {containers: [], volumes: [
        {name: v, hostPath: {path: /srv/link/new, type: DirectoryOrCreate}}]}}";

    fn planned(found: Option<&str>) -> Volumes {
        let facts = NodeFacts { allowed_dirs: vec!["/srv".to_owned()], ..facts() };
        let of = |resolved: &str| HostPath { resolved: resolved.to_owned(), ..HostPath::default() };
        let host_paths = found.map(|resolved| ("/srv/link/new".to_owned(), of(resolved))).into_iter().collect();
        let gathered = Gathered { host_paths, ..Gathered::default() };
        volumes(&pod(POD), &gathered, &facts, &PodDirs::new("/r", "/s", "u"))
    }

    #[test]
    fn a_path_is_made_where_it_leads_below_an_allowed_directory() {
        let inside = planned(Some("/srv/real/new"));
        let create = Some(HostPathCreate::Directory);
        let content = inside.plans.first().map(|plan| plan.content.clone());
        assert_eq!(content, Some(VolumeContent::Host { path: "/srv/real/new".to_owned(), create }));
        assert_eq!(inside.mountable["v"].source, "/srv/link/new");
        let outside = planned(Some("/etc/new"));
        assert!(outside.plans.is_empty() && outside.refusals[0].to_string().contains("leads to /etc/new"));
        // Nobody knows where it leads.
        let unknown = planned(None);
        assert!(unknown.plans.is_empty() && unknown.refusals.is_empty());
        assert!(unknown.blocked.is_some_and(|blocked| blocked.message.contains("cannot be looked up")));
    }
}
