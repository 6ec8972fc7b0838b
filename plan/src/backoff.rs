//! The kubelet's back-offs as pure folds; the caller keeps them, with its own clock's times.
//!
//! Both are client-go's `flowcontrol.Backoff` (v0.37, `util/flowcontrol/backoff.go`) without its clock:
//! - containers: `doBackOff` in `kuberuntime_manager.go` asks `IsInBackOffSince(finishedAt)` and calls `Next` when it
//!   starts the container again. The first exit finds no entry, so the first restart is immediate and makes the entry
//!   (10 s); each later one waits for the entry and doubles it, up to 300 s. `HasExpiredFunc` of `kubelet.go`: a container
//!   that exits more than 600 s after it was started has no entry any more. The entry's key holds the container's hash, so
//!   a changed container starts with a new [`RestartBackoff`]. Exits with code 0 count like any other.
//! - images: `image_manager.go` calls `Next` when a pull fails and refuses to pull while `IsInBackOffSinceUpdate(now)`;
//!   an entry expires 2 × 300 s after the failure that made it.

use serde::{Deserialize, Serialize};

/// The first wait.
pub const INITIAL_MS: i64 = 10_000;
/// The longest wait.
pub const MAX_MS: i64 = 300_000;
/// A run longer than this, or no failed pull for longer than this, clears the record.
pub const RESET_MS: i64 = 600_000;
/// For how long after a failed pull it is shown as itself before it becomes a back-off.
pub const SHOW_ERROR_MS: i64 = 2_000;

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartBackoff {
    /// The wait after the last exit.
    pub delay_ms: i64,
    /// The wait after the next exit; 0: there was none yet.
    next_delay_ms: i64,
}

impl RestartBackoff {
    /// The container ended `ran_ms` after it had been started.
    pub fn on_exit(&mut self, ran_ms: i64) {
        if self.next_delay_ms == 0 || ran_ms > RESET_MS {
            self.delay_ms = 0;
            self.next_delay_ms = INITIAL_MS;
        } else {
            self.delay_ms = self.next_delay_ms.clamp(INITIAL_MS, MAX_MS);
            self.next_delay_ms = self.delay_ms.saturating_mul(2).min(MAX_MS);
        }
    }

    /// When the container that ended at `finished_at_ms` may be started again.
    pub fn next_start(&self, finished_at_ms: i64) -> i64 {
        finished_at_ms.saturating_add(self.delay_ms)
    }

    /// Whether it is `CrashLoopBackOff` at `now_ms`.
    pub fn is_waiting(&self, finished_at_ms: i64, now_ms: i64) -> bool {
        now_ms < self.next_start(finished_at_ms)
    }

    /// The kubelet's message: `back-off 10s restarting failed container=web pod=web_default(uid)`.
    pub fn message(&self, container: &str, pod: &str) -> String {
        format!("back-off {} restarting failed container={container} pod={pod}", go_duration(self.delay_ms))
    }
}

/// When an image whose pull failed is tried again. One for each pod and image, as in the kubelet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullBackoff {
    /// The wait after the last failure; 0: there was none.
    pub delay_ms: i64,
    /// When the last pull failed.
    failed_at_ms: i64,
}

/// What a container's waiting reason says about its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullWait {
    /// The pull has just failed.
    ErrImagePull,
    /// It failed some time ago and is not yet due again.
    ImagePullBackOff,
    /// It may be tried.
    Due,
}

impl PullBackoff {
    /// A pull failed at `now_ms`.
    pub fn on_failure(&mut self, now_ms: i64) {
        let fresh = self.delay_ms == 0 || now_ms.saturating_sub(self.failed_at_ms) > RESET_MS;
        self.delay_ms = if fresh { INITIAL_MS } else { self.delay_ms.saturating_mul(2).clamp(INITIAL_MS, MAX_MS) };
        self.failed_at_ms = now_ms;
    }

    /// When the next pull may start; None: at once.
    pub fn retry_at_ms(&self) -> Option<i64> {
        (self.delay_ms != 0).then(|| self.failed_at_ms.saturating_add(self.delay_ms))
    }

    /// What is to be shown at `now_ms`.
    pub fn wait(&self, now_ms: i64) -> PullWait {
        match self.retry_at_ms() {
            Some(retry) if now_ms >= retry => PullWait::Due,
            None => PullWait::Due,
            Some(_) if now_ms.saturating_sub(self.failed_at_ms) < SHOW_ERROR_MS => PullWait::ErrImagePull,
            Some(_) => PullWait::ImagePullBackOff,
        }
    }
}

/// Go's `time.Duration.String()` of whole seconds: `10s`, `2m40s`, `5m0s`.
fn go_duration(ms: i64) -> String {
    let seconds = ms / 1000;
    match seconds / 60 {
        0 => format!("{seconds}s"),
        minutes => format!("{minutes}m{}s", seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_at_once_then_ten_seconds_doubling_to_five_minutes() {
        let mut backoff = RestartBackoff::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            backoff.on_exit(1_000);
            waits.push(backoff.next_start(5_000) - 5_000);
        }
        assert_eq!(waits, [0, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]);
        assert_eq!(backoff.message("c", "p_ns(u)"), "back-off 5m0s restarting failed container=c pod=p_ns(u)");
    }

    #[test]
    fn only_a_run_of_more_than_ten_minutes_clears_it() {
        let mut backoff = RestartBackoff::default();
        backoff.on_exit(0);
        backoff.on_exit(0);
        backoff.on_exit(RESET_MS);
        assert_eq!(backoff.delay_ms, 20_000);
        backoff.on_exit(RESET_MS + 1);
        assert_eq!(backoff.delay_ms, 0);
        backoff.on_exit(0);
        assert_eq!(backoff.delay_ms, 10_000);
        assert!(backoff.is_waiting(100, 10_099) && !backoff.is_waiting(100, 10_100));
    }

    #[test]
    fn a_stored_back_off_reads_back_and_a_damaged_one_stays_in_bounds() {
        let mut backoff = RestartBackoff::default();
        backoff.on_exit(0);
        backoff.on_exit(0);
        let text = serde_json::to_string(&backoff).unwrap();
        assert_eq!(serde_json::from_str::<RestartBackoff>(&text).unwrap(), backoff);
        let mut damaged: RestartBackoff =
            serde_json::from_str(r#"{"delay_ms":0,"next_delay_ms":9223372036854775807}"#).unwrap();
        damaged.on_exit(0);
        assert_eq!(damaged.delay_ms, MAX_MS);
        assert_eq!(damaged.next_start(i64::MAX), i64::MAX);
    }

    #[test]
    fn a_failed_pull_is_an_error_first_and_a_back_off_then() {
        let mut backoff = PullBackoff::default();
        assert_eq!((backoff.wait(0), backoff.retry_at_ms()), (PullWait::Due, None));
        let mut waits = Vec::new();
        let mut now = 1_000;
        for _ in 0..7 {
            backoff.on_failure(now);
            assert_eq!(backoff.wait(now), PullWait::ErrImagePull);
            assert_eq!(backoff.wait(now + SHOW_ERROR_MS), PullWait::ImagePullBackOff);
            let retry = backoff.retry_at_ms().unwrap();
            assert_eq!(backoff.wait(retry), PullWait::Due);
            waits.push(retry - now);
            now = retry;
        }
        assert_eq!(waits, [10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]);
        backoff.on_failure(now + RESET_MS + 1);
        assert_eq!(backoff.delay_ms, INITIAL_MS);
    }
}
