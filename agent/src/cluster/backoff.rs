//! How long to wait before the API server is asked again: longer each time, never the same for two nodes.

use std::time::Duration;

use tokio::time::Instant;
use tower::util::rng::{HasherRng, Rng as _};

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

/// A watch that has not failed for so long begins anew with short waits.
const WENT_WELL: Duration = Duration::from_secs(120);

/// As kube's watchers wait. They reset it with every event, and that a list begins is one: a list that is refused again and
/// again would never be waited for. So what counts is the time since the last failure.
#[derive(Debug, Default)]
pub(crate) struct WatchBackoff {
    backoff: Backoff,
    last: Option<Instant>,
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) > WENT_WELL) {
            self.backoff.succeeded();
        }
        self.last = Some(now);
        Some(self.backoff.failed(None))
    }
}

impl kube::runtime::utils::Backoff for WatchBackoff {
    fn reset(&mut self) {}
}

impl Backoff {
    /// It went well.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Whether the last one failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// How often it failed in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// It failed: the time until the next try, at least what the server asked for.
    pub(crate) fn failed(&mut self, asked: Option<Duration>) -> Duration {
        let full = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        asked.unwrap_or_default() + jittered(full)
    }
}

/// Between half of it and all of it: a fleet that lost its server together must not come back together.
pub(crate) fn jittered(full: Duration) -> Duration {
    full.mul_f64(0.5 + random() / 2.0)
}

/// From 0 to 1; not for secrets.
pub(crate) fn random() -> f64 {
    HasherRng::new().next_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_a_limit_and_begins_anew() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..20).map(|_| backoff.failed(None)).collect();
        assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST, "{waits:?}");
        assert!(waits[5..].iter().all(|w| *w >= LONGEST / 4 && *w <= LONGEST), "{waits:?}");
        assert!(waits.windows(2).any(|w| w[0] != w[1]));
        backoff.succeeded();
        assert!(backoff.failed(None) <= FIRST);
        assert!(backoff.failed(Some(Duration::from_secs(30))) >= Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_waits_longer_although_its_list_begins_each_time() {
        use kube::runtime::utils::Backoff as _;
        let mut backoff = WatchBackoff::default();
        for _ in 0..10 {
            backoff.next();
            backoff.reset();
        }
        assert!(backoff.next() >= Some(LONGEST / 2));
        tokio::time::advance(WENT_WELL + LONGEST).await;
        assert!(backoff.next() <= Some(FIRST));
    }
}
