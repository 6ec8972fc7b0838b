//! The services of the cluster, for the variables that tell pods of them: one watch, of which a few words a service are
//! kept. A pod is not woken by a change: what a program was started with stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Service;
use kube::Client;
use plan::inputs::ServiceAddress;
use tokio::sync::mpsc;

use super::error::explain;
use super::outage::{Once, Outage};
use super::watching::{Event, Streams, Watch, Watched};
use crate::wake::Wake;

/// Those of one namespace that have an address, by name.
pub(crate) type OfNamespace = Arc<BTreeMap<String, ServiceAddress>>;

/// By namespace.
type All = BTreeMap<String, OfNamespace>;

#[derive(Default)]
struct Known {
    /// None: the first list has not come.
    services: Option<All>,
    /// Why not.
    why: Option<String>,
    /// The pods that wait for it.
    waiting: BTreeSet<String>,
}

/// All that there are.
pub(crate) struct Services {
    wake: mpsc::UnboundedSender<Wake>,
    known: Mutex<Known>,
}

impl Services {
    pub(crate) fn new(wake: mpsc::UnboundedSender<Wake>) -> Self {
        Self { wake, known: Mutex::default() }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Known) -> R) -> R {
        f(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The services of a pod's namespace; while nothing is known of any, why, for people: the pod is woken then. The kubelet
    /// starts no pod before that either, since it would lack its variables for good.
    pub(crate) fn of_pod(&self, uid: &str, namespace: &str) -> Result<OfNamespace, String> {
        self.with(|known| match &known.services {
            Some(services) => Ok(services.get(namespace).cloned().unwrap_or_default()),
            None => {
                known.waiting.insert(uid.to_owned());
                Err(known.why.as_ref().map_or("services".to_owned(), |why| format!("services ({why})")))
            }
        })
    }

    /// The pod is gone.
    pub(crate) fn release(&self, uid: &str) {
        self.with(|known| known.waiting.remove(uid));
    }

    fn listed(&self, services: All) {
        let waiting = self.with(|known| {
            (known.services, known.why) = (Some(services), None);
            std::mem::take(&mut known.waiting)
        });
        self.wake_all(waiting);
    }

    fn failed(&self, why: &str) {
        let waiting = self.with(|known| {
            let told = known.services.is_some() || known.why.as_deref() == Some(why);
            known.why = Some(why.to_owned()).filter(|_| known.services.is_none());
            if told { BTreeSet::new() } else { known.waiting.clone() }
        });
        self.wake_all(waiting);
    }

    fn changed(&self, change: impl FnOnce(&mut All)) {
        self.with(|known| known.services.as_mut().map(change));
    }

    fn wake_all(&self, waiting: BTreeSet<String>) {
        for uid in waiting {
            let _ended = self.wake.send(Wake::Pod(uid));
        }
    }
}

fn put(services: &mut All, service: &Service) {
    let Some(address) = ServiceAddress::of(service) else { return remove(services, service) };
    let name = service.metadata.name.clone().unwrap_or_default();
    let namespace = service.metadata.namespace.clone().unwrap_or_default();
    Arc::make_mut(services.entry(namespace).or_default()).insert(name, address);
}

fn remove(services: &mut All, service: &Service) {
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let Some(of_namespace) = services.get_mut(namespace) else { return };
    let of_namespace = Arc::make_mut(of_namespace);
    of_namespace.remove(service.metadata.name.as_deref().unwrap_or_default());
    if of_namespace.is_empty() {
        services.remove(namespace);
    }
}

/// Watches until the runtime ends.
pub(super) async fn watch(services: Arc<Services>, client: Client, streams: Streams, outage: Arc<Outage>) {
    let mut events = Watch::<Service>::new(client, Watched::all(streams));
    let mut listed = All::new();
    let mut refused = Once::default();
    loop {
        match events.next().await {
            Ok(Event::Init) => listed = All::new(),
            Ok(Event::InitApply(service)) => put(&mut listed, &service),
            Ok(Event::InitDone) => {
                outage.over();
                refused.succeeded();
                services.listed(std::mem::take(&mut listed));
            }
            Ok(Event::Apply(service)) => services.changed(|all| put(all, &service)),
            Ok(Event::Delete(service)) => {
                // It may go while it is told what there is.
                remove(&mut listed, &service);
                services.changed(|all| remove(all, &service));
            }
            Err(error) => {
                let text = explain(&error);
                services.failed(&text);
                if !outage.met(&error) && refused.is_new(&text) {
                    tracing::warn!("cannot watch the services; trying again: {text}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
