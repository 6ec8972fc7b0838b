//! Work on paths that a pod names. What lies behind one may not answer: a dead NFS server, a disk that hangs, a FUSE daemon
//! that is stuck. So it gets a thread of its own, one per pod, never one of the few that write our own files; after a
//! while the look goes on without it and says so, and another follows as soon as the path answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Shared;

/// A disk that has to spin up first answers within this.
const PATIENCE: Duration = Duration::from_secs(10);

/// A path of the host does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host does not answer for {path}: the file system there hangs")]
pub(crate) struct Stalled {
    path: String,
}

/// By uid: the path that the pod's work is at.
#[derive(Clone, Debug, Default)]
pub(super) struct HostWork(Arc<Mutex<BTreeMap<String, String>>>);

impl HostWork {
    fn with<R>(&self, f: impl FnOnce(&mut BTreeMap<String, String>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn stalled(&self, uid: &str) -> Stalled {
        Stalled { path: self.with(|at| at.get(uid).cloned()).unwrap_or_default() }
    }
}

/// One pod's work under way. Dropped when that ends, however it ends.
struct Begun {
    shared: Arc<Shared>,
    uid: String,
}

impl Begun {
    fn at(&self, path: &str) {
        self.shared.host_work.with(|at| at.insert(self.uid.clone(), path.to_owned()));
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.shared.host_work.with(|at| at.remove(&self.uid));
    }
}

/// Runs `work` on each of the paths in turn. While an earlier call for the pod still hangs nothing more is begun: tried
/// again and again, one stalled path would take a thread each time.
pub(super) async fn on_host<T: Send + 'static>(
    shared: &Arc<Shared>,
    uid: &str,
    paths: Vec<String>,
    work: impl Fn(&str) -> T + Send + 'static,
) -> Result<Vec<T>, Stalled> {
    let Some(first) = paths.first().cloned() else { return Ok(Vec::new()) };
    if shared.host_work.with(|at| at.contains_key(uid)) {
        return Err(shared.host_work.stalled(uid));
    }
    let begun = Begun { shared: Arc::clone(shared), uid: uid.to_owned() };
    begun.at(&first);
    let (done, result) = oneshot::channel();
    let run = move || {
        let each = |path: &String| {
            begun.at(path);
            work(path)
        };
        let results: Vec<T> = paths.iter().map(each).collect();
        let (all, pod) = (Arc::clone(&begun.shared), begun.uid.clone());
        drop(begun);
        if done.send(results).is_err() {
            // It was given up, and now it answers.
            all.look(&pod);
        }
    };
    // Not a thread of the runtime, which waits for its own when the agent ends.
    let thread = std::thread::Builder::new().name("host-path".to_owned()).spawn(run);
    let unanswered = Stalled { path: first };
    if thread.is_err() {
        return Err(unanswered);
    }
    match tokio::time::timeout(PATIENCE, result).await {
        Ok(results) => results.map_err(|_| unanswered),
        Err(_) => Err(shared.host_work.stalled(uid)),
    }
}
