//! What the API server is told of the pods: by pod the newest status, and its deletion once nothing is left of it.
//!
//! A status that was not sent yet is replaced by a newer one, so an outage ends with one patch for each pod that changed,
//! the latest first. Nothing is lost with the agent: what is true is found out again from the pods and the API server.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::backoff::{Backoff, jittered};
use super::error::{code, explain, retry_after, status};
use crate::reconcile::failpoint::crossing;

/// Requests in flight.
const IN_FLIGHT: usize = 32;

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(30);

/// When something that was forbidden is tried again.
const LATER: Duration = Duration::from_secs(60);

/// A pod that was not told of yet and is about to run is told of once, when it does.
const FIRST_PENDING: Duration = Duration::from_millis(250);

/// One pod.
struct Slot {
    namespace: String,
    name: String,
    /// The API server's status, of this version of the object.
    known: PodStatus,
    version: u64,
    /// What it should be.
    wanted: Option<PodStatus>,
    /// Counts changes of all pods: the latest is sent first.
    order: u64,
    /// A first status waits until then for one that says more.
    hold: Option<Instant>,
    /// It failed: not again before then, whatever there is to say.
    retry_at: Option<Instant>,
    backoff: Backoff,
    /// What was last said of a refusal.
    refused: Option<String>,
    /// Something was sent of it since this agent knows it.
    told: bool,
    /// Nothing is left of it here.
    gone: bool,
    sending: bool,
}

impl Slot {
    fn new(pod: &Pod) -> Self {
        Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            known: PodStatus::default(),
            version: 0,
            wanted: None,
            order: 0,
            hold: None,
            retry_at: None,
            backoff: Backoff::default(),
            refused: None,
            told: false,
            gone: false,
            sending: false,
        }
    }

    /// Takes over the API server's word, unless a newer one is known.
    fn learn(&mut self, pod: &Pod) {
        let version = version(pod);
        if version >= self.version {
            self.version = version;
            self.known = pod.status.clone().unwrap_or_default();
        }
    }

    /// When it can be sent; None: there is nothing to send, or it is on its way.
    fn due(&self) -> Option<Option<Instant>> {
        let something = !self.sending && (self.gone || self.wanted.is_some());
        something.then(|| self.hold.max(self.retry_at))
    }
}

/// By uid.
#[derive(Default)]
struct Slots {
    pods: BTreeMap<String, Slot>,
    changes: u64,
}

/// All that is to be told.
#[derive(Default)]
pub(crate) struct Statuses {
    slots: Mutex<Slots>,
    changed: Notify,
}

