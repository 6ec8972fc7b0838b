//! The cache directory: what is slow to make is made once, keyed by the content that made it.
//!
//! Takes a kind, the content of the recipe and a function that makes the entry; gives its path. Several processes may ask
//! at once: one makes it, the others wait. A half-made entry is never seen, as it only gets its name when it is done.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::eventually::wait_until;

/// The cache directory: `SYSTEMK_CACHE`, else `systemk` below `XDG_CACHE_HOME` or `~/.cache`. Made when missing.
pub fn directory() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = match (set("SYSTEMK_CACHE"), set("XDG_CACHE_HOME"), set("HOME")) {
        (Some(own), _, _) => own,
        (None, Some(xdg), _) => xdg.join("systemk"),
        (None, None, Some(home)) => home.join(".cache/systemk"),
        (None, None, None) => bail!("no cache directory: set SYSTEMK_CACHE to a directory on a disk (HOME is not set)"),
    };
    fs::create_dir_all(&directory)
        .with_context(|| format!("make the cache directory {} (SYSTEMK_CACHE names another)", directory.display()))?;
    directory.canonicalize().with_context(|| format!("resolve {}", directory.display()))
}

/// The key of an entry: a digest of everything that decides its content.
pub fn key(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        // The length keeps ["ab", "c"] and ["a", "bc"] apart.
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The entry `kind`/`key`, made by `make` (a file or a directory at the path it is given) when it is not there yet.
pub fn entry(kind: &str, key: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let parent = directory()?.join(kind);
    let path = parent.join(key);
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(&parent).with_context(|| format!("make {}", parent.display()))?;
    let _lock = lock(&parent.join(format!("{key}.lock")), &format!("another process to make {kind}/{key}"))?;
    if path.exists() {
        return Ok(path);
    }
    // What an interrupted run left: nobody else can be writing it while we hold the lock.
    let unfinished = parent.join(format!("{key}.unfinished"));
    remove(&unfinished)?;
    make(&unfinished).with_context(|| format!("make the cache entry {}", path.display()))?;
    fs::rename(&unfinished, &path).with_context(|| format!("put {} in place", path.display()))?;
    Ok(path)
}

/// Holds the lock file at `path` until the result is dropped; says what it waits for when another holds it.
pub fn lock(path: &Path, waiting_for: &str) -> Result<File> {
    let file = File::create(path).with_context(|| format!("open the lock {}", path.display()))?;
    // Most waits are over before anybody would wonder.
    let soon = wait_until(waiting_for, Duration::from_secs(2), || match file.try_lock() {
        Ok(()) => Some(Ok(())),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(error)) => Some(Err(error)),
    });
    if let Ok(tried) = soon {
        tried.with_context(|| format!("lock {}", path.display()))?;
        return Ok(file);
    }
    crate::progress::line(&format!("waiting for {waiting_for}"));
    file.lock().with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// Removes a file or a directory with all below it; nothing there is fine.
pub fn remove(path: &Path) -> Result<()> {
    let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
    if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
        .with_context(|| format!("remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_recipes_apart() {
        assert_eq!(key(&[b"a", b"b"]), key(&[b"a", b"b"]));
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
    }
}
