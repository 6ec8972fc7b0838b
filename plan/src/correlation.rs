//! Which events are sent to the API server, and how: new, as one more of those before, or not at all. A pod that fails in a
//! loop must not fill etcd.
//!
//! Upstream: client-go, `tools/record/events_cache.go` (the spam filter, the aggregator of similar events, the logger that
//! counts equal ones), with its figures.

use std::collections::BTreeMap;

/// Whom an event is about and who says it: what the limits count by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// Its uid.
    pub uid: String,
    /// A part of it: `spec.containers{name}`.
    pub field_path: String,
}

/// An event that happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Happened {
    /// Whom it is about.
    pub subject: Subject,
    /// `Normal` or `Warning`.
    pub warning: bool,
    /// `Started`, …
    pub reason: String,
    /// One sentence.
    pub message: String,
}

/// What is sent of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// An object of its own, with this message.
    New {
        /// Its message, and what it is known by from now on.
        happened: Happened,
    },
    /// So many times now, in the object that this was known by.
    Again {
        /// What it is known by.
        happened: Happened,
        /// How often it has happened.
        count: i32,
        /// The name of the object.
        object: String,
        /// When it happened first; milliseconds since the epoch.
        first_ms: i64,
    },
    /// Too many of this object's have been sent lately.
    Dropped,
}

/// So many events about one subject at once, and then one in [`REFILL_MS`].
const BURST: f64 = 25.0;
const REFILL_MS: f64 = 300_000.0;

/// So many messages of one reason within [`SIMILAR_MS`] are told apart.
const SIMILAR: usize = 10;
const SIMILAR_MS: i64 = 600_000;

/// So many are remembered of each kind.
const REMEMBERED: usize = 4096;

struct Bucket {
    tokens: f64,
    at_ms: i64,
}

struct Similar {
    messages: Vec<String>,
    at_ms: i64,
}

struct Known {
    object: String,
    count: i32,
    first_ms: i64,
    at_ms: i64,
}

/// What was sent lately.
#[derive(Default)]
pub struct Correlator {
    buckets: BTreeMap<Subject, Bucket>,
    similar: BTreeMap<(Subject, bool, String), Similar>,
    known: BTreeMap<Happened, Known>,
}

impl Correlator {
    /// What is to be sent of an event that happened now.
    pub fn next(&mut self, happened: Happened, now_ms: i64) -> Sent {
        if !self.allow(&happened.subject, now_ms) {
            return Sent::Dropped;
        }
        let happened = self.aggregate(happened, now_ms);
        if let Some(known) = self.known.get_mut(&happened) {
            known.count = known.count.saturating_add(1);
            known.at_ms = now_ms;
            let (count, object, first_ms) = (known.count, known.object.clone(), known.first_ms);
            return Sent::Again { happened, count, object, first_ms };
        }
        Sent::New { happened }
    }

    /// An event was accepted as this object.
    pub fn accepted(&mut self, happened: Happened, object: &str, now_ms: i64) {
        forget_oldest(&mut self.known, |known| known.at_ms);
        let known = Known { object: object.to_owned(), count: 1, first_ms: now_ms, at_ms: now_ms };
        self.known.insert(happened, known);
    }

    /// The API server has no such object any more: it keeps them for an hour.
    pub fn expired(&mut self, happened: &Happened) {
        self.known.remove(happened);
    }

