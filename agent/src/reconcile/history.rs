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
