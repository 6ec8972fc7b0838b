//! `exit.json`: what the unit's first `ExecStopPost=` line writes down, for an agent that was not there to see the end.

use serde::{Deserialize, Serialize};

/// The version that this build writes. A reader refuses a newer one.
pub const EXIT_VERSION: u32 = 1;

/// The file's name in the directory that the hook is given.
pub const EXIT_FILE: &str = "exit.json";

/// The end of one invocation, in systemd's own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitRecord {
    /// [`EXIT_VERSION`] of the writer.
    pub version: u32,
    /// `$INVOCATION_ID`: a record of another invocation says nothing about this one.
    pub invocation: String,
    /// `$SERVICE_RESULT`: `success`, `exit-code`, `signal`, `core-dump`, `oom-kill`, `timeout`, …
    pub result: String,
    /// `$EXIT_CODE`: `exited`, `killed` or `dumped`; empty if no main process ended (a line before it failed).
    pub code: String,
    /// `$EXIT_STATUS`: a number if exited, else a signal's name without `SIG`.
    pub status: String,
    /// When the hook ran, RFC 3339 with microseconds.
    pub finished_at: String,
}

/// How the main process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// By this signal, which left a core dump.
    Dumped(i32),
    /// There was none, or the record does not make sense. Never a success.
    Unknown,
}

impl Outcome {
    /// The exit code that a pod's status shows: 128 + n for a signal.
    pub fn exit_code(self) -> Option<i32> {
        match self {
            Self::Exited(status) => Some(status),
            Self::Killed(signal) | Self::Dumped(signal) => Some(128 + signal),
            Self::Unknown => None,
        }
    }

    /// The signal, for a pod's status.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Killed(signal) | Self::Dumped(signal) => Some(signal),
            Self::Exited(_) | Self::Unknown => None,
        }
    }
}

impl ExitRecord {
    /// How the main process ended. A record without an invocation is of nothing, however well it ended.
    pub fn outcome(&self) -> Outcome {
        let signal = || signal_number(&self.status);
        let outcome = match self.code.as_str() {
            _ if self.invocation.is_empty() => None,
            "exited" => self.status.parse().ok().filter(|s| (0..=255).contains(s)).map(Outcome::Exited),
            "killed" => signal().map(Outcome::Killed),
            "dumped" => signal().map(Outcome::Dumped),
            _ => None,
        };
        outcome.unwrap_or(Outcome::Unknown)
    }
}

/// Names as systemd writes them, each at its number (x86, arm, riscv, s390 and power agree on these).
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// The C library's first and last real-time signal.
const REALTIME: (i32, i32) = (34, 64);

/// The number of `TERM`, `SIGTERM`, `RTMIN+3` or `15`.
pub fn signal_number(name: &str) -> Option<i32> {
    let bare = name.strip_prefix("SIG").unwrap_or(name);
    if let Some(place) = SIGNALS.iter().position(|s| *s == bare) {
        return i32::try_from(place + 1).ok();
    }
    let (first, last) = REALTIME;
    let offset = |text: &str| if text.is_empty() { Some(0) } else { text[1..].parse::<i32>().ok() };
    let number = match (bare.strip_prefix("RTMIN"), bare.strip_prefix("RTMAX")) {
        (Some(more), _) if more.is_empty() || more.starts_with('+') => first.checked_add(offset(more)?)?,
        (_, Some(less)) if less.is_empty() || less.starts_with('-') => last.checked_sub(offset(less)?)?,
        _ => bare.parse().ok()?,
    };
    (1..=last).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(code: &str, status: &str) -> ExitRecord {
        ExitRecord {
            version: EXIT_VERSION,
            invocation: "c1".to_owned(),
            result: "success".to_owned(),
            code: code.to_owned(),
            status: status.to_owned(),
            finished_at: "2026-01-02T03:04:05.000006Z".to_owned(),
        }
    }

    #[test]
    fn outcomes() {
        let cases = [
            ("exited", "0", Outcome::Exited(0), Some(0)),
            ("exited", "255", Outcome::Exited(255), Some(255)),
            ("exited", "256", Outcome::Unknown, None),
            ("exited", "TERM", Outcome::Unknown, None),
            ("exited", "", Outcome::Unknown, None),
            ("killed", "KILL", Outcome::Killed(9), Some(137)),
            ("killed", "SIGTERM", Outcome::Killed(15), Some(143)),
            ("killed", "SYS", Outcome::Killed(31), Some(159)),
            ("killed", "RTMIN", Outcome::Killed(34), Some(162)),
            ("killed", "RTMIN+3", Outcome::Killed(37), Some(165)),
            ("killed", "RTMAX-1", Outcome::Killed(63), Some(191)),
            ("killed", "9", Outcome::Killed(9), Some(137)),
            ("killed", "RTMIN+99", Outcome::Unknown, None),
            ("killed", "RTMINé", Outcome::Unknown, None),
            ("killed", "RTMIN+2147483647", Outcome::Unknown, None),
            ("killed", "0", Outcome::Unknown, None),
            ("dumped", "SEGV", Outcome::Dumped(11), Some(139)),
            ("dumped", "", Outcome::Unknown, None),
            ("", "", Outcome::Unknown, None),
        ];
        for (code, status, outcome, exit_code) in cases {
            assert_eq!(record(code, status).outcome(), outcome, "{code} {status}");
            assert_eq!(outcome.exit_code(), exit_code, "{code} {status}");
        }
    }

    #[test]
    fn success_without_an_invocation_is_unknown() {
        let record = ExitRecord { invocation: String::new(), ..record("exited", "0") };
        assert_eq!(record.outcome(), Outcome::Unknown);
    }

    #[test]
    fn the_file_is_what_is_documented() {
        let json = serde_json::to_string(&record("exited", "0")).unwrap();
        let expected = r#"{"version":1,"invocation":"c1","result":"success","code":"exited","status":"0","finishedAt":"2026-01-02T03:04:05.000006Z"}"#;
        assert_eq!(json, expected);
    }
}
