//! The node as a member of a cluster: what the API server says becomes wakes of the loop, what the loop comes to becomes
//! statuses, events and deletions. Everything here may fail at any time and is tried again; no pod waits for it that runs.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::wake::Wake;

pub(crate) mod backoff;
pub(crate) mod connect;
mod credential;
pub(crate) mod error;
pub(crate) mod events;
#[cfg(test)]
mod fake_server;
mod lease;
pub(crate) mod mirrors;
pub(crate) mod node;
pub(crate) mod objects;
mod outage;
pub(crate) mod pods;
pub(crate) mod services;
pub(crate) mod statuses;
pub(crate) mod tokens;
mod watching;

use connect::Clients;
use events::Events;
use node::{Description, Heartbeats, NameLost, NodeUid};
use objects::Objects;
use outage::Outage;
use pods::PodEvent;
use services::Services;
use statuses::Statuses;
use tokens::Tokens;
use watching::Streams;

/// What the loop has of the cluster.
pub(crate) struct Cluster {
    /// To the API server.
    pub(crate) clients: Clients,
    /// What it is told of the pods.
    pub(crate) statuses: Arc<Statuses>,
    /// What happened.
    pub(crate) events: Arc<Events>,
    /// The ConfigMaps and Secrets that its pods use.
    pub(crate) objects: Arc<Objects>,
    /// The tokens of its pods' service accounts.
    pub(crate) tokens: Arc<Tokens>,
    /// The services that its pods are told of.
    pub(crate) services: Arc<Services>,
    /// The uid of its Node, once it is registered.
    pub(crate) node_uid: NodeUid,
}

impl Cluster {
    /// What the API server has of a pod's status, before the loop acts on it.
    pub(crate) fn heard(&self, event: &PodEvent) {
        match event {
            PodEvent::Listed(pods) => self.statuses.listed(pods),
            PodEvent::Applied(pod) => self.statuses.heard(pod),
            PodEvent::Deleted(pod) => self.statuses.forget(pod),
        }
    }

    /// Nothing is left of the pod here: what was kept for it is dropped.
    pub(crate) fn release(&self, uid: &str) {
        self.objects.release(uid);
        self.tokens.release(uid);
        self.services.release(uid);
    }

    /// Registers the node, watches and reports; ends with the runtime, or when the node has become another machine's: then the
    /// agent must end.
    pub(crate) fn start(
        clients: Clients,
        description: Description,
        wake: mpsc::UnboundedSender<Wake>,
    ) -> (Self, JoinHandle<NameLost>) {
        let name = description.facts.node_name.clone();
        let outage = Arc::new(Outage::new(clients.url.to_string(), name.clone(), clients.credential.clone()));
        let heartbeats = Arc::new(Heartbeats::new(Arc::clone(&outage)));
        let node_uid = heartbeats.uid.subscribe();
        let label = clients.credential.node().is_none();
        let events = Arc::new(Events::new(&name));
        let kept =
            node::keep(clients.heartbeat.clone(), description, Arc::clone(&heartbeats), Arc::clone(&events), label);
        let kept = tokio::spawn(kept);
        tokio::spawn(lease::renew(clients.heartbeat.clone(), name.clone(), Arc::clone(&heartbeats)));
        let streams = Streams::default();
        let statuses = Arc::new(Statuses::default());
        let objects = Arc::new(Objects::new(clients.main.clone(), streams.clone(), wake.clone()));
        let tokens = Arc::new(Tokens::new(wake.clone()));
        let services = Arc::new(Services::new(wake.clone()));
        tokio::spawn(events::send(Arc::clone(&events), clients.main.clone()));
        let others = node::watch_node(clients.main.clone(), name.clone(), streams.clone(), heartbeats);
        let pods = pods::watch(clients.main.clone(), name, streams.clone(), Arc::clone(&outage), wake);
        let mut registered = node_uid.clone();
        tokio::spawn(async move {
            // Until then the pods of this name may be another machine's.
            if registered.wait_for(Option::is_some).await.is_ok() {
                tokio::join!(pods, others);
            }
        });
        tokio::spawn(statuses::send(Arc::clone(&statuses), clients.main.clone()));
        tokio::spawn(tokens::keep(Arc::clone(&tokens), clients.main.clone()));
        tokio::spawn(services::watch(Arc::clone(&services), clients.main.clone(), streams, outage));
        (Self { clients, statuses, events, objects, tokens, services, node_uid }, kept)
    }
}
