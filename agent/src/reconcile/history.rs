//! The histories' files: `/run/systemk/pods/<uid>/history.json`. What a pod has made on the host outside its own directories
//! is noted on disk as well, in `/var/lib/systemk/pods/<uid>/made-paths.json`: it outlives a reboot, and so must the note.

use std::path::PathBuf;

use plan::history::{HISTORY_VERSION, PodHistory};
use plan::inputs::NodeFacts;
use serde::{Deserialize, Serialize};

use crate::files::{FileError, State, StateFile, make_dirs};

impl State for PodHistory {
    const VERSION: u32 = HISTORY_VERSION;
}

fn file(run_root: &str, uid: &str) -> StateFile<PodHistory> {
    StateFile::volatile(PathBuf::from(run_root).join("pods").join(uid).join("history.json"))
}

/// The mount points of one pod on the host, deepest last.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MadePaths(Vec<String>);

impl State for MadePaths {
    const VERSION: u32 = 1;
}

fn made_paths_file(state_root: &str, uid: &str) -> StateFile<MadePaths> {
    StateFile::durable(PathBuf::from(state_root).join("pods").join(uid).join("made-paths.json"))
}

/// Saves a history; its directories are made, root only.
pub(super) fn save(facts: &NodeFacts, history: &PodHistory) -> Result<(), FileError> {
    make_dirs(&PathBuf::from(&facts.run_root).join("pods").join(&history.uid), 0o700, None)?;
    if !history.made_paths.is_empty() && made_paths(&facts.state_root, &history.uid)? != history.made_paths {
        make_dirs(&PathBuf::from(&facts.state_root).join("pods").join(&history.uid), 0o700, None)?;
        made_paths_file(&facts.state_root, &history.uid).save(&MadePaths(history.made_paths.clone()))?;
    }
    file(&facts.run_root, &history.uid).save(history)
}

/// What a pod has made on the host, by its note on disk: for a pod that has no history since a reboot.
pub(super) fn made_paths(state_root: &str, uid: &str) -> Result<Vec<String>, FileError> {
    let loaded = made_paths_file(state_root, uid).load()?;
    if let Some(warning) = loaded.warning {
        tracing::warn!(uid, "{warning}");
    }
    Ok(loaded.value.map(|paths| paths.0).unwrap_or_default())
}

/// A pod's saved history. A file that cannot be read is put aside; the history is then rebuilt from the units.
pub(super) fn load(run_root: &str, uid: &str) -> Result<Option<PodHistory>, FileError> {
    let loaded = file(run_root, uid).load()?;
    if let Some(warning) = loaded.warning {
        tracing::warn!(uid, "{warning}");
    }
    Ok(loaded.value.filter(|h| h.uid == uid))
}

/// Every pod's saved history. One that cannot be read is told of when its pod is looked at.
pub(super) fn all(run_root: &str) -> Vec<PodHistory> {
    let pods = std::fs::read_dir(PathBuf::from(run_root).join("pods")).into_iter().flatten().flatten();
    let uids = pods.filter_map(|pod| pod.file_name().into_string().ok());
    uids.filter_map(|uid| load(run_root, &uid).ok().flatten()).collect()
}
