//! What the API server is told of the pods: by pod the newest status, and its deletion once nothing is left of it.
//!
//! A status that was not sent yet is replaced by a newer one, so an outage ends with one patch for each pod that changed,
//! the latest first. Nothing is lost with the agent: what is true is found out again from the pods and the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::backoff::{Backoff, jittered};
use super::watching::number;
use crate::world::is_over;

mod requests;

pub(super) use requests::send;

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(30);

/// When something that was forbidden is tried again.
const LATER: Duration = Duration::from_secs(60);

/// A pod that was not told of yet and is about to run is told of once, when it does.
const FIRST_PENDING: Duration = Duration::from_millis(250);

/// What is said of a pod that is being deleted waits so long for its end: one that ends by then takes two requests, its last
/// status and the deletion, and not three or four. Of a hundred pods at once the API server's share is most of the time.
const ENDING: Duration = Duration::from_secs(1);

/// What others write over ours is put right no more often (the kubelet's `syncBatch`): two that contradict each other must not
/// do it as fast as they can.
const PUT_RIGHT: Duration = Duration::from_secs(10);

/// So many that only say that a pod begins may be on their way: of a hundred pods at once they would make those wait that
/// say what runs, and most of them are out of date by then.
const BEGINNING: usize = 2;

/// One pod.
struct Slot {
    namespace: String,
    name: String,
    /// The API server's status, of this version of the object.
    known: PodStatus,
    version: u64,
    /// What it should be.
    wanted: Option<PodStatus>,
    /// What it should be, and was.
    said: Option<PodStatus>,
    /// When what others had written over it was last put right.
    put_right: Option<Instant>,
    /// Counts changes of all pods: the latest is sent first.
    order: u64,
    /// The API server was asked to delete it.
    deleting: bool,
    /// A first status waits until then for one that says more, and one of a pod that is being deleted for its end.
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
    /// And that it begins is all that is said.
    sending_beginning: bool,
}

impl Slot {
    fn new(pod: &Pod) -> Self {
        Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            known: PodStatus::default(),
            version: 0,
            wanted: None,
            said: None,
            put_right: None,
            order: 0,
            deleting: false,
            hold: None,
            retry_at: None,
            backoff: Backoff::default(),
            refused: None,
            told: false,
            gone: false,
            sending: false,
            sending_beginning: false,
        }
    }

    /// Takes over the API server's word, unless a newer one is known; gives whether it did.
    fn learn(&mut self, pod: &Pod) -> bool {
        let version = version(pod);
        let news = version >= self.version;
        if news {
            self.version = version;
            self.deleting = pod.metadata.deletion_timestamp.is_some();
            self.known = pod.status.clone().unwrap_or_default();
        }
        news
    }

    /// What was said is to be said again where others have written over it. That a pod is over is for the loop to judge.
    fn put_right(&mut self, uid: &str, pod: &Pod) -> bool {
        let Some(said) = self.said.as_ref().filter(|_| self.wanted.is_none() && !is_over(pod)) else { return false };
        if plan::status::patch(uid, &self.known, said).is_none() {
            return false;
        }
        let at = self.put_right.map_or_else(Instant::now, |last| (last + PUT_RIGHT).max(Instant::now()));
        (self.hold, self.put_right) = (Some(at), Some(at));
        self.wanted = Some(said.clone());
        true
    }

    /// What is to be said of it is that it begins, and nothing was said of it before. What went wrong with it is more than that,
    /// and what is refused again and again must not keep the others from being told of.
    fn only_begins(&self) -> bool {
        let Some(wanted) = self.wanted.as_ref().filter(|_| !self.told && !self.gone) else { return false };
        let all = |status: &PodStatus| {
            let (init, app) = (status.init_container_statuses.clone(), status.container_statuses.clone());
            init.unwrap_or_default().into_iter().chain(app.unwrap_or_default()).collect::<Vec<_>>()
        };
        let begins = |status: &ContainerStatus| {
            let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
            let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
            matches!(reason, Some("ContainerCreating" | "PodInitializing"))
        };
        wanted.phase.as_deref() == Some("Pending")
            && !self.backoff.is_failing()
            && all(&self.known).is_empty()
            && all(wanted).iter().all(begins)
    }

    /// How long this may wait for something that says more, if at all.
    fn holds(&self, status: &PodStatus) -> Option<Duration> {
        if self.deleting {
            return (!self.gone).then_some(ENDING);
        }
        (status.phase.as_deref() == Some("Pending") && !self.told).then_some(FIRST_PENDING)
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
    pod.metadata.resource_version.as_deref().and_then(number).unwrap_or(0)
}

