//! The pods that are bound to this node, as the API server has them: one watch, begun anew whenever it breaks.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use tokio::sync::mpsc;

use super::outage::{Once, Outage};
use super::watching::{Event, Streams, Watch, Watched};
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
/// A node may only list and watch with this selector (node authorizer, `AuthorizeNodeWithSelectors`).
pub(super) async fn watch(
    client: Client,
    node_name: String,
    streams: Streams,
    outage: Arc<Outage>,
    wake: mpsc::UnboundedSender<Wake>,
) {
    let watched = Watched { fields: Some(format!("spec.nodeName={node_name}")), ..Watched::all(streams) };
    let mut pods = Watch::<Pod>::new(client, watched);
    let mut listed = None;
    let mut refused = Once::default();
    loop {
        let event = match pods.next().await {
            Ok(event) => event,
            Err(error) => {
                tell(&error, &outage, &mut refused);
                continue;
            }
        };
        outage.over();
        refused.succeeded();
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

/// Each new reason once.
fn tell(error: &kube::Error, outage: &Outage, refused: &mut Once) {
    if outage.met(error) {
        return;
    }
    let text = outage.explain(error);
    if refused.is_new(&text) {
        tracing::warn!("cannot watch this node's pods, which go on as they are; trying again: {text}");
    }
}
