//! `volumeMounts` of a native container: where each volume appears, without a trace on the host.
//!
//! systemd makes a missing mount point wherever it falls, and below a bound host directory that is the host itself, also
//! under a read-only bind (tried on 252 and 257). So the deepest existing directory on the way to a missing mount point is
//! rebuilt: a directory of the container's own, into which that directory's entries are bound one by one.

use k8s_openapi::api::core::v1::{Container, VolumeMount};

use super::root::{Bind, Owner, Root, is_below};
use crate::container::shown;
use crate::inputs::{Gathered, HostPath, NodeFacts, PathKind};
use crate::note::Refusal;
use crate::pod_plan::{Make, MakeKind};
use crate::unit::escape::check_path;
use crate::unit::name::{AttemptDirs, INSIDE};

/// A volume as a container can mount it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mountable {
    /// Its path on the host.
    pub source: String,
    /// It may not be written, whatever the mount says: configMap, secret, projected, downwardAPI.
    pub always_read_only: bool,
    /// It is a file, not a directory (hostPath).
    pub is_file: bool,
    /// Restrictions of `--dir` apply to it (hostPath).
    pub from_host: bool,
}

/// What a container's mounts come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    /// Bind mounts, in addition to the root's; of two at one place, the later one is meant.
    pub binds: Vec<Bind>,
    /// Directories to rebuild.
    pub make: Vec<Make>,
    /// Directories to make on the host, below the package's own writable paths.
    pub host_paths: Vec<String>,
}

/// Everything that mounts are decided from.
#[derive(Clone, Copy)]
pub struct MountInput<'a> {
    /// The container.
    pub container: &'a Container,
    /// Its path in the pod.
    pub path: &'a str,
    /// Its root.
    pub root: &'a Root,
    /// The attempt's directories.
    pub dirs: &'a AttemptDirs,
    /// The host's answers.
    pub gathered: &'a Gathered,
    /// The node.
    pub facts: &'a NodeFacts,
}

/// A mount path in the form that is compared: no trailing or doubled slash.
pub fn normal(path: &str) -> String {
    let joined = path.split('/').filter(|c| !c.is_empty()).collect::<Vec<_>>().join("/");
    format!("/{joined}")
}

