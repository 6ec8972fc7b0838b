//! The histories' files: `/run/systemk/pods/<uid>/history.json`.

use std::path::PathBuf;

use plan::history::{HISTORY_VERSION, PodHistory};

use crate::files::{FileError, State, StateFile, make_dirs};

impl State for PodHistory {
    const VERSION: u32 = HISTORY_VERSION;
}

fn file(run_root: &str, uid: &str) -> StateFile<PodHistory> {
    StateFile::volatile(PathBuf::from(run_root).join("pods").join(uid).join("history.json"))
}

/// Saves a history; its directory is made, root only.
pub(super) fn save(run_root: &str, history: &PodHistory) -> Result<(), FileError> {
    make_dirs(&PathBuf::from(run_root).join("pods").join(&history.uid), 0o700, None)?;
    file(run_root, &history.uid).save(history)
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
