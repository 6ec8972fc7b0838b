//! What can go wrong with a request to systemd, told apart only where a caller or a pod's status does.

use plan::observed::JobResult;

/// Why a request to systemd had no success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BusError {
    /// Not loaded, or no such unit file.
    #[error("systemd knows no unit {unit}")]
    NoSuchUnit { unit: String },
    /// The name is taken by a loaded unit (transient units only).
    #[error("unit {unit} exists")]
    UnitExists { unit: String },
    /// The administrator masked it.
    #[error("unit {unit} is masked")]
    Masked { unit: String },
    /// systemd read the unit file and refuses it (`BadUnitSetting`, `LoadFailed`).
    #[error("systemd cannot load {unit}: {message}")]
    LoadFailed { unit: String, message: String },
    /// The job ran and ended with something else than `done`.
    #[error("the job for {unit} ended with `{result}`")]
    JobFailed { unit: String, result: JobResult },
    /// No answer in time, or a limit of the bus. PID 1 is single-threaded: busy is not broken, and the request may still be obeyed.
    #[error("systemd is busy: no answer to {request}")]
    Busy { request: String },
    /// The bus or systemd went away. What was asked for may have happened: look at the unit.
    #[error("no connection to systemd: {reason}")]
    Disconnected { reason: String },
    /// Anything else, in systemd's words.
    #[error("{name}: {message}")]
    Other { name: String, message: String },
}

/// systemd's name for "this job is over".
pub(super) const NO_SUCH_JOB: &str = "org.freedesktop.systemd1.NoSuchJob";
/// systemd's name for "there is no process to signal".
pub(super) const NO_SUCH_PROCESS: &str = "org.freedesktop.systemd1.NoSuchProcess";

impl BusError {
    /// `error` as the answer to a `request` about `unit`.
    pub(super) fn from_zbus(error: zbus::Error, unit: &str, request: &str) -> Self {
        match error {
            zbus::Error::MethodError(name, message, _) => {
                Self::from_reply(name.as_str(), message.unwrap_or_default(), unit, request)
            }
            zbus::Error::FDO(error) => {
                use zbus::DBusError as _;
                if let zbus::fdo::Error::ZBus(inner) = *error {
                    return Self::from_zbus(inner, unit, request);
                }
                let name = error.name();
                let message = error.description().unwrap_or_default().to_owned();
                Self::from_reply(name.as_str(), message, unit, request)
            }
            zbus::Error::InputOutput(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                Self::Busy { request: request.to_owned() }
            }
            zbus::Error::InputOutput(_) | zbus::Error::Connection(..) | zbus::Error::Handshake(_) => {
                Self::Disconnected { reason: error.to_string() }
            }
            other => Self::Other { name: "zbus".to_owned(), message: other.to_string() },
        }
    }

    fn from_reply(name: &str, message: String, unit: &str, request: &str) -> Self {
        let unit = || unit.to_owned();
        if let Some(kind) = name.strip_prefix("org.freedesktop.systemd1.") {
            return match kind {
                "NoSuchUnit" => Self::NoSuchUnit { unit: unit() },
                "UnitExists" => Self::UnitExists { unit: unit() },
                "UnitMasked" => Self::Masked { unit: unit() },
                "LoadFailed" | "BadUnitSetting" => Self::LoadFailed { unit: unit(), message },
                _ => Self::Other { name: name.to_owned(), message },
            };
        }
        match name.strip_prefix("org.freedesktop.DBus.Error.").unwrap_or_default() {
            "UnknownObject" => Self::NoSuchUnit { unit: unit() },
            "LimitsExceeded" | "Timeout" | "TimedOut" => Self::Busy { request: request.to_owned() },
            // PID 1 is not on the bus: between dbus-daemon's start and systemd's return, or in a re-execution.
            "ServiceUnknown" | "NameHasNoOwner" | "NoReply" | "Disconnected" | "NoServer" => {
                Self::Disconnected { reason: message }
            }
            spawn if spawn.starts_with("Spawn.") => Self::Disconnected { reason: message },
            _ => Self::Other { name: name.to_owned(), message },
        }
    }

    /// Whether this is systemd's or the bus's error called `wanted`.
    pub(super) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Other { name, .. } if name == wanted)
    }
}