impl Statuses {
    fn with<R>(&self, f: impl FnOnce(&mut Slots) -> R) -> R {
        f(&mut self.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The API server's own word, which may have been changed by others.
    pub(crate) fn heard(&self, pod: &Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let again = self.with(|slots| {
            let order = slots.changes + 1;
            let slot = slots.pods.entry(uid.clone()).or_insert_with(|| Slot::new(pod));
            let again = slot.learn(pod) && slot.put_right(&uid, pod);
            if again {
                (slot.order, slots.changes) = (order, order);
            }
            again
        });
        if again {
            self.changed.notify_one();
        }
    }

    /// This is the pod's status now.
    pub(crate) fn want(&self, uid: &str, status: PodStatus) {
        self.with(|slots| {
            slots.changes += 1;
            let order = slots.changes;
            let Some(slot) = slots.pods.get_mut(uid) else { return };
            // It is to be said already, at its time.
            if slot.wanted.as_ref() == Some(&status) {
                return;
            }
            if slot.wanted.is_none() && plan::status::patch(uid, &slot.known, &status).is_none() {
                slot.said = Some(status);
                return;
            }
            slot.hold = slot.holds(&status).map(|most| {
                let at = Instant::now() + most;
                slot.hold.map_or(at, |held| held.min(at))
            });
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
        self.with(|slots| {
            slots.pods.retain(|uid, _| listed.contains(uid.as_str()));
            // What is listed is believed, also where it is older than what was known: an older etcd was put back.
            slots.pods.values_mut().for_each(|slot| slot.version = 0);
        });
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
            let beginning = slots.pods.values().filter(|slot| slot.sending_beginning).count();
            // It is looked for again when one of those is over.
            let waits = |slot: &Slot| beginning >= BEGINNING && slot.only_begins();
            let due = |slot: &Slot| !waits(slot) && slot.due().is_some_and(|at| at <= Some(now));
            let ready = slots.pods.iter_mut().filter(|(_, slot)| due(slot));
            if let Some((uid, slot)) = ready.max_by_key(|(_, slot)| slot.order) {
                slot.sending = true;
                slot.sending_beginning = slot.only_begins();
                slot.hold = None;
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
            Err(slots.pods.values().filter(|slot| !waits(slot)).filter_map(|slot| slot.due()?).min())
        })
    }

    /// What became of it.
    fn sent(&self, sending: &Sending, outcome: &Outcome) {
        self.with(|slots| {
            let Some(slot) = slots.pods.get_mut(&sending.uid) else { return };
            (slot.sending, slot.sending_beginning) = (false, false);
            match outcome {
                Outcome::Done(pod) => {
                    slot.told = true;
                    slot.retry_at = None;
                    slot.refused = None;
                    slot.backoff.succeeded();
                    if let Some(pod) = pod {
                        slot.learn(pod);
                    }
                    if slot.order == sending.order
                        && let Some(said) = slot.wanted.take()
                    {
                        slot.said = Some(said);
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
                        (slot.wanted, slot.said) = (None, None);
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
                (slot.sending, slot.sending_beginning) = (false, false);
                slot.retry_at = Some(Instant::now() + REQUEST);
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

#[cfg(test)]
mod tests;
