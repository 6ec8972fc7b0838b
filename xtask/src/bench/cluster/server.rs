//! The API server as a client of its own: makes pods, deletes them, and watches what becomes of them. No kubectl: one costs a
//! tenth of a second, and its watch ends when the server ends it.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use futures_util::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ApiResource, DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Object;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::super::node::LONG;

/// Who asks for pods at once: as many requests in flight as of a busy controller.
const IN_FLIGHT: usize = 20;

/// What is looked at: parsing all of a hundred pods would take the time that is measured.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    /// Of a lease: its last renewal.
    pub(super) renew_time: Option<String>,
}

/// Of a node or a pod.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    phase: String,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

pub(super) type Seen = Object<Spec, Status>;

/// Whether a node or a pod is ready; a pod also runs.
pub(super) fn is_ready(seen: &Seen) -> bool {
    let Some(status) = &seen.status else { return false };
    let ready = status.conditions.iter().any(|c| c.kind == "Ready" && c.status == "True");
    ready && matches!(status.phase.as_str(), "" | "Running")
}

/// The kinds that can be watched.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Leases,
    Nodes,
    Pods,
}

impl Kind {
    fn resource(self) -> ApiResource {
        match self {
            Self::Leases => ApiResource::erase::<Lease>(&()),
            Self::Nodes => ApiResource::erase::<Node>(&()),
            Self::Pods => ApiResource::erase::<Pod>(&()),
        }
    }
}

/// A connection to the API server.
pub(super) struct Server {
    config: Config,
    runtime: Runtime,
    client: Client,
}

fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("start a runtime")
}

impl Server {
    /// As the user of the kubeconfig.
    pub(super) fn connect(kubeconfig: &Path) -> Result<Self> {
        let runtime = runtime()?;
        let file = Kubeconfig::read_from(kubeconfig).context("read the kubeconfig")?;
        let (config, client) = runtime.block_on(async {
            let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
            let config = config.context("use the kubeconfig")?;
            let client = Client::try_from(config.clone()).context("make a client")?;
            anyhow::Ok((config, client))
        })?;
        Ok(Self { config, runtime, client })
    }

    /// Makes pods, several at a time; gives when the first was asked for and when the last was there.
    pub(super) fn create(&self, namespace: &str, pods: Vec<Value>) -> Result<(Instant, Instant)> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pods: Vec<Pod> = pods.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().context("a pod")?;
        self.runtime.block_on(async {
            // The connections are there before the first pod is asked for.
            let one = ListParams::default().limit(1);
            let open = (0..IN_FLIGHT.min(pods.len())).map(|_| api.list_metadata(&one));
            futures_util::future::try_join_all(open).await.context("connect to the API server")?;
            let begun = Instant::now();
            let parameters = PostParams::default();
            let made = pods.iter().map(|pod| api.create(&parameters, pod));
            let mut made = futures_util::stream::iter(made).buffer_unordered(IN_FLIGHT);
            while let Some(made) = made.next().await {
                made.context("make a pod")?;
            }
            Ok((begun, Instant::now()))
        })
    }

    /// Deletes all pods of the namespace by one request; gives when it was asked for.
    pub(super) fn delete_pods(&self, namespace: &str, grace: Option<u32>) -> Result<Instant> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let parameters = DeleteParams { grace_period_seconds: grace, ..DeleteParams::default() };
        let begun = Instant::now();
        self.runtime
            .block_on(api.delete_collection(&parameters, &ListParams::default()))
            .context("delete all pods")
            .map(|_| begun)
    }

    /// Deletes a node, if it is there.
    pub(super) fn delete_node(&self, name: &str) -> Result<()> {
        let api: Api<Node> = Api::all(self.client.clone());
        match self.runtime.block_on(api.delete(name, &DeleteParams::default())) {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error).context("delete the node"),
        }
    }

    /// Watches what matches `fields`; what is there already has been seen when this returns.
    pub(super) fn watch(&self, kind: Kind, namespace: Option<&str>, fields: &str) -> Result<Watch> {
        let (config, namespace, fields) = (self.config.clone(), namespace.map(str::to_owned), fields.to_owned());
        let (sender, changes) = channel();
        let (stop, stopped) = oneshot::channel();
        thread::spawn(move || {
            let told = sender.clone();
            let watched = runtime().and_then(|runtime| {
                runtime.block_on(async {
                    tokio::select! {
                        ended = report(config, kind, namespace, &fields, sender) => ended,
                        // Nobody looks any more.
                        _ = stopped => Ok(()),
                    }
                })
            });
            if let Err(error) = watched {
                told.send((Instant::now(), Change::Broken(error))).ok();
            }
        });
        let mut watch = Watch { changes, begun: Vec::new(), _stop: stop };
        let (deadline, mut begun) = (Instant::now() + LONG, Vec::new());
        loop {
            match watch.next("the watch to begin", deadline)? {
                (_, Change::Begun) => break,
                (at, Change::Seen(seen)) => begun.push((at, seen)),
                (_, Change::Gone(_) | Change::Broken(_)) => {}
            }
        }
        watch.begun = begun;
        Ok(watch)
    }
}

