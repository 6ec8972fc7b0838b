//! Every agent watches its manifests by an inotify instance, and a user may have 128 of them: a limit of machines, of which this
//! one stands for many.

use std::fs;

use anyhow::{Context, Result};

const FILE: &str = "/proc/sys/fs/inotify/max_user_instances";

/// So many agents need no higher limit.
const FEW: usize = 32;

/// The limit as it was, where it was raised; put back when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Inotify {
    before: Option<usize>,
}

impl Inotify {
    /// Makes room for so many more; few have room as it is.
    pub(super) fn allow(&mut self, count: usize) -> Result<()> {
        if count <= FEW {
            return Ok(());
        }
        let text = fs::read_to_string(FILE).with_context(|| format!("read {FILE}"))?;
        let now: usize = text.trim().parse().with_context(|| format!("read {FILE}"))?;
        let before = *self.before.get_or_insert(now);
        fs::write(FILE, (before + count).to_string()).with_context(|| format!("raise {FILE}"))
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        if let Some(before) = self.before
            && let Err(error) = fs::write(FILE, before.to_string())
        {
            crate::progress::line(&format!("{FILE} was {before} and could not be put back: {error}"));
        }
    }
}