fn version(pod: &Pod) -> u64 {
    // Comparable since 1.35 (KEP-5504), and as etcd's revisions before that.
    pod.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

impl Statuses {
    fn with<R>(&self, f: impl FnOnce(&mut Slots) -> R) -> R {
        f(&mut self.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The API server's own word, which may have been changed by others.
    pub(crate) fn heard(&self, pod: &Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        self.with(|slots| {
            let slot = slots.pods.entry(uid).or_insert_with(|| Slot::new(pod));
            slot.learn(pod);
        });
    }

    /// This is the pod's status now.
    pub(crate) fn want(&self, uid: &str, status: PodStatus) {
        self.with(|slots| {
            slots.changes += 1;
            let order = slots.changes;
            let Some(slot) = slots.pods.get_mut(uid) else { return };
            if slot.wanted.is_none() && plan::status::patch(uid, &slot.known, &status).is_none() {
                return;
            }
            let starts = status.phase.as_deref() == Some("Pending") && !slot.told;
            slot.hold = if starts { slot.hold.or(Some(Instant::now() + FIRST_PENDING)) } else { None };
            (slot.wanted, slot.order) = (Some(status), order);
        });
        self.changed.notify_one();
    }

    /// Nothing is left of the pod on this node: the API server may forget it too.
    pub(crate) fn gone(&self, pod: &Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        self.with(|slots| {
            slots.changes += 1;
            let order = slots.changes;
            // Also one of which the API server has said lately that it is another's: it is for the deletion to find out.
            let slot = slots.pods.entry(uid).or_insert_with(|| Slot::new(pod));
            (slot.gone, slot.hold, slot.order) = (true, None, order);
        });
        self.changed.notify_one();
    }

    /// These are all that the API server has: what was to be said of others is nobody's any more.
    pub(crate) fn listed(&self, pods: &[Pod]) {
        let listed: BTreeSet<&str> = pods.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        self.with(|slots| slots.pods.retain(|uid, _| listed.contains(uid.as_str())));
        pods.iter().for_each(|pod| self.heard(pod));
    }

    /// The API server has forgotten it.
    pub(crate) fn forget(&self, pod: &Pod) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.with(|slots| slots.pods.remove(uid));
    }

    /// The next to be sent, and when there may be one if there is none now.
    fn next(&self) -> Result<Sending, Option<Instant>> {
        let now = Instant::now();
        self.with(|slots| {
            let ready = slots.pods.iter_mut().filter(|(_, slot)| slot.due().is_some_and(|at| at <= Some(now)));
            if let Some((uid, slot)) = ready.max_by_key(|(_, slot)| slot.order) {
                slot.sending = true;
                let patch = slot.wanted.as_ref().and_then(|wanted| plan::status::patch(uid, &slot.known, wanted));
                return Ok(Sending {
                    uid: uid.clone(),
                    namespace: slot.namespace.clone(),
                    name: slot.name.clone(),
                    patch,
                    order: slot.order,
                    delete: slot.gone,
                });
            }
            Err(slots.pods.values().filter_map(|slot| slot.due()?).min())
        })
    }

    /// What became of it.
    fn sent(&self, sending: &Sending, outcome: &Outcome) {
        self.with(|slots| {
            let Some(slot) = slots.pods.get_mut(&sending.uid) else { return };
            slot.sending = false;
            match outcome {
                Outcome::Done(pod) => {
                    slot.told = true;
                    slot.retry_at = None;
                    slot.refused = None;
                    slot.backoff.succeeded();
                    if let Some(pod) = pod {
                        slot.learn(pod);
                    }
                    if slot.order == sending.order {
                        slot.wanted = None;
                    }
                    if sending.delete {
                        slots.pods.remove(&sending.uid);
                    }
                }
                // The watch tells the rest.
                Outcome::Over => {
                    slots.pods.remove(&sending.uid);
                }
                Outcome::Refused { lasts, text } => {
                    if slot.refused.as_ref() != Some(text) {
                        let pod = format!("{}/{}", sending.namespace, sending.name);
                        tracing::warn!(pod, "{pod}: its status is not accepted: {text}");
                        slot.refused = Some(text.clone());
                    }
                    // The same words would be refused again; the deletion must not wait for them.
                    if *lasts && sending.patch.is_some() && slot.order == sending.order {
                        slot.wanted = None;
                    }
                    let deletion_failed = sending.delete && sending.patch.is_none();
                    if !lasts || deletion_failed {
                        slot.retry_at = Some(Instant::now() + jittered(LATER));
                    }
                }
                Outcome::Again { asked, .. } => {
                    slot.retry_at = Some(Instant::now() + slot.backoff.failed(*asked));
                }
            }
        });
    }

    /// A request that ended in a panic said nothing.
    fn dropped(&self, uid: &str) {
        self.with(|slots| {
            if let Some(slot) = slots.pods.get_mut(uid) {
                (slot.sending, slot.retry_at) = (false, Some(Instant::now() + REQUEST));
            }
        });
    }
}

/// One pod's turn.
struct Sending {
    uid: String,
    namespace: String,
    name: String,
    patch: Option<serde_json::Value>,
    order: u64,
    delete: bool,
}

enum Outcome {
    /// Said and accepted; the object as it is now.
    Done(Option<Box<Pod>>),
    /// There is no such pod any more, or another one of its name.
    Over,
    /// An answer to this request: not so, or not by us. Rights come and go; what is no status stays none.
    Refused { lasts: bool, text: String },
    /// Not now: the server may have said for how long. `server`: it is of no use for any pod.
    Again { asked: Option<Duration>, server: bool },
}

/// Sends until the runtime ends.
pub(super) async fn send(statuses: Arc<Statuses>, client: Client) {
    let mut requests: JoinSet<(Sending, Outcome)> = JoinSet::new();
    let mut uids: HashMap<Id, String> = HashMap::new();
    let mut backoff = Backoff::default();
    let mut quiet_until: Option<Instant> = None;
    loop {
        let mut at = quiet_until.filter(|until| *until > Instant::now());
        // After a failure one request alone finds out whether the server is back.
        let most = if backoff.is_failing() { 1 } else { IN_FLIGHT };
        while at.is_none() && requests.len() < most {
            match statuses.next() {
                Ok(sending) => {
                    let uid = sending.uid.clone();
                    uids.insert(requests.spawn(tell(client.clone(), sending)).id(), uid);
                }
                Err(hold) => {
                    at = hold;
                    break;
                }
            }
        }
        tokio::select! {
            Some(ended) = requests.join_next_with_id() => {
                let (id, ended) = match ended {
                    Ok((id, ended)) => (id, Some(ended)),
                    Err(error) => {
                        tracing::error!("a request of a status panicked: {error}");
                        (error.id(), None)
                    }
                };
                let uid = uids.remove(&id).unwrap_or_default();
                let Some((sending, outcome)) = ended else {
                    statuses.dropped(&uid);
                    continue;
                };
                statuses.sent(&sending, &outcome);
                match outcome {
                    Outcome::Again { asked, server: true } => {
                        quiet_until = Some(Instant::now() + backoff.failed(asked));
                    }
                    Outcome::Again { .. } | Outcome::Done(_) | Outcome::Over | Outcome::Refused { .. } => {
                        backoff.succeeded();
                    }
                }
            }
            // What is past is due at once: nothing that became due in between is slept over.
            () = tokio::time::sleep_until(at.unwrap_or_else(Instant::now)), if at.is_some() => {}
            () = statuses.changed.notified() => {}
        }
    }
}

async fn tell(client: Client, sending: Sending) -> (Sending, Outcome) {
    let outcome = match tokio::time::timeout(REQUEST, request(&client, &sending)).await {
        Ok(Ok(pod)) => Outcome::Done(pod),
        Ok(Err(error)) => judge(&error, &sending),
        Err(_) => Outcome::Again { asked: None, server: true },
    };
    (sending, outcome)
}

async fn request(client: &Client, sending: &Sending) -> kube::Result<Option<Box<Pod>>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &sending.namespace);
    let mut told = None;
    if let Some(patch) = &sending.patch {
        crossing("api.before-status");
        told = Some(api.patch_status(&sending.name, &PatchParams::default(), &Patch::Strategic(patch)).await?);
    }
    if sending.delete {
        crossing("api.before-delete");
        let preconditions = Preconditions { uid: Some(sending.uid.clone()), resource_version: None };
        let now = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }.grace_period(0);
        api.delete(&sending.name, &now).await?;
    }
    Ok(told.map(Box::new))
}

fn judge(error: &kube::Error, sending: &Sending) -> Outcome {
    let text = explain(error);
    match code(error) {
        Some(404) => Outcome::Over,
        // The uid is another's: a new pod of the same name. Any other conflict is one of two who write at once.
        Some(409) if status(error).is_some_and(|status| status.message.contains("UID in precondition")) => {
            Outcome::Over
        }
        Some(400 | 422) => Outcome::Refused { lasts: true, text },
        Some(403) => Outcome::Refused { lasts: false, text },
        answer => {
            let pod = format!("{}/{}", sending.namespace, sending.name);
            tracing::debug!(pod, "{pod}: cannot tell its status: {text}");
            // Any other answer may be about this pod alone, as a webhook's.
            let server = matches!(answer, None | Some(401 | 429 | 503));
            Outcome::Again { asked: retry_after(error), server }
        }
    }
}
