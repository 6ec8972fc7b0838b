//! Pods of which something is left: units with our section whose files are below our run directory, and directories of pods.
//!
//! Found at start and at each relist. What belongs to a wanted pod is adopted, the rest is stopped and removed; anything
//! without our section, or of an agent with another run directory, is somebody else's and not touched. The node's name does
//! not tell: a machine that was given another one has its old name's pods to stop, and two agents of one machine may share it.

use std::collections::BTreeMap;
use std::path::Path;

use plan::history::{ContainerHistory, HISTORY_VERSION, PodHistory};
use plan::inputs::NodeFacts;
use plan::unit::UnitIdentity;
use plan::unit::escape::line;
use plan::unit::name::{PREFIX, PodDirs, uid_mark};

use crate::files::read_bounded;

/// A unit file of ours is a few KiB; a rebuilt /etc of many entries makes it larger.
const UNIT_LIMIT: u64 = 1024 * 1024;

/// What is left of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The identities in its unit files, the slice's among them.
    pub(crate) units: Vec<UnitIdentity>,
}

/// Everything of ours on this machine, by uid.
pub(crate) fn find(facts: &NodeFacts) -> BTreeMap<String, Found> {
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for name in names_in(&facts.unit_dir) {
        let ours = name.starts_with(PREFIX) && name.ends_with(".service") || is_pod_slice(facts, &name);
        if !ours {
            continue;
        }
        if let Some(identity) = identity(facts, &name) {
            found.entry(identity.uid.clone()).or_default().units.push(identity);
        }
    }
    for root in [&facts.run_root, &facts.state_root] {
        for uid in names_in(&format!("{root}/pods")) {
            found.entry(uid).or_default();
        }
    }
    found
}

fn is_pod_slice(facts: &NodeFacts, name: &str) -> bool {
    name.starts_with(&format!("{}-", facts.slice_root)) && name.contains("-pod") && name.ends_with(".slice")
}

fn names_in(dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).collect()
}

/// Whose unit a file is; None unless it is this agent's.
fn identity(facts: &NodeFacts, name: &str) -> Option<UnitIdentity> {
    of_run_directory(&facts.unit_dir, &facts.run_root, name).filter(|identity| is_component(&identity.uid))
}

/// What a unit file says of itself, if its pod's files are below `run_root`, which one agent at a time holds.
pub(crate) fn of_run_directory(unit_dir: &str, run_root: &str, name: &str) -> Option<UnitIdentity> {
    let (identity, text) = section(unit_dir, name)?;
    let run = PodDirs::new(run_root, "", &identity.uid).run;
    let ours = if name.ends_with(".slice") {
        // A slice names no file of its pod, whose directory is made before it and goes after it.
        is_component(&identity.uid) && Path::new(&run).is_dir()
    } else {
        text.contains(&format!("\nStandardInput={}", line(&format!("file:{run}/"))))
    };
    ours.then_some(identity)
}

/// The `[X-Kubernetes]` of a unit file, whoever's it is, and the file's text.
fn section(unit_dir: &str, name: &str) -> Option<(UnitIdentity, String)> {
    let bytes = read_bounded(&Path::new(unit_dir).join(name), UNIT_LIMIT).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    Some((UnitIdentity::parse(&text)?, text))
}

/// A unit file of another agent's pod with this uid, or something else that has the name of the `unit` to be written: the
/// same manifest in two agents' directories. Neither may be written over nor run beside ours.
pub(super) fn rival(facts: &NodeFacts, uid: &str, unit: &str) -> Option<String> {
    let mark = format!("_{}_", uid_mark(uid));
    names_in(&facts.unit_dir).into_iter().filter(|n| n.starts_with(PREFIX) && n.contains(&mark)).find(|name| {
        let same = || section(&facts.unit_dir, name).is_some_and(|(identity, _)| identity.uid == uid);
        is_anothers(facts, name) && (name == unit || same())
    })
}

/// Whether there is a file of that name which this agent has not written.
pub(super) fn is_anothers(facts: &NodeFacts, name: &str) -> bool {
    identity(facts, name).is_none() && Path::new(&facts.unit_dir).join(name).symlink_metadata().is_ok()
}

/// Whose a pod's slice is, as far as its file says: a kubelet's has no section of ours.
pub(crate) fn slice_owner(facts: &NodeFacts, name: &str) -> Option<UnitIdentity> {
    section(&facts.unit_dir, name).map(|(identity, _)| identity)
}

/// A uid becomes a path component: one that is none is nobody's.
fn is_component(uid: &str) -> bool {
    !uid.is_empty() && uid.len() <= 64 && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The unit files of the pod's slices.
pub(super) fn slices_of(facts: &NodeFacts, uid: &str) -> Vec<String> {
    let end = format!("-pod{}.slice", uid.replace('-', "_"));
    let names = names_in(&facts.unit_dir).into_iter().filter(|n| is_pod_slice(facts, n) && n.ends_with(&end));
    names.filter(|n| is_of_pod(facts, n, uid)).collect()
}

/// Whether a unit file is one of the pod's.
pub(super) fn is_of_pod(facts: &NodeFacts, name: &str, uid: &str) -> bool {
    identity(facts, name).is_some_and(|identity| identity.uid == uid)
}

/// What is left of one pod's units. Their names hold a hash of its uid, so that no other pod's file is read; whose they are
/// is still read from the file.
pub(super) fn find_pod(facts: &NodeFacts, uid: &str) -> Found {
    let mark = format!("_{}_", uid_mark(uid));
    let names = names_in(&facts.unit_dir).into_iter().filter(|n| n.starts_with(PREFIX) && n.contains(&mark));
    Found { units: names.filter_map(|n| identity(facts, &n)).filter(|i| i.uid == uid).collect() }
}

/// A history for a pod whose own was lost: the newest attempt of each container that has a unit.
pub(super) fn rebuilt(uid: &str, found: &Found) -> PodHistory {
    let mut history = PodHistory { version: HISTORY_VERSION, uid: uid.to_owned(), ..PodHistory::default() };
    for unit in &found.units {
        history.namespace.clone_from(&unit.namespace);
        history.name.clone_from(&unit.pod);
        if unit.container.is_empty() {
            continue;
        }
        let container: &mut ContainerHistory = history.containers.entry(unit.container.clone()).or_default();
        container.attempt = container.attempt.max(Some(unit.attempt));
        // Restarts before the loss are counted by the attempt's number.
        container.restart_count = container.attempt.unwrap_or(0);
    }
    history
}
