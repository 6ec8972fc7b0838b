//! Log lines out of the journal: `journalctl -o export` to entries, entries to lines, lines to what `kubectl logs` prints.
//!
//! What `systemk logs` and the kubelet API mean by their options is in [`options`], which attempt they mean in [`choose`].
//!
//! Export and not JSON: journalctl 252 writes 60 000 entries in 0.50 s against 1.05 s, and the bytes need no decoding.
//! journald drops empty lines and trailing blanks and cuts a line at 48 KiB; only the cut can be mended here.

pub mod choose;
pub mod options;
mod print;

use std::collections::{HashMap, VecDeque};

pub use print::{LogWriter, rfc3339_nano, sanitize_for_terminal};

/// The fields that [`Entries`] reads, for `--output-fields=`. The cursor and the time always come.
pub const FIELDS: &str = "MESSAGE,_TRANSPORT,PRIORITY,_STREAM_ID,_LINE_BREAK,UNIT,INVOCATION_ID";

/// What is kept of one field. journald itself cuts lines of programs at 48 KiB; native messages can be of any size.
const FIELD_MAX: usize = 256 * 1024;
/// What may wait, over all streams, for the rest of a line.
const PENDING_MAX: usize = 512 * 1024;

/// Which of a container's two streams a line belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogStream {
    /// What was written to standard output or standard error.
    #[default]
    Stdout,
    /// The same with the priority of an error, and what came through syslog or journald's own socket.
    Stderr,
}

/// A line of a container's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogLine {
    /// When its beginning arrived at journald: µs of the realtime clock.
    pub timestamp: u64,
    /// Where it was written.
    pub stream: LogStream,
    /// Without its newline.
    pub bytes: Vec<u8>,
    /// There is no newline: the program ended without one, or the line goes on with the next of its stream.
    pub partial: bool,
    /// The journal's position after this line.
    pub cursor: String,
}

/// One journal entry, of which only what a log needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// `__CURSOR`.
    pub cursor: String,
    /// `__REALTIME_TIMESTAMP`.
    pub realtime_us: u64,
    /// `MESSAGE`; `None` if the entry has none.
    pub message: Option<Vec<u8>>,
    /// `_TRANSPORT`: `stdout`, `syslog`, `journal`.
    pub transport: String,
    /// `PRIORITY`, 0 to 7.
    pub priority: Option<u8>,
    /// `_STREAM_ID`: one for each connection to journald's stdout socket.
    pub stream_id: String,
    /// `_LINE_BREAK`: why the line ended, if not with a newline.
    pub line_break: String,
    /// `UNIT`: the entry is systemd's own remark about that unit.
    pub about_unit: bool,
    /// `INVOCATION_ID`, as `about_unit`.
    pub about_invocation: bool,
}

/// Which stream an entry belongs to. systemd gives a unit one descriptor for both where both are the journal
/// (`exec-invoke.c`, `can_inherit_stderr_from_stdout`), so what a program writes to either is told apart by its priority only
/// (`<3>` at a line's start, sd-daemon(3)); what it says by syslog or the journal's socket is meant for diagnostics.
pub fn classify(entry: &Entry) -> LogStream {
    match (entry.transport.as_str(), entry.priority) {
        ("stdout", Some(0..=3)) => LogStream::Stderr,
        ("stdout", _) => LogStream::Stdout,
        _ => LogStream::Stderr,
    }
}

/// Parses the export format as it arrives. Feed bytes in, take entries out.
#[derive(Debug, Default)]
pub struct Entries {
    state: State,
    /// The text line, or the length, or the binary value read so far, no longer than [`FIELD_MAX`].
    held: Vec<u8>,
    /// The name of the binary field being read.
    name: Vec<u8>,
    entry: Entry,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Line,
    Length,
    Data(u64),
    DataEnd,
}

