//! The log of one attempt of a container, from the journal of its unit: what `systemk logs`, `systemk run` and the kubelet API
//! read it through, so that an option means the same to all of them. Takes options, gives lines or bytes; never writes.

use std::io;

use jiff::Timestamp;
use plan::journal::options::LogOptions;
use plan::journal::{LogLine, LogStream, LogWriter};
use plan::unit::name::service;
use tokio::sync::watch;

use crate::systemd::journal::{Journalctl, LogQuery, LogReader, written};

/// Which container of which pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerName {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) uid: String,
    pub(crate) container: String,
}

impl ContainerName {
    /// The unit of one attempt.
    pub(crate) fn unit(&self, attempt: u32) -> String {
        service(&self.namespace, &self.pod, &self.container, &self.uid, attempt)
    }
}

/// Where a log begins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Begin {
    /// The first attempt to read.
    pub(crate) attempt: u32,
    /// Nothing older: units of the same names may have run before, for another pod of this very manifest.
    pub(crate) since: Option<Timestamp>,
    /// So many lines of the first attempt.
    pub(crate) tail: Option<u64>,
    /// Only this stream.
    pub(crate) stream: Option<LogStream>,
}

impl Begin {
    /// What the options say of a pod that this node first saw at `started_ms`, ms since the epoch.
    pub(crate) fn new(attempt: u32, options: &LogOptions, started_ms: i64, now: Timestamp) -> Self {
        let started = Timestamp::from_millisecond(started_ms).ok();
        let since = options.since.map(|since| since.at(now)).max(started);
        Self { attempt, since, tail: options.tail, stream: options.stream }
    }
}

/// Reads one attempt. With `follow` it ends only after `ended`.
///
/// # Errors
/// journalctl cannot be started.
pub(crate) fn open(
    journalctl: Journalctl,
    name: &ContainerName,
    begin: &Begin,
    follow: bool,
    ended: watch::Receiver<bool>,
) -> io::Result<LogReader> {
    let Begin { attempt, since, tail, stream } = *begin;
    let query = LogQuery { units: vec![name.unit(attempt)], invocations: Vec::new(), follow, since, tail, stream };
    LogReader::open(journalctl, query, ended)
}

/// As [`open`] for all that was written so far; what an attempt wrote before its end is waited for.
///
/// # Errors
/// journalctl cannot be started.
pub(crate) async fn open_written(
    journalctl: Journalctl,
    name: &ContainerName,
    begin: &Begin,
    ended: bool,
) -> io::Result<LogReader> {
    if ended {
        written(&journalctl.streams, &[name.unit(begin.attempt)]).await;
    }
    open(journalctl, name, begin, false, watch::channel(ended).1)
}

/// A log as the bytes that `kubectl logs` prints, piece by piece.
#[derive(Debug)]
pub(crate) struct LogBytes {
    lines: LogReader,
    writer: LogWriter,
    full: bool,
}

/// A piece is handed on once it has so many bytes, or nothing more is there.
const PIECE: usize = 16 * 1024;

impl LogBytes {
    /// Of these lines, as the options want them shown.
    pub(crate) fn new(lines: LogReader, options: &LogOptions) -> Self {
        Self { lines, writer: LogWriter::new(options.timestamps, options.limit_bytes), full: false }
    }

    /// The next piece, None at the end. May be dropped and called again without losing anything.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        while !self.full {
            let mut line: Option<LogLine> = self.lines.next().await?;
            if line.is_none() {
                break;
            }
            let mut piece = Vec::new();
            while let Some(next) = line {
                self.full = !self.writer.write(&next, &mut piece);
                let more = !self.full && piece.len() < PIECE;
                line = if more { self.lines.next_read() } else { None };
            }
            // An empty end of a line is no bytes.
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }
}