/// The mounts of one container. `lookup` knows the pod's volumes by name.
///
/// # Errors
/// Every mount that cannot be made as written.
pub fn mounts(input: &MountInput<'_>, lookup: impl Fn(&str) -> Option<Mountable>) -> Result<Mounts, Vec<Refusal>> {
    let mut mounts = Mounts::default();
    let mut refusals = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    let mut rebuilt = Rebuilt::default();
    // What lies below a volume is that volume's, whatever the host has at the same path.
    let all = input.container.volume_mounts.iter().flatten();
    let all: Vec<String> = all.map(|m| through_own_links(&normal(&m.mount_path))).collect();
    for (index, mount) in input.container.volume_mounts.iter().flatten().enumerate() {
        let at = format!("{}.volumeMounts[{index}]", input.path);
        let target = match target(mount, &at) {
            Ok(target) => target,
            Err(mut found) => {
                refusals.append(&mut found);
                continue;
            }
        };
        if seen.contains(&target) {
            refusals.push(Refusal::new(format!("{at}.mountPath"), format!("{target} is mounted twice")));
            continue;
        }
        seen.push(target.clone());
        let Some(volume) = lookup(&mount.name) else {
            refusals.push(Refusal::new(format!("{at}.name"), format!("the pod has no volume {:?}", mount.name)));
            continue;
        };
        let read_only = mount.read_only.unwrap_or(false) || volume.always_read_only;
        if all.iter().any(|other| is_below(&target, other)) {
            mounts.binds.push(Bind { source: volume.source, target, read_only, optional: false });
        } else if let Err(refusal) = place(input, &volume, &target, read_only, &at, &mut mounts, &mut rebuilt) {
            refusals.push(refusal);
        }
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    // A rebuilt directory stands in place of the entry that its parent's rebuilding bound there, a volume in place of both.
    mounts.binds = [rebuilt.entries, rebuilt.directories, mounts.binds].concat();
    Ok(mounts)
}

/// What of the host's directories was rebuilt.
#[derive(Default)]
struct Rebuilt {
    /// Binds of the directories themselves.
    directories: Vec<Bind>,
    /// Binds of what they hold.
    entries: Vec<Bind>,
}

/// `path` with the symlinks that every container's root has of its own.
fn through_own_links(path: &str) -> String {
    for (link, target) in [("/var/run", "/run"), ("/var/lock", "/run/lock")] {
        if let Some(rest) = path.strip_prefix(link).filter(|rest| rest.is_empty() || rest.starts_with('/')) {
            return format!("{target}{rest}");
        }
    }
    path.to_owned()
}

/// The checked target of a mount; every field of it is judged here.
fn target(mount: &VolumeMount, at: &str) -> Result<String, Vec<Refusal>> {
    let VolumeMount {
        bind_mount_options,
        mount_path,
        mount_propagation,
        name: _,
        read_only,
        recursive_read_only,
        sub_path,
        sub_path_expr,
    } = mount;
    let mut refusals = Vec::new();
    let mut refuse = |field: &str, text: String| refusals.push(Refusal::new(format!("{at}.{field}"), text));
    if bind_mount_options.as_ref().is_some_and(|o| !o.is_empty()) {
        refuse("bindMountOptions", "is not supported".to_owned());
    }
    if mount_propagation.as_deref() == Some("Bidirectional") {
        refuse("mountPropagation", "Bidirectional needs an OCI image: systemd makes a unit's mounts slaves".to_owned());
    }
    if recursive_read_only.as_deref().is_some_and(|r| r != "Disabled") && *read_only != Some(true) {
        refuse("recursiveReadOnly", "needs readOnly: true".to_owned());
    }
    if sub_path.as_ref().is_some_and(|s| !s.is_empty()) {
        refuse("subPath", "is not supported yet: mount the volume whole, or list the keys as items".to_owned());
    }
    if sub_path_expr.as_ref().is_some_and(|s| !s.is_empty()) {
        refuse("subPathExpr", "is not supported yet: mount the volume whole, or list the keys as items".to_owned());
    }
    let path = through_own_links(&normal(mount_path));
    if let Err(bad) = check_path(mount_path) {
        refuse("mountPath", format!("{:?} {bad}", shown(mount_path)));
    } else if path == "/" {
        refuse("mountPath", "the container's whole root cannot be replaced".to_owned());
    } else if path == "/run" || is_below(INSIDE, &path) || path == INSIDE || is_below(&path, INSIDE) {
        refuse("mountPath", format!("{path} holds what systemk itself needs in the container"));
    } else if path.len() + "/run".len() > 4000 {
        refuse("mountPath", "is too long".to_owned());
    }
    if refusals.is_empty() { Ok(path) } else { Err(refusals) }
}

fn place(
    input: &MountInput<'_>,
    volume: &Mountable,
    target: &str,
    read_only: bool,
    at: &str,
    mounts: &mut Mounts,
    rebuilt: &mut Rebuilt,
) -> Result<(), Refusal> {
    let refuse = |text: String| Err(Refusal::new(format!("{at}.mountPath"), text));
    let known = input.gathered.host_paths.get(target);
    // A symlink of the host on the way is followed now: systemd 252 follows absolute ones out of the container's root.
    let resolved = match (input.root.owner(target), known) {
        (Owner::HostReadOnly | Owner::HostWritable, Some(host)) => normal(&host.resolved),
        _ => target.to_owned(),
    };
    // The package's user may have put that symlink there: it leads nowhere but within the same directory of the package.
    if input.root.owner(target) == Owner::HostWritable
        && input.root.writable_base(&resolved) != input.root.writable_base(target)
    {
        return refuse(format!("{target} leads to {resolved} by a symlink, out of the package's own directory"));
    }
    if resolved == "/" || resolved == "/run" || resolved == INSIDE || is_below(&resolved, INSIDE) {
        return refuse(format!(
            "{target} leads to {resolved} by a symlink, which systemk itself needs in the container"
        ));
    }
    let bind = Bind { source: volume.source.clone(), target: resolved.clone(), read_only, optional: false };
    let exists = known.is_some_and(|h| h.kind.is_some());
    match input.root.owner(&resolved) {
        Owner::Kernel if exists => {}
        Owner::Kernel => return refuse(format!("{target} does not exist and cannot be made: it is the kernel's")),
        Owner::Container => {}
        Owner::HostReadOnly => {
            if !exists {
                let Some(host) = known else { return refuse(format!("{target} could not be looked up on the host")) };
                rebuild(input, host, mounts, rebuilt);
            }
        }
        Owner::HostWritable => {
            if !read_only && !allowed(input.facts, &resolved) {
                return refuse(format!("{target} lies below none of this node's --dir directories"));
            }
            if !exists && volume.is_file {
                return refuse(format!(
                    "{target} does not exist and lies below a directory of the package: mount a directory"
                ));
            }
            if !exists {
                // Each directory that has to be made, not only the last: all of them go with the pod.
                let existing = known.map_or("/", |h| h.existing.as_str());
                mounts.host_paths.extend(missing(&normal(existing), &resolved));
            }
        }
    }
    mounts.binds.push(bind);
    Ok(())
}

/// The paths below `existing` down to `path`, deepest last.
fn missing(existing: &str, path: &str) -> Vec<String> {
    let from = if existing == "/" { 1 } else { existing.len() + 1 };
    let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at >= from).chain([path.len()]);
    ends.filter_map(|end| path.get(..end).map(str::to_owned)).collect()
}

/// Puts a directory of the container's own in place of `host.existing`, with each of its entries bound into it.
fn rebuild(input: &MountInput<'_>, host: &HostPath, mounts: &mut Mounts, rebuilt: &mut Rebuilt) {
    let directory = normal(&host.existing);
    if rebuilt.directories.iter().any(|b| b.target == directory) {
        return;
    }
    let own = format!("{}/rebuilt/{}", input.dirs.state, rebuilt.directories.len());
    mounts.make.push(Make { path: own.clone(), kind: MakeKind::Directory, mode: 0o755 });
    // Read-only as the host's would be; the mount points below are made before that takes effect.
    let bind = Bind { source: own.clone(), target: directory.clone(), read_only: true, optional: false };
    rebuilt.directories.push(bind);
    for (name, kind) in &host.entries {
        match kind {
            PathKind::Symlink(link) => {
                mounts.make.push(Make {
                    path: format!("{own}/{name}"),
                    kind: MakeKind::Symlink(link.clone()),
                    mode: 0o777,
                });
            }
            PathKind::Directory
            | PathKind::File
            | PathKind::Socket
            | PathKind::CharDevice
            | PathKind::BlockDevice
            | PathKind::Other => {
                let path = format!("{directory}/{name}");
                if check_path(&path).is_ok() {
                    rebuilt.entries.push(Bind { optional: true, ..Bind::host(input.facts, &path) });
                }
            }
        }
    }
}

/// Whether `--dir` lets a pod use this host path.
pub fn allowed(facts: &NodeFacts, path: &str) -> bool {
    facts.allowed_dirs.is_empty() || facts.allowed_dirs.iter().any(|d| is_below(path, &normal(d)))
}
