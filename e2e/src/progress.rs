//! Progress of anything that takes more than a few seconds: a spinner on a terminal, plain lines elsewhere. Always stderr,
//! so that stdout stays machine-readable.

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
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
    during_counted(what, |_| work())
}

/// Like [`during`] for work of minutes, which says through its argument how far it is.
pub fn during_counted<T>(what: &str, work: impl FnOnce(&mut dyn FnMut(&str)) -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let done = if std::io::stderr().is_terminal() { spinning(what, work) } else { telling(what, start, work) };
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

fn spinning<T>(what: &str, work: impl FnOnce(&mut dyn FnMut(&str)) -> Result<T>) -> Result<T> {
    let spinner = SPINNERS.add(ProgressBar::new_spinner().with_message(what.to_owned()));
    spinner.enable_steady_tick(Duration::from_millis(120));
    let done = work(&mut |how_far| spinner.set_message(format!("{what}: {how_far}")));
    spinner.finish_and_clear();
    SPINNERS.remove(&spinner);
    done
}

/// Lines, also while it lasts.
fn telling<T>(what: &str, start: Instant, work: impl FnOnce(&mut dyn FnMut(&str)) -> Result<T>) -> Result<T> {
    line(&format!("{what} ..."));
    let said = Mutex::new(String::new());
    let (over, wait) = channel::<()>();
    std::thread::scope(|scope| {
        let said = &said;
        scope.spawn(move || {
            while wait.recv_timeout(STILL) == Err(RecvTimeoutError::Timeout) {
                let how_far = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
                line(&format!("{what}: {how_far}{} s so far", start.elapsed().as_secs()));
            }
        });
        // Dropped also when the work panics: the scope waits for its thread.
        let _over = over;
        work(&mut |how_far| *said.lock().unwrap_or_else(PoisonError::into_inner) = format!("{how_far}, "))
    })
}

fn ended<T>(what: &str, start: Instant, done: &Result<T>) {
    let outcome = if done.is_ok() { "done" } else { "FAILED" };
    line(&format!("{what}: {outcome} in {:.1} s", start.elapsed().as_secs_f64()));
}
