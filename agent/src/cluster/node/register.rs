//! The requests that make the Node object what it should be, in as few as there can be: one to make it, one to change it.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use plan::node::{Claim, LEASE_NAMESPACE, Silence};
use tokio::time::Instant;

use super::{Description, REQUEST};
use crate::cluster::backoff::random;
use crate::cluster::error::{code, within};
use crate::reconcile::failpoint::crossing;
use crate::reconcile::now_ms;

/// The Node and its Lease, and what they should be.
pub(super) struct Registration {
    nodes: Api<Node>,
    leases: Api<Lease>,
    pub(super) description: Description,
    /// So much before its time it says again what it has said: nodes that were started together do not report together.
    early_ms: i64,
    /// The last renewal of another machine that was seen, and since when it is the last one.
    heard: Option<(Option<MicroTime>, Instant)>,
}

/// What is known of the Node on the API server.
pub(super) enum Known {
    /// Nothing: it is made, or found to be there.
    Nothing,
    /// It was there, and may be gone or another's.
    Unsure,
    /// As this agent has read or written it last.
    Read(Box<Node>),
}

/// Why the Node is not what it should be.
#[derive(Debug)]
pub(super) enum RegisterError {
    /// It is another living machine's.
    Taken { machine_id: String, heartbeat_ms: Option<i64> },
    /// It is this machine's, but what it should say was not taken.
    Unsaid { node: Box<Node>, error: kube::Error },
    /// A request failed.
    Request(kube::Error),
}

impl From<kube::Error> for RegisterError {
    fn from(error: kube::Error) -> Self {
        Self::Request(error)
    }
}

/// Of the 5 minutes between two reports of the same, in milliseconds.
const MOST_EARLY_MS: f64 = 60_000.0;

/// Others write the Node too (its taints, its address ranges), mostly just after it was made.
const CONFLICTS: usize = 5;

impl Registration {
    pub(super) fn new(client: Client, description: Description) -> Self {
        let leases = Api::namespaced(client.clone(), LEASE_NAMESPACE);
        let early_ms = (random() * MOST_EARLY_MS) as i64;
        Self { nodes: Api::all(client), leases, description, early_ms, heard: None }
    }

    /// Makes the Node what it should be; gives it as it is then. Sends nothing where nothing has to be said.
    ///
    /// # Errors
    /// It is another machine's, or a request failed. Whose it is may be known all the same ([`RegisterError::Unsaid`]).
    pub(super) async fn settle(&mut self, mut known: Known) -> Result<Node, RegisterError> {
        let mut conflicts = 0;
        loop {
            let node = match known {
                Known::Read(node) => *node,
                Known::Nothing => match self.make().await {
                    Ok(node) => return Ok(node),
                    Err(error) if code(&error) == Some(409) && conflicts < CONFLICTS => {
                        conflicts += 1;
                        known = Known::Unsure;
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                },
                Known::Unsure => match self.find().await? {
                    Some(node) => node,
                    None => {
                        known = Known::Nothing;
                        continue;
                    }
                },
            };
            match self.change(&node).await {
                Ok(changed) => return Ok(changed.unwrap_or(node)),
                // Somebody was quicker, or has deleted it.
                Err(error) if matches!(code(&error), Some(404 | 409)) && conflicts < CONFLICTS => {
                    conflicts += 1;
                    known = Known::Unsure;
                }
                // One that still says another machine's name is not ours before it says this one's.
                Err(error) if self.says_ours(&node) => {
                    return Err(RegisterError::Unsaid { node: Box::new(node), error });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn make(&self) -> kube::Result<Node> {
        let node = self.description.node(None, now_ms());
        crossing("api.before-node");
        within(REQUEST, self.nodes.create(&PostParams::default(), &node)).await
    }

    /// The Node, if it is there and this machine's to write.
    async fn find(&mut self) -> Result<Option<Node>, RegisterError> {
        let name = self.description.name().to_owned();
        crossing("api.before-get-node");
        let Some(node) = within(REQUEST, self.nodes.get_opt(&name)).await? else { return Ok(None) };
        // Most of the time it says so itself; else its Lease tells whether somebody is there.
        if self.says_ours(&node) {
            self.heard = None;
            return Ok(Some(node));
        }
        crossing("api.before-get-lease");
        let lease = within(REQUEST, self.leases.get_opt(&name)).await?;
        let renewed = lease.as_ref().and_then(|lease| lease.spec.as_ref()?.renew_time.clone());
        let since = match self.heard.take() {
            Some((before, since)) if before == renewed => since,
            _ => Instant::now(),
        };
        self.heard = Some((renewed, since));
        let silence = Silence(i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX));
        match plan::node::claim(&node, lease.as_ref(), self.description.machine(), silence, now_ms()) {
            Claim::Ours => Ok(Some(node)),
            Claim::Replaced => {
                tracing::warn!(
                    "the node {name:?} was another machine or system, which is gone: this one takes its place"
                );
                self.heard = None;
                Ok(Some(node))
            }
            Claim::Taken { machine_id, heartbeat_ms } => Err(RegisterError::Taken { machine_id, heartbeat_ms }),
        }
    }

    /// Whether the object says that it is this machine.
    pub(super) fn says_ours(&self, node: &Node) -> bool {
        plan::node::claim(node, None, self.description.machine(), Silence::default(), now_ms()) == Claim::Ours
    }

    /// Gives the Node as it is then; None: it says all that it should.
    async fn change(&self, node: &Node) -> kube::Result<Option<Node>> {
        let now_ms = now_ms();
        let wanted = self.description.node(node.status.as_ref(), now_ms);
        let Some(patch) = plan::node::patch(node, &wanted, now_ms + self.early_ms) else { return Ok(None) };
        let (parameters, patch) = (PatchParams::default(), Patch::Strategic(&patch));
        crossing("api.before-node-status");
        let request = self.nodes.patch_status(self.description.name(), &parameters, &patch);
        within(REQUEST, request).await.map(Some)
    }
}
