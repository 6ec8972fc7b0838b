//! What the agent reports of its pods, as soon as it is written: inotify on the status files of a node.

use std::collections::HashMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use serde_json::Value;

/// The newest status of each pod by its name.
pub(super) struct Watch {
    inotify: OwnedFd,
    directory: PathBuf,
    /// Pod directories by their watch.
    watched: HashMap<i32, PathBuf>,
    pods: HashMap<PathBuf, (String, bool)>,
}

impl Watch {
    /// Watches the directory that has one directory for each pod.
    pub(super) fn new(directory: PathBuf) -> Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).context("make an inotify")?;
        let mut watch = Self { inotify, directory, watched: HashMap::new(), pods: HashMap::new() };
        let root = watch.directory.clone();
        watch.add(&root)?;
        for entry in fs::read_dir(&root).context("list the pods")? {
            watch.pod(&entry.context("list the pods")?.path())?;
        }
        Ok(watch)
    }

    /// Waits until `count` pods whose names begin with `prefix` run, all of their containers too.
    pub(super) fn running(&mut self, prefix: &str, count: usize, deadline: Duration) -> Result<Instant> {
        self.wait(deadline, &format!("{count} pods {prefix}* to run"), |pods| {
            pods.values().filter(|(name, runs)| *runs && name.starts_with(prefix)).count() >= count
        })
    }

    /// Waits until no pod whose name begins with `prefix` is reported any more.
    pub(super) fn gone(&mut self, prefix: &str, deadline: Duration) -> Result<Instant> {
        self.wait(deadline, &format!("the pods {prefix}* to be gone"), |pods| {
            !pods.values().any(|(name, _)| name.starts_with(prefix))
        })
    }

    fn wait(
        &mut self,
        deadline: Duration,
        what: &str,
        is: impl Fn(&HashMap<PathBuf, (String, bool)>) -> bool,
    ) -> Result<Instant> {
        let begun = Instant::now();
        while !is(&self.pods) {
            if begun.elapsed() > deadline {
                let running = self.pods.values().filter(|(_, runs)| *runs).count();
                bail!("{what}: not within {deadline:?} ({} pods are reported, {running} run)", self.pods.len());
            }
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], Some(&second)).context("wait for the inotify")?;
            self.take()?;
        }
        Ok(Instant::now())
    }

    /// Takes all events that there are.
    fn take(&mut self) -> Result<()> {
        let mut events = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
            events.push((event.wd(), event.events(), name));
        }
        for (watch, kind, name) in events {
            if kind.contains(ReadFlags::QUEUE_OVERFLOW) {
                bail!("the kernel dropped events: fewer pods at once");
            }
            if kind.contains(ReadFlags::IGNORED) {
                self.watched.remove(&watch);
                continue;
            }
            let (Some(parent), Some(name)) = (self.watched.get(&watch).cloned(), name) else { continue };
            let path = parent.join(&name);
            if parent != self.directory {
                if name == "status.json" {
                    self.read(&parent);
                }
            } else if kind.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
                self.pods.remove(&path);
            } else {
                self.pod(&path)?;
            }
        }
        Ok(())
    }

    fn pod(&mut self, directory: &Path) -> Result<()> {
        if directory.is_dir() {
            self.add(directory)?;
            // It may have been written before it was watched.
            self.read(directory);
        }
        Ok(())
    }

    fn add(&mut self, directory: &Path) -> Result<()> {
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE;
        match inotify::add_watch(&self.inotify, directory, flags) {
            Ok(watch) => {
                self.watched.insert(watch, directory.to_owned());
                Ok(())
            }
            // Gone again in between.
            Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("watch {}", directory.display())),
        }
    }

    fn read(&mut self, directory: &Path) {
        let Ok(text) = fs::read(directory.join("status.json")) else {
            self.pods.remove(directory);
            return;
        };
        let Ok(report) = serde_json::from_slice::<Value>(&text) else { return };
        let name = report["pod"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let status = &report["pod"]["status"];
        let containers = status["containerStatuses"].as_array();
        let all_run = containers.is_some_and(|all| all.iter().all(|c| c["state"]["running"].is_object()));
        self.pods.insert(directory.to_owned(), (name, status["phase"] == "Running" && all_run));
    }
}
