//! Container logs: runs journalctl, hands on lines. One process per reader, nothing when nobody reads; it never writes.
//!
//! Lines are found by unit name. The invocation id is missing from lines that journald reads after the unit is unloaded
//! (8 of 420 lines of 60 short-lived units, systemd 252), the unit's name is not: it comes with the stream.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use plan::journal::{Entries, FIELDS, Lines, LogLine, LogStream};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;

/// How the journal is read.
#[derive(Clone, Debug)]
pub(crate) struct Journalctl {
    /// The program, and arguments before ours (`--directory=` for another journal than the machine's).
    pub(crate) command: Vec<OsString>,
    /// Where journald notes the streams that are open.
    pub(crate) streams: PathBuf,
}

impl Default for Journalctl {
    fn default() -> Self {
        let streams = PathBuf::from("/run/systemd/journal/streams");
        Self { command: vec![OsString::from("journalctl")], streams }
    }
}

/// Which lines. `timestamps` and `limit_bytes` are [`plan::journal::LogWriter`]'s.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogQuery {
    /// Lines of any of these units.
    pub(crate) units: Vec<String>,
    /// Lines of any of these invocations, in addition.
    pub(crate) invocations: Vec<String>,
    /// Go on with what is written later.
    pub(crate) follow: bool,
    /// Nothing older.
    pub(crate) since: Option<jiff::Timestamp>,
    /// Only so many at the end. Counted in journal entries: a line that journald cut counts for each of its parts.
    pub(crate) tail: Option<u64>,
    /// Only this stream.
    pub(crate) stream: Option<LogStream>,
}

/// Where a journalctl begins.
enum From<'a> {
    Query,
    Cursor(&'a str),
    Time(jiff::Timestamp),
}

/// Reads a container's log line by line.
#[derive(Debug)]
pub(crate) struct LogReader {
    journalctl: Journalctl,
    query: LogQuery,
    /// `true`, or the sender gone: nothing is written any more, so what follows is the end.
    ended: watch::Receiver<bool>,
    process: Option<(Child, ChildStdout)>,
    following: bool,
    opened: jiff::Timestamp,
    buffer: Vec<u8>,
    entries: Entries,
    lines: Lines,
    ready: VecDeque<LogLine>,
    /// After the last entry read.
    cursor: String,
}

/// As large as a pipe's usual content; more only costs memory per reader.
const BUFFER: usize = 16 * 1024;

impl LogReader {
    /// Starts reading. With `follow` it ends only after `ended`.
    pub(crate) fn open(journalctl: Journalctl, query: LogQuery, ended: watch::Receiver<bool>) -> io::Result<Self> {
        let nothing = !query.follow && query.tail == Some(0) || query.units.is_empty() && query.invocations.is_empty();
        let process =
            if nothing { None } else { Some(start(&journalctl, &arguments(&query, &From::Query, query.follow))?) };
        Ok(Self {
            following: query.follow && process.is_some(),
            journalctl,
            query,
            ended,
            process,
            opened: jiff::Timestamp::now(),
            buffer: vec![0; BUFFER],
            entries: Entries::default(),
            lines: Lines::default(),
            ready: VecDeque::new(),
            cursor: String::new(),
        })
    }

    /// The next line, `None` at the end. May be dropped and called again without losing anything.
    pub(crate) async fn next(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            if let Some(line) = self.next_read() {
                return Ok(Some(line));
            }
            let Some((_, stdout)) = &mut self.process else { return Ok(None) };
            let read = tokio::select! {
                read = stdout.read(&mut self.buffer) => read?,
                () = is_true(&mut self.ended), if self.following => {
                    written(&self.journalctl.streams, &self.query.units).await;
                    self.replace_follower()?;
                    continue;
                }
            };
            match self.buffer.get(..read) {
                Some(bytes) if read > 0 => {
                    let (lines, ready, cursor) = (&mut self.lines, &mut self.ready, &mut self.cursor);
                    self.entries.feed(bytes, |entry| {
                        cursor.clone_from(&entry.cursor);
                        lines.push(entry, ready);
                    });
                }
                _ => {
                    self.lines.finish(&mut self.ready);
                    if let Some((child, _)) = self.process.take() {
                        succeeded(child).await?;
                    }
                }
            }
        }
    }

    /// The next line of those that were read already, None if there is none.
    pub(crate) fn next_read(&mut self) -> Option<LogLine> {
        loop {
            let line = self.ready.pop_front()?;
            if self.is_wanted(&line) {
                return Some(line);
            }
        }
    }

    /// Ends the process that follows, and starts one that reads from where it was to the end of the journal. What the first
    /// has not handed over the second reads again: only whole entries move the cursor.
    fn replace_follower(&mut self) -> io::Result<()> {
        // Killed when dropped.
        self.process = None;
        self.following = false;
        self.entries = Entries::default();
        let from = match (self.cursor.as_str(), self.query.tail) {
            ("", Some(0)) => From::Time(self.opened),
            ("", _) => From::Query,
            (cursor, _) => From::Cursor(cursor),
        };
        self.process = Some(start(&self.journalctl, &arguments(&self.query, &from, false))?);
        Ok(())
    }

    /// With `tail`, journalctl must not be told `since`: it would count from there. What is too old is left out here.
    fn is_wanted(&self, line: &LogLine) -> bool {
        let since = self.query.since.map_or(0, |since| u64::try_from(since.as_microsecond()).unwrap_or_default());
        line.timestamp >= since
    }
}

