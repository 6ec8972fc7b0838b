//! This machine's Node object: registered, kept true, and made again when somebody has deleted it. One task, of two that write
//! heartbeats; the other is the Lease's.
//!
//! Takes what is measured and what the rest of the agent says of itself; gives the uid of the Node, without which nothing of
//! the cluster is begun: a machine whose name is another's must not run that one's pods.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use plan::node::RENEW_MS;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::backoff::{Backoff, jittered};
use super::error::{code, explain, retry_after, within};
use super::events::Events;
use super::outage::{Once, Outage};
use super::watching::number;
use crate::reconcile::failpoint::crossing;

mod describe;
mod health;
mod others;
mod register;
mod told;

pub(crate) use describe::Description;
pub(crate) use health::{Ask, Health};
pub(super) use others::watch_node;
use register::{Known, RegisterError, Registration};
use told::Told;

/// How long a request about a heartbeat may take: a late one is worth less than the next.
pub(super) const REQUEST: Duration = Duration::from_secs(10);

/// How often the machine is looked at (`nodeStatusUpdateFrequency`). Nothing is sent unless something has changed.
const LOOK: Duration = Duration::from_secs(10);

/// How often it is looked whether the machine that has this one's name is still there.
const ASK_AGAIN: Duration = Duration::from_millis(RENEW_MS.unsigned_abs());

/// Shown by `kubectl get nodes` as the role. NodeRestriction refuses it from a node.
const ROLE: &str = "node-role.kubernetes.io/agent";

/// The uid of the registered Node; None: not yet.
pub(crate) type NodeUid = watch::Receiver<Option<String>>;

/// Another machine has become the Node that this one was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "another machine (machine id {machine_id}) has become the node {name:?} while this one was not heard of: the agent ends, \
     its pods go on. Give one of the two another --nodename"
)]
pub(crate) struct NameLost {
    name: String,
    machine_id: String,
}

/// What the two tasks of the heartbeat share.
pub(super) struct Heartbeats {
    /// The uid of the Node; sent again after each doubt.
    pub(super) uid: watch::Sender<Option<String>>,
    /// Somebody has touched the Lease: is the Node still ours?
    pub(super) doubt: Notify,
    /// The Node as its watch has shown it, until it is looked at.
    seen: Mutex<Option<Box<Node>>>,
    pub(super) outage: Arc<Outage>,
}

impl Heartbeats {
    pub(super) fn new(outage: Arc<Outage>) -> Self {
        Self { uid: watch::channel(None).0, doubt: Notify::new(), seen: Mutex::default(), outage }
    }

    fn saw(&self, node: Node) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(node));
    }

    /// The same Node as others have changed it since: a report that starts from an older one is refused as a conflict.
    fn newer_than(&self, node: &Node) -> Option<Node> {
        let version = |node: &Node| node.metadata.resource_version.as_deref().and_then(number);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        (seen.metadata.uid == node.metadata.uid && version(&seen) > version(node)).then_some(*seen)
    }
}

