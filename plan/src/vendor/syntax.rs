//! Unit files as systemd reads them (systemd.syntax(7), `config_parse()` in its conf-parser.c).
//!
//! Takes the text of one file, gives its assignments in order. It knows no directive: what a value means is decided later.
//! Where systemd warns and goes on (no `=`, an assignment outside of a section), this leaves the line out as well.

use std::fmt;

/// systemd's `LONG_LINE_MAX`: a longer line, continuations included, makes the whole file invalid.
pub const LINE_MAX: usize = 1024 * 1024;

const WHITESPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// `name=value` in a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The section as written, without brackets.
    pub section: String,
    /// Stripped of blanks; never empty.
    pub name: String,
    /// Stripped of blanks, continuations joined; empty where the assignment resets.
    pub value: String,
}

/// What one file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitText {
    /// Its sections, once each, in order of appearance: one may be empty.
    pub sections: Vec<String>,
    /// Its assignments in order.
    pub assignments: Vec<Assignment>,
}

/// Why systemd would not load a file at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyntaxError {
    /// The line that starts there is longer than [`LINE_MAX`].
    LineTooLong(usize),
    /// The line there starts with `[` and is no section header.
    BadSection(usize),
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineTooLong(line) => write!(f, "line {line} is longer than 1 MiB, which systemd refuses"),
            Self::BadSection(line) => write!(f, "line {line} starts like a section but is none, which systemd refuses"),
        }
    }
}

/// Reads one file.
pub fn parse(text: &str) -> Result<UnitText, SyntaxError> {
    let mut unit = UnitText::default();
    let mut section: Option<String> = None;
    let mut continued: Option<String> = None;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, raw) in Lines(text).enumerate() {
        let number = index + 1;
        if raw.len() > LINE_MAX {
            return Err(SyntaxError::LineTooLong(number));
        }
        if raw.trim_start_matches(WHITESPACE).starts_with(['#', ';']) {
            continue;
        }
        let mut logical = continued.take().unwrap_or_default();
        if logical.len() + raw.len() > LINE_MAX {
            return Err(SyntaxError::LineTooLong(number));
        }
        // Blanks at the start of a continued line stay: they may be inside of quotes.
        logical.push_str(raw);
        if ends_escaped(&logical) {
            logical.pop();
            logical.push(' ');
            continued = Some(logical);
            continue;
        }
        take_line(&logical, number, &mut section, &mut unit)?;
    }
    if let Some(logical) = continued {
        take_line(&logical, 0, &mut section, &mut unit)?;
    }
    Ok(unit)
}

/// Whether the last character is a backslash that no earlier one escapes.
pub(super) fn ends_escaped(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn take_line(line: &str, number: usize, section: &mut Option<String>, unit: &mut UnitText) -> Result<(), SyntaxError> {
    let line = line.trim_matches(WHITESPACE);
    if line.starts_with('[') {
        let name = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let Some(name) = name.filter(|name| is_safe(name)) else {
            return Err(SyntaxError::BadSection(number));
        };
        if !unit.sections.iter().any(|known| known == name) {
            unit.sections.push(name.to_owned());
        }
        *section = Some(name.to_owned());
        return Ok(());
    }
    let (Some(section), Some((name, value))) = (section.as_ref(), line.split_once('=')) else {
        return Ok(());
    };
    let name = name.trim_matches(WHITESPACE);
    if !name.is_empty() {
        unit.assignments.push(Assignment {
            section: section.clone(),
            name: name.to_owned(),
            value: value.trim_matches(WHITESPACE).to_owned(),
        });
    }
    Ok(())
}

/// systemd's `string_is_safe()`: no control characters, no quotes, no backslash.
pub(super) fn is_safe(text: &str) -> bool {
    !text.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\'' | b'\\' | 0x7f))
}

/// The lines of a file as systemd's `read_line()` cuts them: each of `\n`, `\r` and NUL ends one, and a run of different
/// ones (`\r\n`) is one end.
struct Lines<'a>(&'a str);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r' | 0);
        let bytes = self.0.as_bytes();
        let end = bytes.iter().position(is_end).unwrap_or(bytes.len());
        let mut next = end;
        while next < bytes.len() && is_end(&bytes[next]) && !bytes[end..next].contains(&bytes[next]) {
            next += 1;
        }
        let (line, rest) = (&self.0[..end], &self.0[next..]);
        self.0 = rest;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        let unit = parse(text).unwrap();
        unit.assignments.into_iter().map(|assignment| (assignment.name, assignment.value)).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_man_page_example() {
        let text = "[Section C]\nKeyThree=value 3\\\n# this line is ignored\n; this line is ignored too\n       value 3 continued\n";
        assert_eq!(values(text), pairs(&[("KeyThree", "value 3        value 3 continued")]));
    }

    #[test]
    fn line_ends() {
        assert_eq!(values("[S]\r\nA=1\r\n\r\nB=2\rC=3\0D=4"), pairs(&[("A", "1"), ("B", "2"), ("C", "3"), ("D", "4")]));
        assert_eq!(values("[S]\nA=1 \\\r\n  2\r\n"), pairs(&[("A", "1    2")]));
    }

    #[test]
    fn continuations_end_at_an_empty_line_and_at_the_end_of_the_file() {
        assert_eq!(values("[S]\nA=1\\\n\nB=2\n"), pairs(&[("A", "1"), ("B", "2")]));
        assert_eq!(values("[S]\nA=1\\"), pairs(&[("A", "1")]));
        assert_eq!(values("[S]\nA=1\\\\\nB=2"), pairs(&[("A", "1\\\\"), ("B", "2")]));
    }

    #[test]
    fn what_is_not_an_assignment_is_left_out() {
        assert_eq!(values("A=0\n[S]\njunk\n=x\n A = b = c \n#A=1\n ;A=2\nE="), pairs(&[("A", "b = c"), ("E", "")]));
    }

    #[test]
    fn what_systemd_refuses() {
        assert_eq!(parse("[S\n"), Err(SyntaxError::BadSection(1)));
        assert_eq!(parse("[a\"b]\n"), Err(SyntaxError::BadSection(1)));
        assert_eq!(parse("["), Err(SyntaxError::BadSection(1)));
        let long = format!("[S]\nA={}\n", "x".repeat(LINE_MAX));
        assert_eq!(parse(&long), Err(SyntaxError::LineTooLong(2)));
        let continued = format!("[S]\nA={0}\\\n{0}\n", "x".repeat(LINE_MAX / 2));
        assert_eq!(parse(&continued), Err(SyntaxError::LineTooLong(3)));
    }
}
