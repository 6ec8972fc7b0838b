//! The tokens themselves, in memory only: whose they are, how long they are good, when each is asked for next.

use std::collections::BTreeMap;
use std::time::Duration;

use plan::inputs::{Token, TokenKey};

use super::request::Asking;
use crate::cluster::backoff::Backoff;

/// A refusal in the first moments of a pod may only be that a part of the API server has not heard yet of the pod or that
/// it is bound to this node: it is not told before this many.
const LAG: u32 = 4;

/// One pod's.
pub(super) struct PodTokens {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) service_account: String,
    /// All of its programs have ended for good: it is given no new ones.
    pub(super) ended: bool,
    pub(super) slots: BTreeMap<TokenKey, Slot>,
}

/// One token of it.
#[derive(Default)]
pub(super) struct Slot {
    held: Option<Held>,
    failure: Option<Failure>,
    backoff: Backoff,
    /// When it is asked for, in milliseconds since boot.
    ask_at_ms: i64,
    asking: bool,
}

/// A token and when it ends, in milliseconds since boot.
pub(super) struct Held {
    pub(super) token: Token,
    pub(super) expires_ms: i64,
}

/// Why the last request came to nothing.
pub(super) struct Failure {
    /// For people.
    pub(super) text: String,
    /// The API server may only not have heard yet of a pod that was bound a moment ago.
    pub(super) lags: bool,
    /// How long the API server wants to be left alone.
    pub(super) asked: Option<Duration>,
}

/// What a request came to: the token, and after what time of the request it is to be asked for anew.
pub(super) type Outcome = Result<(Held, Duration), Failure>;

/// What a pod can be given.
pub(super) enum Word {
    Token(Token),
    /// Nobody knows yet; or why it takes so long.
    Awaited(Option<String>),
    /// There is none, in the kubelet's words.
    None(String),
}

/// By uid.
pub(super) type Pods = BTreeMap<String, PodTokens>;

impl Slot {
    /// An expired token is never given out, but to a pod that has ended: that one has it already, and writes nothing.
    pub(super) fn word(&self, now_ms: i64, ended: bool) -> Word {
        match (&self.held, &self.failure) {
            (None, _) if ended => Word::Awaited(None),
            (Some(held), _) if ended || now_ms < held.expires_ms => Word::Token(held.token.clone()),
            (_, Some(failure)) if failure.lags && self.backoff.failures() < LAG => {
                Word::Awaited(Some(failure.text.clone()))
            }
            (Some(_), Some(failure)) => Word::None(format!("token expired and refresh failed: {}", failure.text)),
            (None, Some(failure)) => Word::None(format!("failed to fetch token: {}", failure.text)),
            (_, None) => Word::Awaited(None),
        }
    }

    fn due(&self, ended: bool) -> Option<i64> {
        (!self.asking && !ended).then_some(self.ask_at_ms)
    }

    /// Whether the pod is given something else than before.
    fn take(&mut self, outcome: Outcome, asked_ms: i64, now_ms: i64) -> bool {
        self.asking = false;
        match outcome {
            Ok((held, refresh_after)) => {
                self.backoff.succeeded();
                self.ask_at_ms = asked_ms.saturating_add(millis(refresh_after));
                (self.held, self.failure) = (Some(held), None);
                true
            }
            Err(failure) => {
                self.ask_at_ms = now_ms.saturating_add(millis(self.backoff.failed(failure.asked)));
                let told = self.failure.as_ref().is_some_and(|f| f.text == failure.text);
                self.failure = Some(failure);
                !told || self.backoff.failures() == LAG
            }
        }
    }
}

/// The token that is asked for longest, if any is; else when the next one is, if any will be.
pub(super) fn next(pods: &mut Pods, now_ms: i64) -> Result<Asking, Option<i64>> {
    let all = pods.iter().flat_map(|(uid, pod)| {
        pod.slots.iter().filter_map(move |(key, slot)| Some((slot.due(pod.ended)?, uid.clone(), key.clone())))
    });
    let Some((at_ms, uid, key)) = all.min() else { return Err(None) };
    if at_ms > now_ms {
        return Err(Some(at_ms));
    }
    let pod = pods.get_mut(&uid).ok_or(None)?;
    pod.slots.get_mut(&key).ok_or(None)?.asking = true;
    Ok(Asking {
        uid,
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        service_account: pod.service_account.clone(),
        key,
        asked_ms: now_ms,
    })
}

/// What became of a request; whether the pod is to be looked at. One for a pod that went meanwhile is dropped.
pub(super) fn answered(pods: &mut Pods, asking: &Asking, outcome: Outcome, now_ms: i64) -> bool {
    let slot = pods.get_mut(&asking.uid).and_then(|pod| pod.slots.get_mut(&asking.key));
    slot.is_some_and(|slot| slot.take(outcome, asking.asked_ms, now_ms))
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