/// Registers, and keeps the Node true until it is another machine's.
pub(super) async fn keep(
    client: Client,
    description: Description,
    heartbeats: Arc<Heartbeats>,
    events: Arc<Events>,
    label: bool,
) -> NameLost {
    let name = description.name().to_owned();
    let mut registration = Registration::new(client.clone(), description);
    let (mut node, said) = first(&mut registration, &heartbeats).await;
    tracing::info!(uid = node.metadata.uid, "registered as node {name}");
    heartbeats.uid.send_replace(node.metadata.uid.clone());
    if label {
        tokio::spawn(set_role(client, node.clone()));
    }
    let mut told = Told::new(events, &node);
    let mut backoff = Backoff::default();
    let mut refused = Once::default();
    let mut at = Instant::now() + if said { LOOK } else { backoff.failed(None) };
    let mut doubted = !said;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(at) => {}
            () = heartbeats.doubt.notified() => {
                doubted = true;
                // It waits for its time, as what has failed does.
                if backoff.is_failing() {
                    continue;
                }
            }
        }
        registration.description.look().await;
        match heartbeats.newer_than(&node) {
            Some(newer) if registration.says_ours(&newer) => node = newer,
            // Whose it is has to be asked before it is written to.
            Some(_) => doubted = true,
            None => {}
        }
        let known = if doubted { Known::Unsure } else { Known::Read(Box::new(node.clone())) };
        let error = match registration.settle(known).await {
            Ok(now) => {
                if now.metadata.uid != node.metadata.uid {
                    tracing::warn!("the node {name} was deleted from the cluster by somebody: registered again");
                }
                if doubted || now.metadata.uid != node.metadata.uid {
                    heartbeats.uid.send_replace(now.metadata.uid.clone());
                }
                if doubted || now.metadata.resource_version != node.metadata.resource_version {
                    heartbeats.outage.over();
                }
                told.tell(&now, &registration.description);
                (node, doubted) = (now, false);
                backoff.succeeded();
                refused.succeeded();
                at = Instant::now() + LOOK;
                continue;
            }
            Err(RegisterError::Taken { machine_id, .. }) => return NameLost { name, machine_id },
            Err(RegisterError::Unsaid { node: found, error }) => {
                // It is ours: the Lease need not wait until its status is taken.
                if doubted {
                    heartbeats.uid.send_replace(found.metadata.uid.clone());
                }
                node = *found;
                error
            }
            Err(RegisterError::Request(error)) => error,
        };
        tell(&error, &heartbeats.outage, &mut refused, &format!("cannot update the node {name}"));
        // What the API server has is not known any more: the request may have been carried out.
        doubted = true;
        at = Instant::now() + backoff.failed(retry_after(&error));
    }
}

/// Tries until the Node is there and ours; gives it, and whether it says all that it should.
async fn first(registration: &mut Registration, heartbeats: &Heartbeats) -> (Node, bool) {
    let name = registration.description.name().to_owned();
    let mut backoff = Backoff::default();
    let mut refused = Once::default();
    let mut known = Known::Nothing;
    loop {
        let wait = match registration.settle(known).await {
            Ok(node) => {
                heartbeats.outage.over();
                return (node, true);
            }
            Err(RegisterError::Unsaid { node, error }) => {
                tell(&error, &heartbeats.outage, &mut refused, &format!("cannot update the node {name}"));
                return (*node, false);
            }
            Err(RegisterError::Taken { machine_id, heartbeat_ms }) => {
                heartbeats.outage.over();
                if refused.is_new(&machine_id) {
                    let heard = heartbeat_ms.map_or_else(
                        || "without a heartbeat".to_owned(),
                        |age| format!("last heard of {} s ago", age.max(0) / 1000),
                    );
                    tracing::error!(
                        "the node {name:?} is another machine (machine id {machine_id}, {heard}): this one stays out of the \
                         cluster until that one is silent for 40 s. Give one of the two another --nodename"
                    );
                }
                known = Known::Unsure;
                jittered(ASK_AGAIN)
            }
            Err(RegisterError::Request(error)) => {
                tell(&error, &heartbeats.outage, &mut refused, &format!("cannot register the node {name}"));
                known = Known::Nothing;
                backoff.failed(retry_after(&error))
            }
        };
        tokio::time::sleep(wait).await;
        registration.description.look().await;
    }
}

/// Each reason once: as an outage, or as an answer to this request.
pub(super) fn tell(error: &kube::Error, outage: &Outage, refused: &mut Once, what: &str) {
    if outage.met(error) {
        return;
    }
    let text = outage.explain(error);
    if refused.is_new(&text) {
        tracing::warn!("{what}: {text}; trying again");
    }
}

/// An administrator's credential may label the node; for any other an administrator does it, so that it fails is no fault.
async fn set_role(client: Client, node: Node) {
    let there = node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(ROLE));
    let Some(name) = node.metadata.name.filter(|_| !there) else { return };
    let nodes: Api<Node> = Api::all(client);
    let labelled = json!({"metadata": {"labels": {ROLE: ""}}});
    let patch = Patch::Merge(&labelled);
    crossing("api.before-label");
    match within(REQUEST, nodes.patch_metadata(&name, &PatchParams::default(), &patch)).await {
        Ok(_) => tracing::info!("labelled the node {name} with {ROLE}"),
        Err(error) if code(&error) == Some(403) => {
            tracing::debug!("the node {name} gets no role from itself: {}", explain(&error));
        }
        Err(error) => tracing::warn!("cannot label the node {name} with {ROLE}: {}", explain(&error)),
    }
}

#[cfg(test)]
mod tests;
