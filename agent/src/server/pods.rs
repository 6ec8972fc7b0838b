//! What the kubelet API may see of the loop: its pods, to read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use plan::fields::downward;
use plan::history::ContainerHistory;
use plan::journal::choose::{self, NoLog};
use tokio::sync::watch;

use crate::cluster::mirrors::mirror_name;
use crate::logs::ContainerName;
use crate::reconcile::report::shown;
use crate::world::{Entry, Origin, World};

/// An agent that has just begun looks at each of its pods before it knows what has run.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// The pods of this node.
#[derive(Clone)]
pub(crate) struct NodePods {
    world: Arc<Mutex<World>>,
    reports: watch::Receiver<u64>,
    /// This node's name, with which the API server's names of manifests' pods end.
    node: String,
}

/// Whose log is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogSource {
    pub(super) name: ContainerName,
    pub(super) attempt: u32,
    /// When this node first saw the pod, ms since the epoch.
    pub(super) started_ms: i64,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoSource {
    /// Not on this node.
    #[error("pod {0:?} does not exist")]
    Pod(String),
    /// Not in the pod.
    #[error("container {container:?} not found in pod {pod:?}")]
    Container {
        /// The pod's name.
        pod: String,
        /// The container's.
        container: String,
    },
    /// Nothing was written yet.
    #[error(transparent)]
    Log(#[from] NoLog),
}

impl NodePods {
    /// Of a loop that counts its reports.
    pub(crate) fn new(world: Arc<Mutex<World>>, reports: watch::Receiver<u64>, node: String) -> Self {
        Self { world, reports, node }
    }

    fn with<R>(&self, f: impl FnOnce(&World) -> R) -> R {
        f(&self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the loop still runs.
    pub(super) fn is_alive(&self) -> bool {
        self.reports.has_changed().is_ok()
    }

    /// All of them, by namespace and name.
    pub(super) fn list(&self) -> Vec<Pod> {
        let mut pods: Vec<Pod> =
            self.with(|world| world.entries.values().map(|entry| self.named_as_there(entry)).collect());
        let name = |pod: &Pod| (downward::namespace(pod).to_owned(), pod.metadata.name.clone());
        pods.sort_by_cached_key(name);
        pods
    }

    /// A pod of a manifest has the name of its mirror, as a kubelet's static pods have.
    fn named_as_there(&self, entry: &Entry) -> Pod {
        let mut pod = shown(entry);
        if let (Origin::Manifest(_), Some(name)) = (&entry.origin, &mut pod.metadata.name) {
            *name = format!("{name}-{}", self.node);
        }
        pod
    }

    /// Changes when something may have.
    pub(super) fn reports(&self) -> watch::Receiver<u64> {
        let mut reports = self.reports.clone();
        reports.mark_unchanged();
        reports
    }

    /// The log of a container, by what the request calls it.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        previous: bool,
    ) -> Result<LogSource, NoSource> {
        let mut reports = self.reports();
        let looked_at = reports.wait_for(|_| self.is_looked_at(namespace, pod));
        // What is not known by then is answered from what is.
        drop(tokio::time::timeout(FIRST_LOOK, looked_at).await);
        self.with(|world| {
            let entry = self.entry(world, namespace, pod).ok_or_else(|| NoSource::Pod(pod.to_owned()))?;
            source(entry, pod, container, previous)
        })
    }

    fn is_looked_at(&self, namespace: &str, pod: &str) -> bool {
        self.with(|world| self.entry(world, namespace, pod).is_none_or(|entry| entry.history.is_some()))
    }

    /// The pod of that name, or of which that is the mirror's; of two, the one that does not stop, and that of the cluster.
    fn entry<'w>(&self, world: &'w World, namespace: &str, name: &str) -> Option<&'w Entry> {
        let asked = format!("{namespace}/{name}");
        let named = |entry: &&Entry| {
            let of_manifest = matches!(entry.origin, Origin::Manifest(_));
            entry.full_name() == asked || of_manifest && mirror_name(&entry.pod, &self.node) == asked
        };
        let later = |entry: &&Entry| (entry.stop.is_some(), matches!(entry.origin, Origin::Manifest(_)));
        world.entries.values().filter(named).min_by_key(later)
    }

    /// Whether nothing more comes.
    pub(super) fn has_ended(&self, source: &LogSource) -> bool {
        self.with(|world| {
            let entry = world.entries.get(&source.name.uid);
            let Some(entry) = entry else { return true };
            // Before its first look nothing is known of an end.
            let Some(history) = &entry.history else { return false };
            choose::has_ended(history.containers.get(&source.name.container), source.attempt)
        })
    }
}

/// `asked`: what the request calls the pod.
fn source(entry: &Entry, asked: &str, container: &str, previous: bool) -> Result<LogSource, NoSource> {
    let names = |spec: &PodSpec| {
        let init = spec.init_containers.iter().flatten();
        init.chain(&spec.containers).any(|c| c.name == container)
    };
    if !entry.pod.spec.as_ref().is_some_and(names) {
        return Err(NoSource::Container { pod: asked.to_owned(), container: container.to_owned() });
    }
    let none = ContainerHistory::default();
    let of_pod = entry.history.as_ref();
    let history = of_pod.and_then(|history| history.containers.get(container)).unwrap_or(&none);
    let status = entry.status.as_ref().or(entry.pod.status.as_ref()).cloned().unwrap_or_default();
    let attempt = choose::attempt(asked, container, &status, history, previous)?;
    let name = ContainerName {
        namespace: downward::namespace(&entry.pod).to_owned(),
        pod: entry.pod.metadata.name.clone().unwrap_or_default(),
        uid: entry.pod.metadata.uid.clone().unwrap_or_default(),
        container: container.to_owned(),
    };
    Ok(LogSource { name, attempt, started_ms: of_pod.map_or(0, |history| history.started_ms) })
}
