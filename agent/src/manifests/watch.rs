//! inotify to rereads. Each file is read when it has been quiet for a moment; a lost event (queue overflow) means that
//! everything is read. A directory that is not there is waited for through its nearest parent.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::directory::{Directory, is_manifest};
use super::merge::merge;
use super::{ManifestConfig, ManifestError, SourceEvent};

/// How long a file has to be quiet before it is read: editors write in several steps.
const QUIET: Duration = Duration::from_millis(50);
/// A file that is never quiet is read nevertheless.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn run(config: ManifestConfig, events: mpsc::Sender<SourceEvent>) -> Result<(), ManifestError> {
    let inotify = Inotify::init().map_err(ManifestError::Watch)?;
    let mut stream = inotify.into_event_stream(vec![0; 16 * 1024]).map_err(ManifestError::Watch)?;
    let mut directories: Vec<Directory> = config.directories.iter().cloned().map(Directory::new).collect();
    let mut watching = Watching { watches: stream.watches(), paths: &config.directories, by_watch: HashMap::new() };
    let mut due = Due::default();
    for index in 0..directories.len() {
        // Watched before it is read, so that nothing can fall between the two.
        watching.arm(index);
        due.mark(index, None, Instant::now());
    }
    let mut last = None;
    loop {
        let ready = due.take(Instant::now());
        if !ready.is_empty() {
            let node_name = config.node_name.clone();
            let read = tokio::task::spawn_blocking(move || {
                let mut changed = false;
                for (index, name) in ready {
                    changed |= match name {
                        Some(name) => directories[index].read(&name, &node_name),
                        None => directories[index].rescan(&node_name),
                    };
                }
                (directories, changed)
            });
            let changed;
            (directories, changed) = read.await.map_err(ManifestError::Read)?;
            if changed || last.is_none() {
                let snapshot = merge(&directories);
                if last.as_ref() != Some(&snapshot) {
                    if events.send(SourceEvent::Objects(Box::new(snapshot.clone()))).await.is_err() {
                        return Ok(());
                    }
                    last = Some(snapshot);
                }
            }
            continue;
        }
        let next = due.next();
        tokio::select! {
            event = stream.next() => match event {
                Some(Ok(event)) => watching.note(&event, &mut due),
                Some(Err(error)) => return Err(ManifestError::Watch(error)),
                None => return Ok(()),
            },
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            () = events.closed() => return Ok(()),
        }
    }
}

/// What has to be read, and when: a file, or (None) a whole directory.
#[derive(Default)]
struct Due {
    since: BTreeMap<(usize, Option<OsString>), (Instant, Instant)>,
}

impl Due {
    fn mark(&mut self, index: usize, name: Option<OsString>, at: Instant) {
        let entry = self.since.entry((index, name)).or_insert((at, at + PATIENCE));
        entry.0 = at;
    }

    fn next(&self) -> Option<Instant> {
        self.since.values().map(|(at, latest)| *at.min(latest)).min()
    }

    fn take(&mut self, now: Instant) -> Vec<(usize, Option<OsString>)> {
        let ready = |(at, latest): &(Instant, Instant)| *at.min(latest) <= now;
        let keys: Vec<_> = self.since.iter().filter(|(_, times)| ready(times)).map(|(key, _)| key.clone()).collect();
        for key in &keys {
            self.since.remove(key);
        }
        keys
    }
}

struct Watching<'a> {
    watches: Watches,
    paths: &'a [PathBuf],
    /// The directories that a watch is for, and whether it is on the directory itself or on a parent of it.
    by_watch: HashMap<WatchDescriptor, Vec<(usize, bool)>>,
}

impl Watching<'_> {
    /// Watches the directory, or its nearest parent that exists.
    fn arm(&mut self, index: usize) {
        for watched in self.by_watch.values_mut() {
            watched.retain(|(other, _)| *other != index);
        }
        let files = WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO | WatchMask::MOVED_FROM | WatchMask::DELETE;
        let itself = WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ONLYDIR;
        let mask = files | itself | WatchMask::CREATE | WatchMask::ATTRIB | WatchMask::MASK_ADD;
        let path = &self.paths[index];
        // A second try covers a directory that was made between the failed watch on it and the watch on its parent.
        for _ in 0..64 {
            let mut found = None;
            for (depth, candidate) in path.ancestors().enumerate() {
                let candidate = if candidate.as_os_str().is_empty() { Path::new(".") } else { candidate };
                if let Ok(watch) = self.watches.add(candidate, mask) {
                    found = Some((watch, depth));
                    break;
                }
            }
            let Some((watch, depth)) = found else { return };
            self.by_watch.entry(watch).or_default().push((index, depth == 0));
            let missing = |depth: usize| path.ancestors().nth(depth).is_none_or(|path| !path.is_dir());
            if depth == 0 || missing(depth - 1) {
                return;
            }
        }
    }

    fn note(&mut self, event: &Event<OsString>, due: &mut Due) {
        let now = Instant::now();
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            for index in 0..self.paths.len() {
                self.arm(index);
                due.mark(index, None, now);
            }
            return;
        }
        let Some(watched) = self.by_watch.get(&event.wd).cloned() else { return };
        if event.mask.contains(EventMask::IGNORED) {
            self.by_watch.remove(&event.wd);
        }
        let lost = event.mask.intersects(EventMask::IGNORED | EventMask::DELETE_SELF | EventMask::MOVE_SELF);
        if event.mask.contains(EventMask::MOVE_SELF) {
            // The watch would follow the directory to where it is now.
            self.by_watch.remove(&event.wd);
            self.watches.remove(event.wd.clone()).ok();
        }
        for (index, itself) in watched {
            if lost || !itself {
                self.arm(index);
                due.mark(index, None, now + QUIET);
            } else if let Some(name) = event.name.as_deref() {
                self.note_file(index, name, event.mask, due, now);
            }
        }
    }

    fn note_file(&self, index: usize, name: &OsStr, mask: EventMask, due: &mut Due, now: Instant) {
        if name.as_bytes().starts_with(b"..") {
            // A mounted ConfigMap: every file is a link through `..data`, which was just exchanged.
            due.mark(index, None, now + QUIET);
            return;
        }
        if !is_manifest(name) {
            return;
        }
        if mask.contains(EventMask::CREATE) {
            // A file that is being written will be closed; a link is complete at once.
            let path = self.paths[index].join(name);
            let writing = std::fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.nlink() == 1);
            if writing {
                return;
            }
        }
        due.mark(index, Some(name.to_owned()), now + QUIET);
    }
}
