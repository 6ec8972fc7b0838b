//! The node's heartbeat: its Lease, renewed every 10 s by one request. A task of its own on the heartbeats' connection, which
//! waits for nothing but its own answers.
//!
//! Upstream: v1.37 `component-helpers/apimachinery/lease/controller.go`. Unlike there, a Lease that somebody else has written
//! or deleted makes this node ask first whether it is still the one that the Node object names.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use plan::node::{LEASE_NAMESPACE, RENEW_MS};
use tokio::time::Instant;

use super::backoff::{Backoff, jittered};
use super::error::{code, retry_after, unsent, within};
use super::node::{Heartbeats, REQUEST, tell};
use super::outage::Once;
use crate::reconcile::failpoint::crossing;
use crate::reconcile::now_ms;

const RENEW: Duration = Duration::from_millis(RENEW_MS.unsigned_abs());

/// The Lease.
struct Heartbeat {
    leases: Api<Lease>,
    node_name: String,
    /// As this agent has read or written it last.
    known: Option<Lease>,
}

/// Why there was no heartbeat.
#[derive(Debug)]
enum BeatError {
    /// The Lease is gone, or somebody else has written it.
    Touched,
    /// A request failed.
    Request(kube::Error),
}

/// Renews until the runtime ends.
pub(super) async fn renew(client: Client, node_name: String, heartbeats: Arc<Heartbeats>) {
    let mut heartbeat = Heartbeat { leases: Api::namespaced(client, LEASE_NAMESPACE), node_name, known: None };
    let mut registered = heartbeats.uid.subscribe();
    let mut backoff = Backoff::default();
    let mut refused = Once::default();
    let mut first = true;
    loop {
        // The sender lives as long as what is renewed here.
        let Ok(uid) = registered.wait_for(Option::is_some).await.map(|uid| uid.clone().unwrap_or_default()) else {
            return;
        };
        let began = Instant::now();
        let wait = match heartbeat.beat(&uid).await {
            Ok(()) => {
                heartbeats.outage.over();
                backoff.succeeded();
                refused.succeeded();
                // The first time anywhere in the period: nodes that were started together must not beat together.
                let period = if std::mem::take(&mut first) { jittered(RENEW) } else { RENEW + jittered(RENEW / 25) };
                period.saturating_sub(began.elapsed())
            }
            Err(BeatError::Touched) => {
                registered.mark_unchanged();
                heartbeats.doubt.notify_one();
                if registered.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Err(BeatError::Request(error)) => {
                let what = format!("cannot renew the lease of the node {}", heartbeat.node_name);
                tell(&error, &heartbeats.outage, &mut refused, &what);
                backoff.failed(retry_after(&error)).min(RENEW)
            }
        };
        tokio::time::sleep(wait).await;
    }
}

impl Heartbeat {
    /// Renews the Lease of the Node of that uid; makes it where there is none.
    async fn beat(&mut self, node_uid: &str) -> Result<(), BeatError> {
        if let Some(known) = self.known.take() {
            return match self.patch(&known, node_uid).await {
                Ok(lease) => {
                    self.known = Some(lease);
                    Ok(())
                }
                Err(error) if matches!(code(&error), Some(404 | 409)) => Err(BeatError::Touched),
                Err(error) => {
                    // Else it may have been carried out all the same, and then nobody else has written it: it is read anew.
                    self.known = Some(known).filter(|_| unsent(&error));
                    Err(BeatError::Request(error))
                }
            };
        }
        crossing("api.before-get-lease");
        let found = within(REQUEST, self.leases.get_opt(&self.node_name)).await.map_err(BeatError::Request)?;
        let lease = match found {
            Some(lease) => self.patch(&lease, node_uid).await,
            None => {
                let lease = plan::node::lease(&self.node_name, node_uid, now_ms());
                crossing("api.before-create-lease");
                within(REQUEST, self.leases.create(&PostParams::default(), &lease)).await
            }
        };
        self.known = Some(lease.map_err(BeatError::Request)?);
        Ok(())
    }

    async fn patch(&self, known: &Lease, node_uid: &str) -> kube::Result<Lease> {
        let patch = plan::node::renewal(known, &self.node_name, node_uid, now_ms());
        let parameters = PatchParams::default();
        crossing("api.before-lease");
        within(REQUEST, self.leases.patch(&self.node_name, &parameters, &Patch::Merge(&patch))).await
    }
}

#[cfg(test)]
mod tests;
