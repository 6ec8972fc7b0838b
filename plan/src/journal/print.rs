//! Log lines as `kubectl logs` prints them, and what a terminal may be shown of them.

use super::{LogLine, LogStream};

/// Writes lines as `kubectl logs` shows them.
#[derive(Debug, Default)]
pub struct LogWriter {
    timestamps: bool,
    left: Option<u64>,
    open: Option<LogStream>,
}

impl LogWriter {
    /// With the time before every line, and no more than `limit` bytes in all.
    pub fn new(timestamps: bool, limit: Option<u64>) -> Self {
        Self { timestamps, left: limit, open: None }
    }

    /// Appends `line` to `out`; false once the limit is reached.
    pub fn write(&mut self, line: &LogLine, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let goes_on = self.open == Some(line.stream);
        if self.open.is_some() && !goes_on {
            out.push(b'\n');
        }
        if self.timestamps && !goes_on {
            out.extend_from_slice(rfc3339_nano(line.timestamp).as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(&line.bytes);
        self.open = line.partial.then_some(line.stream);
        if !line.partial {
            out.push(b'\n');
        }
        let Some(left) = self.left else { return true };
        let written = (out.len() - start) as u64;
        if written > left {
            out.truncate(start + usize::try_from(left).unwrap_or(usize::MAX));
        }
        let left = left.saturating_sub(written);
        self.left = Some(left);
        left > 0
    }
}

/// Nine digits after the point, as the kubelet writes them; the journal counts µs.
pub fn rfc3339_nano(realtime_us: u64) -> String {
    let time = i64::try_from(realtime_us).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    format!("{:.9}", time.unwrap_or_default())
}

/// `text` without what a terminal would obey: escape sequences and control characters other than tab and newline.
pub fn sanitize_for_terminal(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        match char {
            '\x1b' => skip_escape(&mut rest),
            '\u{9b}' => skip_until(&mut rest, |char| ('@'..='~').contains(&char)),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_string(&mut rest),
            '\t' | '\n' => clean.push(char),
            char if char.is_control() => {}
            char => clean.push(char),
        }
    }
    clean
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn skip_escape(rest: &mut Chars<'_>) {
    match rest.next() {
        Some('[') => skip_until(rest, |char| ('@'..='~').contains(&char)),
        Some(']' | 'P' | 'X' | '^' | '_') => skip_string(rest),
        Some(' '..='/') => skip_until(rest, |char| ('0'..='~').contains(&char)),
        Some(_) | None => {}
    }
}

fn skip_until(rest: &mut Chars<'_>, last: impl Fn(char) -> bool) {
    // A newline is never part of a sequence: a cut one must not swallow the next line.
    while let Some(char) = rest.next_if(|char| *char != '\n') {
        if last(char) {
            return;
        }
    }
}

fn skip_string(rest: &mut Chars<'_>) {
    while let Some(char) = rest.next_if(|char| *char != '\n') {
        match char {
            '\x07' | '\u{9c}' => return,
            '\x1b' if rest.next_if_eq(&'\\').is_some() => return,
            _ => {}
        }
    }
}
