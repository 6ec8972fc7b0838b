//! What a person sees on standard error while pods come, run and go: lines that stay, and on a terminal one that moves.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use plan::journal::{LogLine, sanitize_for_terminal};

use crate::cli::output::{self, Style};

/// Standard error of `run`.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    pub(super) style: Style,
    waiting: String,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { bar: None, style: Style::of_stderr(), waiting: String::new() }
    }

    /// A line that stays.
    pub(super) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::tell(text)),
            None => output::tell(text),
        }
    }

    /// A container's output; false if nobody reads it any more.
    pub(super) fn output(&self, bytes: &[u8]) -> std::io::Result<bool> {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::write(bytes)),
            None => output::write(bytes),
        }
    }

    /// What is waited for at this moment; empty: nothing.
    pub(super) fn waits(&mut self, text: &str) {
        if self.waiting == text {
            return;
        }
        text.clone_into(&mut self.waiting);
        if !std::io::stderr().is_terminal() {
            if !text.is_empty() {
                output::tell(text);
            }
            return;
        }
        if text.is_empty() {
            if let Some(bar) = self.bar.take() {
                bar.finish_and_clear();
            }
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(text.to_owned());
    }
}

/// A container's line as it is printed: always with a newline, as another container's, or a remark of ours, may follow.
pub(super) fn shown(prefix: &str, line: &LogLine) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(prefix.len() + line.bytes.len() + 1);
    bytes.extend_from_slice(prefix.as_bytes());
    if std::io::stdout().is_terminal() {
        bytes.extend_from_slice(sanitize_for_terminal(&line.bytes).as_bytes());
    } else {
        bytes.extend_from_slice(&line.bytes);
    }
    bytes.push(b'\n');
    bytes
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
