//! Who else keeps pods on this machine. Below one cgroup root there is one owner of pods: two would kill each other's.

use std::path::{Path, PathBuf};

use plan::inputs::NodeFacts;

use crate::reconcile::orphans;

/// Where a pod's slice is that is not ours, a kubelet or another systemk lives.
///
/// # Errors
/// A sentence that says whose pods are there and what to do.
pub(super) fn refuse(facts: &NodeFacts) -> anyhow::Result<()> {
    let ours = orphans::find(facts);
    for base in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let root = Path::new(base).join(format!("{}.slice", facts.slice_root));
        for name in pod_slices(&root) {
            let owner = orphans::slice_owner(facts, &name);
            if owner.as_ref().is_some_and(|owner| ours.contains_key(&owner.uid)) {
                continue;
            }
            let whose = match owner {
                None => "which is not systemk's: is a kubelet running here? Choose another --cgroup-root".to_owned(),
                Some(owner) => format!(
                    "the slice of pod {}/{} of another systemk (node {}), whose --run-dir is not {}. Choose another \
                     --cgroup-root (and a --state-dir of its own), or that agent's --run-dir and --state-dir to take its pods over",
                    owner.namespace, owner.pod, owner.node, facts.run_root
                ),
            };
            anyhow::bail!("{} holds {name}, {whose}", root.display());
        }
    }
    Ok(())
}

fn pod_slices(root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for (name, path) in below(root) {
        if name.contains("-pod") {
            names.push(name);
        } else {
            names.extend(below(&path).into_iter().map(|(n, _)| n).filter(|n| n.contains("-pod")));
        }
    }
    names
}

fn below(dir: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .filter_map(|e| Some((e.file_name().into_string().ok()?, e.path())))
        .collect()
}
