//! inotify to rereads. Each file is read when it has been quiet for a moment; a lost event (queue overflow) means that
//! everything is read. The parents of a directory are watched too, so it may come late, go and come back.

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
/// A file that was renamed into place is whole: this only gathers a burst of them.
const BURST: Duration = Duration::from_millis(5);
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
    /// The directories that a watch is for; on a parent of one, with the name of the child that leads to it.
    by_watch: HashMap<WatchDescriptor, Vec<(usize, Option<OsString>)>>,
}

impl Watching<'_> {
    /// Watches the directory and every parent of it: one that is made, or moved away with what is below, is noticed there.
    /// From the top down, so that what appears meanwhile is noticed by the watch above it.
    fn arm(&mut self, index: usize) {
        for watched in self.by_watch.values_mut() {
            watched.retain(|(other, _)| *other != index);
        }
        let files = WatchMask::CLOSE_WRITE | WatchMask::ATTRIB | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF;
        let entries = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::MOVED_FROM | WatchMask::DELETE;
        let entries = entries | WatchMask::ONLYDIR | WatchMask::MASK_ADD;
        let path = &self.paths[index];
        let mut child = None;
        let mut chain: Vec<(&Path, Option<OsString>)> = Vec::new();
        for candidate in path.ancestors() {
            chain.push((candidate, child));
            child = candidate.file_name().map(OsStr::to_owned);
        }
        for (candidate, child) in chain.into_iter().rev() {
            let mask = if child.is_none() { entries | files } else { entries };
            match self.watches.add(candidate, mask) {
                Ok(watch) => self.by_watch.entry(watch).or_default().push((index, child)),
                Err(_) => break,
            }
        }
        let unused: Vec<_> = self.by_watch.iter().filter(|(_, list)| list.is_empty()).map(|(w, _)| w.clone()).collect();
        for watch in unused {
            self.by_watch.remove(&watch);
            // It is of a directory that was moved or removed; in the latter case the kernel dropped it already.
            self.watches.remove(watch).ok();
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
        for (index, child) in watched {
            let on_the_way = child.is_some() && child == event.name;
            if lost || on_the_way {
                self.arm(index);
                due.mark(index, None, now + QUIET);
            } else if let (None, Some(name)) = (child, event.name.as_deref()) {
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
        let quiet = if mask.contains(EventMask::MOVED_TO) { BURST } else { QUIET };
        due.mark(index, Some(name.to_owned()), now + quiet);
    }
}
