//! Progress of anything that takes more than a few seconds: a spinner on a terminal, plain lines elsewhere. Always stderr,
//! so that stdout stays machine-readable.

use std::io::IsTerminal;
use std::sync::LazyLock;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar};

/// Where there is no spinner, a line says that it still goes on, so often.
const STILL: Duration = Duration::from_secs(15);

/// Spinners of tasks within tasks have lines of their own.
static SPINNERS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// One plain line.
pub fn line(text: &str) {
    SPINNERS.suspend(|| eprintln!("{text}"));
}

/// Runs `work` while showing `what`, then says how long it took.
pub fn during<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if !std::io::stderr().is_terminal() {
        return telling(what, work);
    }
    let start = Instant::now();
    let spinner = SPINNERS.add(ProgressBar::new_spinner().with_message(what.to_owned()));
    spinner.enable_steady_tick(Duration::from_millis(120));
    let done = work();
    spinner.finish_and_clear();
    SPINNERS.remove(&spinner);
    ended(what, start, &done);
    done
}

/// The same for `work` that shows its own progress: a line before and after it.
pub fn beside<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    line(&format!("{what} ..."));
    let done = work();
    ended(what, start, &done);
    done
}

/// Lines, also while it lasts.
fn telling<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    line(&format!("{what} ..."));
    let (over, wait) = channel::<()>();
    let done = std::thread::scope(|scope| {
        scope.spawn(move || {
            while wait.recv_timeout(STILL) == Err(RecvTimeoutError::Timeout) {
                line(&format!("{what}: {} s so far", start.elapsed().as_secs()));
            }
        });
        let done = work();
        drop(over);
        done
    });
    ended(what, start, &done);
    done
}

fn ended<T>(what: &str, start: Instant, done: &Result<T>) {
    let outcome = if done.is_ok() { "done" } else { "FAILED" };
    line(&format!("{what}: {outcome} in {:.1} s", start.elapsed().as_secs_f64()));
}
