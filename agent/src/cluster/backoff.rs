//! How long to wait before the API server is asked again: longer each time, never the same for two nodes.

use std::time::Duration;

use tokio::time::Instant;
use tower::util::rng::{HasherRng, Rng as _};

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// A watch may be longer in coming back: every node has several.
const LONGEST_OF_WATCHES: Duration = Duration::from_secs(30);

/// And after an outage, from when all of them of all nodes come back. A kubelet's take 30 to 60 s then (client-go's reflector:
/// 30 s and as much again by chance), and so do these.
const LONGEST_OF_OUTAGES: Duration = Duration::from_secs(60);

/// What has failed for so long without a word in between is an outage.
const OUTAGE: Duration = Duration::from_secs(30);

/// A watch that has not failed for so long begins anew with short waits.
const WENT_WELL: Duration = Duration::from_secs(120);

/// Failures further apart than this are not of the same outage: the longest wait, and a try that takes its time.
const APART: Duration = Duration::from_secs(75);

/// Counts failures in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { failures: 0, longest: LONGEST }
    }
}

/// As a watch waits. That it has begun again does not mean that it goes well: a list that is refused again and again would
/// never be waited for. So what counts is the time since the last failure.
#[derive(Debug)]
pub(super) struct WatchBackoff {
    backoff: Backoff,
    last: Option<Instant>,
    /// When the outage began of which the last failure is.
    since: Option<Instant>,
}

impl Default for WatchBackoff {
    fn default() -> Self {
        Self { backoff: Backoff { failures: 0, longest: LONGEST_OF_WATCHES }, last: None, since: None }
    }
}

impl WatchBackoff {
    /// It failed: the time until the next try, at least what the server asked for.
    pub(super) fn failed(&mut self, asked: Option<Duration>) -> Duration {
        let now = Instant::now();
        let silent = self.last.replace(now).map(|last| now.duration_since(last));
        if silent.is_some_and(|silent| silent > WENT_WELL) {
            self.backoff.succeeded();
        }
        if self.since.is_none() || silent.is_none_or(|silent| silent > APART) {
            self.since = Some(now);
        }
        let outage = self.failing_for() > OUTAGE;
        self.backoff.longest = if outage { LONGEST_OF_OUTAGES } else { LONGEST_OF_WATCHES };
        self.backoff.failed(asked)
    }

    /// Something was said: what fails next is another matter, though it waits no less for it.
    pub(super) fn heard(&mut self) {
        self.since = None;
    }

    /// For how long it has failed again and again.
    pub(super) fn failing_for(&self) -> Duration {
        self.since.map(|since| since.elapsed()).unwrap_or_default()
    }
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
        let full = FIRST.saturating_mul(1 << self.failures.min(10)).min(self.longest);
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
    async fn a_watch_that_has_gone_well_for_long_begins_anew() {
        let mut backoff = WatchBackoff::default();
        let longest = (0..10).map(|_| backoff.failed(None)).max();
        assert!(longest >= Some(LONGEST_OF_WATCHES / 2) && longest <= Some(LONGEST_OF_WATCHES), "{longest:?}");
        tokio::time::advance(WENT_WELL + LONGEST).await;
        assert!(backoff.failed(None) <= FIRST && backoff.failing_for().is_zero());
        tokio::time::advance(LONGEST_OF_WATCHES).await;
        backoff.failed(None);
        assert_eq!(backoff.failing_for(), LONGEST_OF_WATCHES);
    }

    /// One that breaks again and again, and goes on in between, is waited for as long as it always was.
    #[tokio::test(start_paused = true)]
    async fn an_outage_is_what_nothing_was_said_in() {
        let longest = |heard: bool| {
            let mut backoff = WatchBackoff::default();
            async move {
                let mut longest = Duration::ZERO;
                for _ in 0..100 {
                    let wait = backoff.failed(None);
                    longest = longest.max(wait);
                    tokio::time::advance(wait).await;
                    if heard {
                        backoff.heard();
                    }
                }
                longest
            }
        };
        assert!(longest(true).await <= LONGEST_OF_WATCHES);
        assert!(longest(false).await > LONGEST_OF_WATCHES);
    }
}
