//! Which part of a log is wanted, and how it is shown: v1 PodLogOptions, from the query of a request or from arguments.
//!
//! Rules are those of k8s.io/kubernetes `pkg/kubelet/server/server.go` (getContainerLogs), of apimachinery's
//! `runtime/conversion.go` (values of a query) and of `pkg/apis/core/v1/validation` (ValidatePodLogOptions).

use jiff::{SignedDuration, Timestamp};

use super::LogStream;

/// The longest query that is read, bytes. All options together need a tenth of it.
pub const QUERY_MAX: usize = 4096;

/// What is wanted of a container's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with what is written later, until the attempt ends.
    pub follow: bool,
    /// The last run that ended before the one that is shown otherwise.
    pub previous: bool,
    /// Nothing older.
    pub since: Option<Since>,
    /// So many lines at the end, before what is too old is left out.
    pub tail: Option<u64>,
    /// No more than so many bytes in all, those of timestamps included.
    pub limit_bytes: Option<u64>,
    /// The time before each line.
    pub timestamps: bool,
    /// Only this stream. With `tail`, its own last lines: the kubelet refuses the two together.
    pub stream: Option<LogStream>,
}

/// Where a log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So many seconds before now.
    Seconds(i64),
    /// Then.
    Time(Timestamp),
}

/// Why there is no log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Not a query, or a value of the wrong type: 400.
    #[error("Unable to decode query: {0}")]
    Undecodable(String),
    /// Values that make no sense, each with its field as apimachinery prints it: 422.
    #[error("Invalid request: {}", .0.join(", "))]
    Invalid(Vec<String>),
}

impl Since {
    /// When that is. Before 1970 is as good as never.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Time(time) => time,
            Self::Seconds(seconds) => {
                now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::UNIX_EPOCH)
            }
        }
    }

    /// What people write: an age (`90s`, `5m`, `1h30m`, `3d`) or a time of RFC 3339. None: neither.
    pub fn from_text(text: &str) -> Option<Self> {
        text.parse().map(Self::Time).ok().or_else(|| age(text).map(Self::Seconds))
    }
}

impl LogOptions {
    /// Reads the query of a request, without its `?`. As in Go, the first of several values counts and unknown names do not.
    ///
    /// # Errors
    /// It cannot be decoded, or what it says is not allowed.
    pub fn from_query(query: &str) -> Result<Self, OptionsError> {
        if query.len() > QUERY_MAX {
            return Err(OptionsError::Undecodable(format!("it has more than {QUERY_MAX} bytes")));
        }
        let pairs = pairs(query)?;
        let value = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        // The name that the query had before PodLogOptions; it wins, as in the kubelet.
        let tail = match value("tail").filter(|tail| !tail.is_empty()) {
            Some("all") => None,
            Some(tail) => Some(tail),
            None => value("tailLines"),
        };
        let tail = number("tailLines", tail)?;
        let limit_bytes = number("limitBytes", value("limitBytes"))?;
        let seconds = number("sinceSeconds", value("sinceSeconds"))?;
        let time = time(value("sinceTime"))?;
        let mut wrong = Vec::new();
        if let Some(tail) = tail.filter(|tail| *tail < 0) {
            wrong.push(format!("tailLines: Invalid value: {tail}: must be greater than or equal to 0"));
        }
        if let Some(limit) = limit_bytes.filter(|limit| *limit < 1) {
            wrong.push(format!("limitBytes: Invalid value: {limit}: must be greater than 0"));
        }
        let since = match (seconds, time) {
            (Some(_), Some(_)) => {
                let text = "at most one of `sinceTime` or `sinceSeconds` may be specified";
                wrong.push(format!("<nil>: Forbidden: {text}"));
                None
            }
            (Some(seconds), None) if seconds < 1 => {
                wrong.push(format!("sinceSeconds: Invalid value: {seconds}: must be greater than 0"));
                None
            }
            (Some(seconds), None) => Some(Since::Seconds(seconds)),
            (None, time) => time.map(Since::Time),
        };
        let stream = match value("stream") {
            None | Some("All") => None,
            Some("Stdout") => Some(LogStream::Stdout),
            Some("Stderr") => Some(LogStream::Stderr),
            Some(other) => {
                let known = r#"supported values: "All", "Stderr", "Stdout""#;
                wrong.push(format!("stream: Unsupported value: {other:?}: {known}"));
                None
            }
        };
        if !wrong.is_empty() {
            return Err(OptionsError::Invalid(wrong));
        }
        Ok(Self {
            follow: switch(value("follow")),
            previous: switch(value("previous")),
            since,
            tail: tail.and_then(|tail| u64::try_from(tail).ok()),
            limit_bytes: limit_bytes.and_then(|limit| u64::try_from(limit).ok()),
            timestamps: switch(value("timestamps")),
            stream,
        })
    }
}

/// Only its absence, `false` and `0` are false (Convert_Slice_string_To_bool).
fn switch(value: Option<&str>) -> bool {
    value.is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
}

fn number(name: &str, value: Option<&str>) -> Result<Option<i64>, OptionsError> {
    let wrong = |value: &str| OptionsError::Undecodable(format!("{name} must be an integer, not {value:?}"));
    value.map(|value| value.parse().map_err(|_| wrong(value))).transpose()
}

fn time(value: Option<&str>) -> Result<Option<Timestamp>, OptionsError> {
    // An empty time is Go's zero time, which is before every line.
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    let strict = value.bytes().all(|b| b.is_ascii_digit() || b"TZ:+-.".contains(&b)) && value.contains('T');
    let parsed = value.parse().ok().filter(|_| strict);
    let wrong = || OptionsError::Undecodable(format!("sinceTime must be a time of RFC 3339, not {value:?}"));
    parsed.map(Some).ok_or_else(wrong)
}

