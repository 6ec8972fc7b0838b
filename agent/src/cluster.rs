//! The node as a member of a cluster: what the API server says becomes wakes of the loop, what the loop comes to becomes
//! statuses, events and deletions. Everything here may fail at any time and is tried again; no pod waits for it that runs.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::wake::Wake;

mod backoff;
pub(crate) mod connect;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod mirrors;
pub(crate) mod objects;
pub(crate) mod pods;
pub(crate) mod services;
pub(crate) mod statuses;
pub(crate) mod tokens;

use connect::Clients;
use events::Events;
use objects::Objects;
use pods::PodEvent;
use services::Services;
use statuses::Statuses;
use tokens::Tokens;

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
}

impl Cluster {
    /// What the API server has of a pod's status, before the loop acts on it.
    pub(crate) fn heard(&self, event: &PodEvent) {
        match event {
            PodEvent::Listed(pods) => pods.iter().for_each(|pod| self.statuses.heard(pod)),
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

    /// Begins to watch and to report; ends with the runtime.
    pub(crate) fn start(clients: Clients, node_name: &str, wake: mpsc::UnboundedSender<Wake>) -> Self {
        let statuses = Arc::new(Statuses::default());
        let objects = Arc::new(Objects::new(clients.main.clone(), wake.clone()));
        let events = Arc::new(Events::new(node_name));
        let tokens = Arc::new(Tokens::new(wake.clone()));
        let services = Arc::new(Services::new(wake.clone()));
        tokio::spawn(events::send(Arc::clone(&events), clients.main.clone()));
        tokio::spawn(pods::watch(clients.main.clone(), node_name.to_owned(), wake));
        tokio::spawn(statuses::send(Arc::clone(&statuses), clients.main.clone()));
        tokio::spawn(tokens::keep(Arc::clone(&tokens), clients.main.clone()));
        tokio::spawn(services::watch(Arc::clone(&services), clients.main.clone()));
        Self { clients, statuses, events, objects, tokens, services }
    }
}
