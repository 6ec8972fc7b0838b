//! Waiting for an outcome: ask again until it is there or the deadline has passed.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `probe` until it gives something. The error names `what` was awaited and for how long.
pub fn wait_until<T>(what: &str, deadline: Duration, probe: impl FnMut() -> Option<T>) -> Result<T> {
    wait_within(what, deadline, Duration::from_millis(50), probe)
}

/// The same with pauses that grow up to `longest`: for questions that take something from what is waited for.
pub fn wait_within<T>(
    what: &str,
    deadline: Duration,
    longest: Duration,
    mut probe: impl FnMut() -> Option<T>,
) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        if start.elapsed() >= deadline {
            bail!("{what}: not within {deadline:?}");
        }
        rest(pause.min(deadline.saturating_sub(start.elapsed())));
        pause = (pause * 2).min(longest);
    }
}

#[expect(clippy::disallowed_methods, reason = "the one pause between two polls, never a wait for an outcome")]
fn rest(pause: Duration) {
    std::thread::sleep(pause);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_comes_and_names_what_does_not() {
        let mut asked = 0;
        let third = wait_until("the third answer", Duration::from_secs(5), || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(third.unwrap(), 3);
        let error = wait_until("a miracle", Duration::from_millis(10), || None::<()>).unwrap_err();
        assert!(error.to_string().contains("a miracle"), "{error}");
    }
}