fn pairs(query: &str) -> Result<Vec<(String, String)>, OptionsError> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Some((decoded(name)?, decoded(value)?))
    };
    let wrong = || OptionsError::Undecodable("it has a % without two hexadecimal digits, or is not UTF-8".to_owned());
    parts.map(|part| pair(part).ok_or_else(wrong)).collect()
}

/// `application/x-www-form-urlencoded`.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit()? * 16 + digit()?
            }
            other => other,
        });
    }
    String::from_utf8(plain).ok()
}

/// `1h30m` to seconds.
fn age(text: &str) -> Option<i64> {
    let mut seconds: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.chars().next()?;
        let factor = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 24 * 3600,
            _ => return None,
        };
        seconds = number.parse::<i64>().ok()?.checked_mul(factor)?.checked_add(seconds)?;
        rest = tail.get(unit.len_utf8()..)?;
    }
    (!text.is_empty()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> LogOptions {
        LogOptions::from_query(query).unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    #[test]
    fn each_option_of_a_query() {
        let none = LogOptions::default;
        let time = Since::Time("2026-01-31T10:00:00.5Z".parse().unwrap());
        let table = [
            ("", none()),
            ("&&", none()),
            ("follow=true&container=x&unknown=%20", LogOptions { follow: true, ..none() }),
            (
                "follow&previous=&timestamps=yes",
                LogOptions { follow: true, previous: true, timestamps: true, ..none() },
            ),
            ("follow=False&previous=0&timestamps=false", none()),
            ("tailLines=5&tailLines=9", LogOptions { tail: Some(5), ..none() }),
            ("tailLines=0&limitBytes=1", LogOptions { tail: Some(0), limit_bytes: Some(1), ..none() }),
            ("tail=7&tailLines=5", LogOptions { tail: Some(7), ..none() }),
            ("tail=all&tailLines=5", none()),
            ("tail=&tailLines=5", LogOptions { tail: Some(5), ..none() }),
            ("sinceSeconds=90", LogOptions { since: Some(Since::Seconds(90)), ..none() }),
            ("sinceTime=2026-01-31T12:00:00.5%2B02:00", LogOptions { since: Some(time), ..none() }),
            ("sinceTime=", none()),
            ("stream=All", none()),
            ("stream=Stderr&tailLines=1", LogOptions { stream: Some(LogStream::Stderr), tail: Some(1), ..none() }),
        ];
        for (query, expected) in table {
            assert_eq!(read(query), expected, "{query}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_and_what_is_not_allowed() {
        let undecodable = [
            "tailLines=",
            "tailLines=five",
            "tailLines=1.5",
            "tail=ALL",
            "limitBytes=9223372036854775808",
            "sinceSeconds=5s",
            "sinceTime=yesterday",
            "sinceTime=2026-01-31",
            "sinceTime=2026-01-31T12:00:00",
            "follow=%",
            "follow=%4",
            "follow=%zz",
            "%ff=1",
            "sinceTime=2026-01-31T12:00:00Z%00",
        ];
        for query in undecodable {
            let error = LogOptions::from_query(query).unwrap_err();
            assert!(matches!(error, OptionsError::Undecodable(_)), "{query}: {error}");
        }
        let huge = format!("follow=1&x={}", "a".repeat(QUERY_MAX));
        assert!(matches!(LogOptions::from_query(&huge), Err(OptionsError::Undecodable(_))));
        let invalid = [
            ("tailLines=-1", "tailLines: Invalid value: -1: must be greater than or equal to 0"),
            ("limitBytes=0", "limitBytes: Invalid value: 0: must be greater than 0"),
            ("sinceSeconds=0", "sinceSeconds: Invalid value: 0: must be greater than 0"),
            (
                "sinceSeconds=1&sinceTime=2026-01-31T12:00:00Z",
                "<nil>: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
            ),
            ("stream=stdout", r#"stream: Unsupported value: "stdout": supported values: "All", "Stderr", "Stdout""#),
        ];
        for (query, text) in invalid {
            assert_eq!(LogOptions::from_query(query), Err(OptionsError::Invalid(vec![text.to_owned()])), "{query}");
        }
        let both = LogOptions::from_query("tailLines=-1&limitBytes=-1").unwrap_err();
        assert!(matches!(&both, OptionsError::Invalid(all) if all.len() == 2), "{both}");
        // What a client sent does not come back as what a terminal obeys.
        let error = LogOptions::from_query("stream=%1b[31m%0a").unwrap_err().to_string();
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }

    #[test]
    fn since_is_an_age_or_a_time() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let at = |text: &str| Since::from_text(text).unwrap().at(now).to_string();
        assert_eq!(at("90s"), "2026-01-01T23:58:30Z");
        assert_eq!(at("1h30m"), "2026-01-01T22:30:00Z");
        assert_eq!(at("1d"), "2026-01-01T00:00:00Z");
        assert_eq!(at("2025-12-31T10:00:00+02:00"), "2025-12-31T08:00:00Z");
        for wrong in ["", "5", "m", "5x", "5mm", "-5m", "yesterday", "99999999999999999999s"] {
            assert_eq!(Since::from_text(wrong), None, "{wrong}");
        }
        assert_eq!(Since::Seconds(i64::MAX).at(now), Timestamp::UNIX_EPOCH);
    }
}