    fn allow(&mut self, subject: &Subject, now_ms: i64) -> bool {
        forget_oldest(&mut self.buckets, |bucket| bucket.at_ms);
        let new = Bucket { tokens: BURST, at_ms: now_ms };
        let bucket = self.buckets.entry(subject.clone()).or_insert(new);
        #[expect(clippy::cast_precision_loss, reason = "a few minutes in milliseconds")]
        let passed = now_ms.saturating_sub(bucket.at_ms).max(0) as f64;
        bucket.tokens = (bucket.tokens + passed / REFILL_MS).min(BURST);
        bucket.at_ms = now_ms;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    /// Many messages of one reason become one.
    fn aggregate(&mut self, happened: Happened, now_ms: i64) -> Happened {
        forget_oldest(&mut self.similar, |similar| similar.at_ms);
        let key = (happened.subject.clone(), happened.warning, happened.reason.clone());
        let similar = self.similar.entry(key).or_insert(Similar { messages: Vec::new(), at_ms: now_ms });
        if now_ms.saturating_sub(similar.at_ms) > SIMILAR_MS {
            similar.messages.clear();
        }
        similar.at_ms = now_ms;
        if similar.messages.contains(&happened.message) {
            return happened;
        }
        if similar.messages.len() < SIMILAR {
            similar.messages.push(happened.message.clone());
            return happened;
        }
        Happened { message: format!("(combined from similar events): {}", happened.reason), ..happened }
    }
}

/// Keeps a map within its bound. Linear, but only once it is full.
fn forget_oldest<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, at_ms: impl Fn(&V) -> i64) {
    if map.len() < REMEMBERED {
        return;
    }
    let oldest = map.iter().min_by_key(|(_, value)| at_ms(value)).map(|(key, _)| key.clone());
    oldest.and_then(|key| map.remove(&key));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happened(uid: &str, reason: &str, message: &str) -> Happened {
        let subject = Subject { uid: uid.into(), field_path: String::new() };
        Happened { subject, warning: true, reason: reason.into(), message: message.into() }
    }

    fn send(correlator: &mut Correlator, happened: Happened, now_ms: i64) -> Sent {
        let sent = correlator.next(happened, now_ms);
        if let Sent::New { happened } = &sent {
            correlator.accepted(happened.clone(), &format!("object-{now_ms}"), now_ms);
        }
        sent
    }

    #[test]
    fn the_same_again_is_counted_in_its_object() {
        let mut correlator = Correlator::default();
        let event = happened("u", "BackOff", "m");
        assert_eq!(send(&mut correlator, event.clone(), 1), Sent::New { happened: event.clone() });
        let again = |count| Sent::Again { happened: event.clone(), count, object: "object-1".into(), first_ms: 1 };
        assert_eq!(send(&mut correlator, event.clone(), 2), again(2));
        assert_eq!(send(&mut correlator, event.clone(), 3), again(3));
        assert_eq!(
            send(&mut correlator, happened("v", "BackOff", "m"), 4),
            Sent::New { happened: happened("v", "BackOff", "m") }
        );
        correlator.expired(&event);
        assert_eq!(send(&mut correlator, event.clone(), 5), Sent::New { happened: event.clone() });
    }

    #[test]
    fn an_event_that_was_not_accepted_is_new_again() {
        let mut correlator = Correlator::default();
        let event = happened("u", "Started", "m");
        assert_eq!(correlator.next(event.clone(), 1), Sent::New { happened: event.clone() });
        assert_eq!(correlator.next(event.clone(), 2), Sent::New { happened: event });
    }

    #[test]
    fn more_than_ten_of_a_kind_are_one() {
        let mut correlator = Correlator::default();
        let nth = |n: i64| happened("u", "Failed", &format!("exit code {n}"));
        (0..10).for_each(|n| assert_eq!(send(&mut correlator, nth(n), n), Sent::New { happened: nth(n) }));
        let combined = happened("u", "Failed", "(combined from similar events): Failed");
        assert_eq!(send(&mut correlator, nth(10), 10), Sent::New { happened: combined.clone() });
        let again = Sent::Again { happened: combined, count: 2, object: "object-10".into(), first_ms: 10 };
        assert_eq!(send(&mut correlator, nth(11), 11), again);
        let later = 11 + SIMILAR_MS + 1;
        assert_eq!(send(&mut correlator, nth(12), later), Sent::New { happened: nth(12) });
    }

    #[test]
    fn a_flood_is_cut_off_and_comes_back_slowly() {
        let mut correlator = Correlator::default();
        let event = happened("u", "BackOff", "m");
        let sent = (0..100).filter(|_| send(&mut correlator, event.clone(), 0) != Sent::Dropped).count();
        assert_eq!(sent, 25);
        assert_ne!(send(&mut correlator, happened("other", "BackOff", "m"), 0), Sent::Dropped);
        assert_eq!(send(&mut correlator, event.clone(), 299_000), Sent::Dropped);
        assert_ne!(send(&mut correlator, event, 301_000), Sent::Dropped);
    }

    #[test]
    fn it_remembers_only_so_much() {
        let mut correlator = Correlator::default();
        for n in 0..10_000 {
            send(&mut correlator, happened(&n.to_string(), "Started", "m"), n);
        }
        let sizes = [correlator.buckets.len(), correlator.similar.len(), correlator.known.len()];
        assert!(sizes.iter().all(|size| *size <= REMEMBERED), "{sizes:?}");
        let newest = happened("9999", "Started", "m");
        assert!(matches!(send(&mut correlator, newest, 10_000), Sent::Again { .. }));
    }
}