impl Entries {
    /// Reads `input` and hands every entry that ends in it to `sink`.
    pub fn feed(&mut self, mut input: &[u8], mut sink: impl FnMut(Entry)) {
        while !input.is_empty() {
            match self.state {
                State::Line => {
                    let Some(end) = input.iter().position(|byte| *byte == b'\n') else {
                        self.hold(input);
                        return;
                    };
                    let (line, rest) = input.split_at(end);
                    input = rest.get(1..).unwrap_or_default();
                    self.hold(line);
                    if let Some(entry) = self.line() {
                        sink(entry);
                    }
                }
                State::Length => {
                    let take = input.len().min(8 - self.held.len());
                    let (head, rest) = input.split_at(take);
                    self.held.extend_from_slice(head);
                    input = rest;
                    if let Ok(length) = <[u8; 8]>::try_from(self.held.as_slice()) {
                        self.held.clear();
                        self.state = State::Data(u64::from_le_bytes(length));
                    }
                    if self.state == State::Data(0) {
                        self.state = State::DataEnd;
                    }
                }
                State::Data(left) => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let (head, rest) = input.split_at(take);
                    self.hold(head);
                    input = rest;
                    let left = left - take as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                }
                State::DataEnd => {
                    input = input.get(1..).unwrap_or_default();
                    let (name, value) = (std::mem::take(&mut self.name), std::mem::take(&mut self.held));
                    self.field(&name, value);
                    self.state = State::Line;
                }
            }
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        let room = FIELD_MAX.saturating_sub(self.held.len());
        self.held.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// A line has ended; the empty one ends the entry.
    fn line(&mut self) -> Option<Entry> {
        if self.held.is_empty() {
            let entry = std::mem::take(&mut self.entry);
            return (!entry.cursor.is_empty()).then_some(entry);
        }
        if let Some(equals) = self.held.iter().position(|byte| *byte == b'=') {
            let mut name = std::mem::take(&mut self.held);
            let value = name.split_off(equals + 1);
            name.truncate(equals);
            self.field(&name, value);
        } else {
            self.name = std::mem::take(&mut self.held);
            self.state = State::Length;
        }
        None
    }

    fn field(&mut self, name: &[u8], value: Vec<u8>) {
        let entry = &mut self.entry;
        let text = |value: Vec<u8>| String::from_utf8(value).unwrap_or_default();
        match name {
            b"MESSAGE" => entry.message = Some(value),
            b"__CURSOR" => entry.cursor = text(value),
            b"__REALTIME_TIMESTAMP" => entry.realtime_us = text(value).parse().unwrap_or_default(),
            b"_TRANSPORT" => entry.transport = text(value),
            b"PRIORITY" => entry.priority = text(value).parse().ok(),
            b"_STREAM_ID" => entry.stream_id = text(value),
            b"_LINE_BREAK" => entry.line_break = text(value),
            b"UNIT" => entry.about_unit = true,
            b"INVOCATION_ID" => entry.about_invocation = true,
            _ => {}
        }
    }
}

/// Makes lines of entries: leaves out systemd's own, joins what journald cut, splits what holds newlines.
#[derive(Debug, Default)]
pub struct Lines {
    pending: HashMap<String, LogLine>,
    pending_bytes: usize,
}

impl Lines {
    /// Takes one entry; lines that are complete go to `out`.
    pub fn push(&mut self, entry: Entry, out: &mut VecDeque<LogLine>) {
        let stream = classify(&entry);
        // What systemd says between fork and exec has the unit's own identity, but is about the unit.
        let systemds_own = entry.about_unit && entry.about_invocation;
        let Some(message) = entry.message.filter(|_| !systemds_own) else { return };
        let (timestamp, cursor) = (entry.realtime_us, entry.cursor);
        if entry.transport != "stdout" {
            let message = message.strip_suffix(b"\n").unwrap_or(&message);
            out.extend(message.split(|byte| *byte == b'\n').map(|line| LogLine {
                timestamp,
                stream,
                bytes: line.to_vec(),
                partial: false,
                cursor: cursor.clone(),
            }));
            return;
        }
        let cut = entry.line_break == "line-max";
        let mut line = match self.pending.remove(&entry.stream_id) {
            Some(mut begun) => {
                self.pending_bytes -= begun.bytes.len();
                begun.bytes.extend_from_slice(&message);
                LogLine { cursor, ..begun }
            }
            None => LogLine { timestamp, stream, bytes: message, partial: false, cursor },
        };
        if cut && self.pending_bytes + line.bytes.len() <= PENDING_MAX {
            self.pending_bytes += line.bytes.len();
            self.pending.insert(entry.stream_id, line);
            return;
        }
        // After a change of the writing process journald drops a lone newline, so that break counts as one.
        line.partial = cut || entry.line_break == "eof";
        out.push_back(line);
    }

    /// The journal has ended: what was begun goes to `out`.
    pub fn finish(&mut self, out: &mut VecDeque<LogLine>) {
        let mut rest: Vec<_> = self.pending.drain().map(|(_, line)| LogLine { partial: true, ..line }).collect();
        rest.sort_by_key(|line| line.timestamp);
        self.pending_bytes = 0;
        out.extend(rest);
    }
}

#[cfg(test)]
mod tests;
