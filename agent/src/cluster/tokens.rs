//! Tokens of service accounts for the projected volumes of this node's pods: asked for when a pod first needs one, asked for
//! anew before it ends, kept in memory only, dropped with the pod. The volume's own update writes them.
//!
//! No look waits for the network: what is not there yet is said to be awaited, and the pod is woken when it comes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use plan::fields::downward;
use plan::inputs::{Token, TokenKey};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::error::causes;
use crate::wake::Wake;

mod request;
mod slots;

use request::{Asking, ask};
use slots::{Outcome, PodTokens, Pods, Slot, Word};

/// Requests in flight: after a restart of the agent every pod's are due at once.
const IN_FLIGHT: usize = 16;

/// The timer does not count the time that a machine sleeps, the clock does: it is looked at so often.
const LOOK: Duration = Duration::from_secs(5 * 60);

/// The account of a pod that names none (the admission plugin writes it out).
const DEFAULT_ACCOUNT: &str = "default";

/// Milliseconds since boot, those that the machine slept included: nobody sets that clock.
fn since_boot_ms() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
}

/// All that are in use.
pub(crate) struct Tokens {
    wake: mpsc::UnboundedSender<Wake>,
    clock: Box<dyn Fn() -> i64 + Send + Sync>,
    pods: Mutex<Pods>,
    changed: Notify,
}

/// A pod's tokens, as far as they are known.
#[derive(Default)]
pub(crate) struct Found {
    /// Each, or why there is none.
    pub(crate) tokens: BTreeMap<TokenKey, Result<Token, String>>,
    /// Those that were asked for and not answered, for people.
    pub(crate) awaited: Vec<String>,
}

impl Tokens {
    pub(crate) fn new(wake: mpsc::UnboundedSender<Wake>) -> Self {
        Self { wake, clock: Box::new(since_boot_ms), pods: Mutex::default(), changed: Notify::new() }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Pods) -> R) -> R {
        f(&mut self.pods.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a pod needs. What nobody asked for yet is asked for now, and the pod woken when it is known or changes. `ended`:
    /// all of the pod's programs have, for good; nothing is asked for such a one, of which there may be many.
    pub(crate) fn of_pod(&self, pod: &Pod, needs: &[TokenKey], ended: bool) -> Found {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if needs.is_empty() {
            self.release(&uid);
            return Found::default();
        }
        let now_ms = (self.clock)();
        let found = self.with(|pods| {
            let tokens = pods.entry(uid).or_insert_with(|| of_pod(pod));
            tokens.ended = ended;
            tokens.slots.retain(|key, _| needs.contains(key));
            let mut found = Found::default();
            for key in needs {
                let what = || format!("a token of ServiceAccount {}", tokens.service_account);
                match tokens.slots.entry(key.clone()).or_insert_with(Slot::default).word(now_ms, ended) {
                    Word::Token(token) => _ = found.tokens.insert(key.clone(), Ok(token)),
                    Word::None(why) => _ = found.tokens.insert(key.clone(), Err(why)),
                    Word::Awaited(None) => found.awaited.push(what()),
                    Word::Awaited(Some(why)) => found.awaited.push(format!("{} ({why})", what())),
                }
            }
            found
        });
        self.changed.notify_one();
        found
    }

    /// The pod is gone, or uses none any more.
    pub(crate) fn release(&self, uid: &str) {
        self.with(|pods| pods.remove(uid));
    }
}

fn of_pod(pod: &Pod) -> PodTokens {
    let named = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone()).filter(|name| !name.is_empty());
    PodTokens {
        namespace: downward::namespace(pod).to_owned(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        service_account: named.unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned()),
        ended: false,
        slots: BTreeMap::new(),
    }
}

/// Asks for what is due until the runtime ends.
pub(super) async fn keep(tokens: Arc<Tokens>, client: Client) {
    let mut requests: JoinSet<(Asking, Outcome)> = JoinSet::new();
    loop {
        let now_ms = (tokens.clock)();
        let mut next_ms = None;
        while requests.len() < IN_FLIGHT {
            match tokens.with(|pods| slots::next(pods, now_ms)) {
                Ok(asking) => {
                    let client = client.clone();
                    requests.spawn(async move {
                        let outcome = ask(&client, &asking).await;
                        (asking, outcome)
                    });
                }
                Err(at_ms) => {
                    next_ms = at_ms;
                    break;
                }
            }
        }
        let wait_ms = next_ms.map_or(0, |at_ms| at_ms.saturating_sub(now_ms).max(1));
        let wait = Duration::from_millis(u64::try_from(wait_ms).unwrap_or(1)).min(LOOK);
        tokio::select! {
            Some(ended) = requests.join_next() => match ended {
                Ok((asking, outcome)) => answered(&tokens, &asking, outcome),
                Err(panic) => tracing::error!("a request for a token panicked: {panic}"),
            },
            () = tokio::time::sleep(wait), if next_ms.is_some() => {}
            () = tokens.changed.notified() => {}
        }
    }
}

fn answered(tokens: &Tokens, asking: &Asking, outcome: Outcome) {
    let pod = format!("{}/{}", asking.namespace, asking.name);
    let why = outcome.as_ref().err().map(|failure| failure.text.clone());
    let now_ms = (tokens.clock)();
    if !tokens.with(|pods| slots::answered(pods, asking, outcome, now_ms)) {
        return;
    }
    if let Some(why) = why {
        tracing::info!(pod, "{pod}: cannot get a token of ServiceAccount {}: {why}", asking.service_account);
    }
    let _ended = tokens.wake.send(Wake::Pod(asking.uid.clone()));
}

#[cfg(test)]
mod tests;
