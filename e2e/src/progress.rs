//! Progress of anything that takes more than a few seconds: a spinner on a terminal, plain lines elsewhere. Always stderr,
//! so that stdout stays machine-readable.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::ProgressBar;

/// How often a long piece of work says how far it is where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// One plain line.
pub fn line(text: &str) {
    eprintln!("{text}");
}

/// Runs `work` while showing `what`, then says how long it took.
pub fn during<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    during_counted(what, |_| work())
}

/// Like [`during`] for work of minutes, which says through its argument how far it is.
pub fn during_counted<T>(what: &str, work: impl FnOnce(&mut dyn FnMut(&str)) -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let spinner = if std::io::stderr().is_terminal() {
        let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
        spinner.enable_steady_tick(Duration::from_millis(120));
        Some(spinner)
    } else {
        line(&format!("{what} ..."));
        None
    };
    let mut last = start;
    let done = work(&mut |how_far| match &spinner {
        Some(spinner) => spinner.set_message(format!("{what}: {how_far}")),
        None if last.elapsed() >= BETWEEN_LINES => {
            line(&format!("{what}: {how_far}, {:.0} s so far", start.elapsed().as_secs_f64()));
            last = Instant::now();
        }
        None => {}
    });
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let outcome = if done.is_ok() { "done" } else { "FAILED" };
    line(&format!("{what}: {outcome} in {:.1} s", start.elapsed().as_secs_f64()));
    done
}
