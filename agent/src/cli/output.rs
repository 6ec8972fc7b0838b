//! What is printed where: a reader that went away ends a command quietly, colours only where a person looks.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::config::DataFormat;

/// Writes all of `text` to standard output.
///
/// # Errors
/// Standard output cannot be written, other than because its reader went away.
pub(super) fn print(text: &str) -> anyhow::Result<ExitCode> {
    write(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// As [`print()`]; false if nobody reads any more.
pub(super) fn write(bytes: &[u8]) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether what is written to standard output is read by nobody any more: a pipe without a reader, a terminal that is gone.
/// Who has nothing to write learns it no other way.
pub(super) fn is_unread() -> bool {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// One document.
///
/// # Errors
/// It cannot be written.
pub(super) fn print_data(format: DataFormat, value: &impl Serialize) -> anyhow::Result<ExitCode> {
    let text = match format {
        DataFormat::Json => serde_json::to_string_pretty(value)? + "\n",
        DataFormat::Yaml => serde_saphyr::to_string(value)?,
    };
    print(&text)
}

/// A line for the person who waits; standard error may be gone too, which is nobody's concern.
pub(super) fn tell(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// How text is set off, where that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    coloured: bool,
}

impl Style {
    #[cfg(test)]
    pub(super) const PLAIN: Self = Self { coloured: false };

    /// For standard output.
    pub(super) fn of_stdout() -> Self {
        Self { coloured: io::stdout().is_terminal() && wanted() }
    }

    /// For standard error.
    pub(super) fn of_stderr() -> Self {
        Self { coloured: io::stderr().is_terminal() && wanted() }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn heading(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(super) fn error(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub(super) fn warning(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(super) fn quiet(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// <https://no-color.org>
fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
