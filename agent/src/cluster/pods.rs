//! The pods that are bound to this node, as the API server has them: one watch, begun anew whenever it breaks.

use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;

use super::backoff::WatchBackoff;
use super::error::{causes, request_of};
use super::outage::{Once, Outage};
use crate::wake::Wake;

/// What the API server says of this node's pods.
pub(crate) enum PodEvent {
    /// All that there are; of every other one nothing is known there any more.
    Listed(Vec<Pod>),
    /// It is new, or something of it has changed.
    Applied(Box<Pod>),
    /// It is not there any more.
    Deleted(Box<Pod>),
}

/// Watches until the loop ends.
///
/// A node may only list and watch with this selector (node authorizer, `AuthorizeNodeWithSelectors`). A 410 makes the
/// watcher list once more; between failures it waits longer each time,
/// with jitter.
pub(super) async fn watch(client: Client, node_name: String, outage: Arc<Outage>, wake: mpsc::UnboundedSender<Wake>) {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node_name}"));
    let mut events = pin!(watcher(Api::<Pod>::all(client), config).backoff(WatchBackoff::default()));
    let mut listed = None;
    let mut refused = Once::default();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tell(&error, &outage, &mut refused);
                continue;
            }
        };
        // That a list begins is no answer yet.
        if !matches!(event, Event::Init) {
            outage.over();
            refused.succeeded();
        }
        let event = match event {
            Event::Init => {
                listed = Some(Vec::new());
                continue;
            }
            Event::InitApply(pod) => {
                listed.get_or_insert_default().push(lean(pod));
                continue;
            }
            Event::InitDone => PodEvent::Listed(listed.take().unwrap_or_default()),
            Event::Apply(pod) => PodEvent::Applied(Box::new(lean(pod))),
            Event::Delete(pod) => PodEvent::Deleted(Box::new(lean(pod))),
        };
        if wake.send(Wake::Cluster(event)).is_err() {
            return;
        }
    }
}

/// Who manages which field is half of an object and of no use here.
fn lean(mut pod: Pod) -> Pod {
    pod.metadata.managed_fields = None;
    pod
}

/// Each new reason once. That a watch ends or is too old (410) is its way of life.
fn tell(error: &watcher::Error, outage: &Outage, refused: &mut Once) {
    if outage.met_watching(error) {
        return;
    }
    if matches!(error, watcher::Error::WatchError(status) if status.code == 410) {
        return;
    }
    let text = request_of(error).map_or_else(|| causes(error), |error| outage.explain(error));
    if refused.is_new(&text) {
        tracing::warn!("cannot watch this node's pods, which go on as they are; trying again: {text}");
    }
}