fn start(journalctl: &Journalctl, arguments: &[String]) -> io::Result<(Child, ChildStdout)> {
    let (program, first) = journalctl.command.split_first().ok_or(io::ErrorKind::NotFound)?;
    let mut command = Command::new(program);
    command.args(first);
    command.args(arguments).env("LC_ALL", "C").env_remove("SYSTEMD_LOG_LEVEL");
    // Ctrl-C at a terminal goes to the whole group; how the reader ends is its caller's to say.
    command.process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let stdout = child.stdout.take().ok_or_else(|| io::Error::other("journalctl has no output"))?;
    Ok((child, stdout))
}

fn arguments(query: &LogQuery, from: &From<'_>, follow: bool) -> Vec<String> {
    let mut all: Vec<String> = ["--quiet", "--no-pager", "--all", "--output=export"].map(str::to_owned).into();
    all.push(format!("--output-fields={FIELDS}"));
    let tail = query.tail.and_then(|tail| i32::try_from(tail).ok());
    let since = |time: jiff::Timestamp| {
        let us = time.as_microsecond().max(0);
        format!("--since=@{}.{:06}", us / 1_000_000, us % 1_000_000)
    };
    match (from, tail, query.since) {
        (From::Cursor(cursor), ..) => all.push(format!("--after-cursor={cursor}")),
        (From::Time(time), ..) => all.push(since(*time)),
        (From::Query, Some(tail), _) => all.push(format!("--lines={tail}")),
        (From::Query, None, Some(time)) => all.push(since(time)),
        (From::Query, None, None) => {}
    }
    if follow {
        all.push("--follow".to_owned());
        if tail.is_none() {
            all.push("--no-tail".to_owned());
        }
    }
    all.extend(matches(query));
    all
}

/// Fields of different names must all match, `+` begins an alternative.
fn matches(query: &LogQuery) -> Vec<String> {
    let identities = [("_SYSTEMD_UNIT", &query.units), ("_SYSTEMD_INVOCATION_ID", &query.invocations)];
    let priorities = |range: std::ops::RangeInclusive<u8>| range.map(|priority| ("PRIORITY", priority.to_string()));
    let transports =
        |names: &[&str]| -> Vec<_> { names.iter().map(|name| ("_TRANSPORT", (*name).to_owned())).collect() };
    let kinds = match query.stream {
        None => vec![transports(&["stdout", "syslog", "journal"])],
        Some(LogStream::Stdout) => vec![transports(&["stdout"]).into_iter().chain(priorities(4..=7)).collect()],
        Some(LogStream::Stderr) => vec![
            transports(&["stdout"]).into_iter().chain(priorities(0..=3)).collect(),
            transports(&["syslog", "journal"]),
        ],
    };
    let mut all = Vec::new();
    for (field, values) in identities.into_iter().filter(|(_, values)| !values.is_empty()) {
        for kind in &kinds {
            if !all.is_empty() {
                all.push("+".to_owned());
            }
            all.extend(values.iter().map(|value| format!("{field}={value}")));
            all.extend(kind.iter().map(|(field, value)| format!("{field}={value}")));
        }
    }
    all
}

async fn is_true(ended: &mut watch::Receiver<bool>) {
    // A sender that is gone says the same.
    drop(ended.wait_for(|ended| *ended).await);
}

/// Waits until journald has read all that `units` have written: until it has closed their streams, at most a second.
/// Its notes are private, so what they do not say is taken for "closed".
pub(crate) async fn written(streams: &Path, units: &[String]) {
    const PATIENCE: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_millis(10);
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE && any_open(streams, units) {
        tokio::time::sleep(PAUSE).await;
    }
}

fn any_open(streams: &Path, units: &[String]) -> bool {
    let Ok(notes) = std::fs::read_dir(streams) else { return false };
    notes.flatten().filter_map(|note| std::fs::read_to_string(note.path()).ok()).any(|note| {
        let unit = note.lines().find_map(|line| line.strip_prefix("UNIT="));
        unit.is_some_and(|unit| units.iter().any(|wanted| wanted == unit))
    })
}

async fn succeeded(mut child: Child) -> io::Result<()> {
    let mut complaint = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(1024).read_to_end(&mut complaint).await?;
    }
    let status = child.wait().await?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("journalctl: {status}: {}", String::from_utf8_lossy(&complaint).trim())))
}

#[cfg(test)]
mod tests;