/// Passes on what the API server says. kube's watcher goes on where it was when the server ends the watch.
async fn report(
    config: Config,
    kind: Kind,
    namespace: Option<String>,
    fields: &str,
    sender: Sender<(Instant, Change)>,
) -> Result<()> {
    let (client, resource) = (Client::try_from(config).context("make a client")?, kind.resource());
    let api: Api<Seen> = match namespace {
        Some(namespace) => Api::namespaced_with(client, &namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let config = watcher::Config::default();
    let config = if fields.is_empty() { config } else { config.fields(fields) };
    let mut events = Box::pin(watcher(api, config));
    let mut broken = None;
    while let Some(event) = events.next().await {
        let change = match event {
            Ok(Event::Init) => continue,
            Ok(Event::InitApply(seen) | Event::Apply(seen)) => Change::Seen(Box::new(seen)),
            Ok(Event::InitDone) => Change::Begun,
            Ok(Event::Delete(seen)) => Change::Gone(seen.metadata.name.unwrap_or_default()),
            Err(error) => {
                // The measurement would be wrong if it went on without this watch; once is the server's way to end one.
                if let Some(before) = broken.replace(Instant::now())
                    && before.elapsed() < Duration::from_secs(1)
                {
                    return Err(error).context("watch");
                }
                continue;
            }
        };
        if sender.send((Instant::now(), change)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// What happened to an object.
pub(super) enum Change {
    /// All that there was has been seen.
    Begun,
    /// It is there, and so.
    Seen(Box<Seen>),
    /// It of that name is not there any more.
    Gone(String),
    /// The watch cannot go on.
    Broken(anyhow::Error),
}

/// What a watcher was told, with the time at which each came.
pub(super) struct Watch {
    changes: Receiver<(Instant, Change)>,
    /// What was there when it began.
    begun: Vec<(Instant, Box<Seen>)>,
    /// Dropped with it, which ends the watch.
    _stop: oneshot::Sender<()>,
}

impl Watch {
    /// The next change.
    pub(super) fn next(&mut self, what: &str, deadline: Instant) -> Result<(Instant, Change)> {
        if let Some((at, seen)) = self.begun.pop() {
            return Ok((at, Change::Seen(seen)));
        }
        match self.changes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok((_, Change::Broken(error))) => Err(error.context(what.to_owned())),
            Ok(change) => Ok(change),
            Err(RecvTimeoutError::Timeout) => bail!("{what}: not within {LONG:?}"),
            Err(RecvTimeoutError::Disconnected) => Err(anyhow!("{what}: the watch is over")),
        }
    }

    /// Waits until an object is as `is` wants it; gives when that was seen.
    pub(super) fn wait(&mut self, what: &str, mut is: impl FnMut(&Seen) -> bool) -> Result<Instant> {
        let deadline = Instant::now() + LONG;
        loop {
            if let (at, Change::Seen(seen)) = self.next(what, deadline)?
                && is(&seen)
            {
                return Ok(at);
            }
        }
    }
}
