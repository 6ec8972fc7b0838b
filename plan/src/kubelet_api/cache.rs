//! Answers that are good for a time, by the hash of what was asked: so no token is kept.

use std::collections::BTreeMap;

/// How long the API server's word on a token is good, ms (k8s.io/kubernetes, kubelet config: webhook.cacheTTL).
pub const TOKEN_MS: i64 = 120_000;
/// How long a token that it does not know is refused without asking, ms.
pub const UNKNOWN_TOKEN_MS: i64 = 10_000;
/// How long leave is good, ms (cacheAuthorizedTTL).
pub const ALLOWED_MS: i64 = 300_000;
/// How long a refusal is, ms (cacheUnauthorizedTTL).
pub const DENIED_MS: i64 = 30_000;

/// A SHA-256 of what was asked.
pub type Key = [u8; 32];

/// At most so many answers.
#[derive(Debug)]
pub struct Cache<V> {
    /// With the time from which on it is not good any more, ms.
    answers: BTreeMap<Key, (V, i64)>,
    most: usize,
}

impl<V: Clone> Cache<V> {
    /// An empty one for `most` answers.
    pub fn new(most: usize) -> Self {
        Self { answers: BTreeMap::new(), most }
    }

    /// The answer, if it is still good.
    pub fn get(&self, key: &Key, now_ms: i64) -> Option<V> {
        let (value, until_ms) = self.answers.get(key)?;
        (now_ms < *until_ms).then(|| value.clone())
    }

    /// Keeps an answer for `good_ms`. A full cache loses what is over, else what would be soonest.
    pub fn put(&mut self, key: Key, value: V, good_ms: i64, now_ms: i64) {
        if self.answers.len() >= self.most && !self.answers.contains_key(&key) {
            self.answers.retain(|_, (_, until_ms)| now_ms < *until_ms);
        }
        while self.answers.len() >= self.most && !self.answers.contains_key(&key) {
            let soonest = self.answers.iter().min_by_key(|(_, (_, until_ms))| *until_ms).map(|(key, _)| *key);
            let Some(soonest) = soonest else { return };
            self.answers.remove(&soonest);
        }
        self.answers.insert(key, (value, now_ms.saturating_add(good_ms)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        [n; 32]
    }

    #[test]
    fn answers_grow_old() {
        let mut cache = Cache::new(8);
        cache.put(key(1), true, ALLOWED_MS, 1_000);
        cache.put(key(2), false, DENIED_MS, 1_000);
        assert_eq!(cache.get(&key(1), 300_999), Some(true));
        assert_eq!(cache.get(&key(1), 301_000), None);
        assert_eq!((cache.get(&key(2), 30_999), cache.get(&key(2), 31_000)), (Some(false), None));
        assert_eq!(cache.get(&key(3), 0), None);
        cache.put(key(1), false, DENIED_MS, 302_000);
        assert_eq!(cache.get(&key(1), 302_000), Some(false));
    }

    #[test]
    fn a_full_cache_loses_what_is_over_or_soonest_is() {
        let mut cache = Cache::new(2);
        cache.put(key(1), 1, 10, 0);
        cache.put(key(2), 2, 30, 0);
        cache.put(key(3), 3, 20, 0);
        assert_eq!([1, 2, 3].map(|n| cache.get(&key(n), 1)), [None, Some(2), Some(3)]);
        cache.put(key(4), 4, 20, 25);
        assert_eq!([2, 3, 4].map(|n| cache.get(&key(n), 25)), [Some(2), None, Some(4)]);
        cache.put(key(4), 5, 1, 25);
        assert_eq!((cache.get(&key(2), 25), cache.get(&key(4), 25)), (Some(2), Some(5)));
        assert_eq!(Cache::new(0).get(&key(1), 0), None::<()>);
    }
}
