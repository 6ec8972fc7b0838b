//! Requests to systemd: units started, stopped, killed, read and resized. It decides nothing and remembers nothing but jobs in flight.

use std::path::Path;
use std::sync::Arc;

use plan::observed::{UnitJob, UnitState};
use serde::Serialize;
use tokio::sync::{Mutex, mpsc, watch};
use zbus::message::Message;
use zbus::{DynamicType, ObjectPath, OwnedObjectPath, Variant};

use super::error::{BusError, NO_SUCH_JOB, NO_SUCH_PROCESS};
use super::jobs::{Job, Jobs};
use super::name::unit_path;
use super::options::{BusCounters, BusOptions};
use super::signals::{self, UnitEvent};
use super::{properties, recheck};

pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";
pub(super) const ROOT: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A line of `systemctl list-units`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitRow {
    /// The unit's name.
    pub(crate) name: String,
    /// See [`UnitState::load_state`].
    pub(crate) load_state: String,
    /// See [`UnitState::active_state`].
    pub(crate) active_state: String,
    /// See [`UnitState::sub_state`].
    pub(crate) sub_state: String,
    /// The job that is queued for it.
    pub(crate) job: Option<UnitJob>,
}

/// A handle for requests; clones share the connection. Made by [`Bus::open`].
#[derive(Clone, Debug)]
pub(crate) struct Bus {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: BusOptions,
    pub(super) jobs: Jobs,
    pub(super) counters: BusCounters,
    /// Whether signals arrive. Jobs are only asked for while they do.
    pub(super) listening: watch::Sender<bool>,
    connection: Mutex<Option<zbus::Connection>>,
}

impl Bus {
    /// Starts listening and gives the handle at once; what does not answer yet is tried for ever. Must be called in a runtime.
    /// Listening ends when the receiver is dropped. The first event is a [`UnitEvent::Resync`].
    pub(crate) fn open(options: BusOptions) -> (Self, mpsc::Receiver<UnitEvent>) {
        let (events, receiver) = mpsc::channel(options.events.max(1));
        let shared = Arc::new(Shared {
            jobs: Jobs::new(options.jobs),
            options,
            counters: BusCounters::default(),
            listening: watch::Sender::new(false),
            connection: Mutex::new(None),
        });
        tokio::spawn(signals::listen(Arc::downgrade(&shared), events));
        tokio::spawn(recheck::recheck_jobs(Arc::downgrade(&shared)));
        (Self { shared }, receiver)
    }

    /// Reconnects and missed events since the start.
    pub(crate) fn counters(&self) -> &BusCounters {
        &self.shared.counters
    }

    /// Whether signals arrive now.
    pub(crate) fn is_listening(&self) -> bool {
        *self.shared.listening.borrow()
    }

    /// Queues a start. Waits for a place among the jobs in flight, and for the answer; not for the start itself.
    pub(crate) async fn start_unit(&self, unit: &str) -> Result<Job, BusError> {
        self.enqueue("StartUnit", unit).await
    }

    /// [`Bus::start_unit`] for a unit file just written to `dir`, which systemd may not have noticed yet.
    pub(crate) async fn start_fresh_unit(&self, unit: &str, dir: &Path) -> Result<Job, BusError> {
        match self.start_unit(unit).await {
            Err(BusError::NoSuchUnit { .. }) => {
                touch_unit_dir(dir).map_err(|error| BusError::Other {
                    name: "touch".to_owned(),
                    message: format!("{}: {error}", dir.display()),
                })?;
                self.start_unit(unit).await
            }
            other => other,
        }
    }

    /// Queues a stop. [`BusError::NoSuchUnit`] if it is not loaded, so not running.
    pub(crate) async fn stop_unit(&self, unit: &str) -> Result<Job, BusError> {
        self.enqueue("StopUnit", unit).await
    }

    /// Sends `signal` to every process of the unit. No process to send it to is success.
    pub(crate) async fn kill_unit(&self, unit: &str, signal: i32) -> Result<(), BusError> {
        match self.manage("KillUnit", unit, &(unit, "all", signal)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is(NO_SUCH_PROCESS) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lets go of a failed unit, so that systemd unloads it.
    pub(crate) async fn reset_failed_unit(&self, unit: &str) -> Result<(), BusError> {
        self.manage("ResetFailedUnit", unit, &(unit,)).await.map(drop)
    }

    /// The loaded units that match one of `patterns` (shell globs).
    pub(crate) async fn list_units_by_patterns(&self, patterns: &[&str]) -> Result<Vec<UnitRow>, BusError> {
        type Row<'a> =
            (&'a str, &'a str, &'a str, &'a str, &'a str, &'a str, ObjectPath<'a>, u32, &'a str, ObjectPath<'a>);
        let states: &[&str] = &[];
        let reply = self.manage("ListUnitsByPatterns", "", &(states, patterns)).await?;
        let body = reply.body();
        let rows: Vec<Row<'_>> = body.deserialize().map_err(unreadable)?;
        Ok(rows
            .into_iter()
            .map(|(name, _, load, active, sub, _, _, job, kind, _)| UnitRow {
                name: name.to_owned(),
                load_state: load.to_owned(),
                active_state: active.to_owned(),
                sub_state: sub.to_owned(),
                job: (job != 0).then(|| UnitJob { id: job, kind: kind.to_owned() }),
            })
            .collect())
    }

    /// What systemd knows about `unit`. It loads the unit file if the unit is not loaded: then `invocation_id` is empty
    /// and an exit code of 0 means "unknown", never "ended well".
    pub(crate) async fn unit_properties(&self, unit: &str) -> Result<UnitState, BusError> {
        let path = unit_path(unit);
        let is_service = unit.ends_with(".service");
        let (general, service) =
            tokio::try_join!(self.call(&path, PROPERTIES, "GetAll", unit, &(properties::UNIT,)), async {
                if is_service {
                    self.call(&path, PROPERTIES, "GetAll", unit, &(properties::SERVICE,)).await.map(Some)
                } else {
                    Ok(None)
                }
            })?;
        let mut state = UnitState { name: unit.to_owned(), ..UnitState::default() };
        for reply in [Some(general), service].into_iter().flatten() {
            properties::fill(&mut state, &reply.body()).map_err(unreadable)?;
        }
        Ok(state)
    }

    /// systemd's major version: 252 of `252.39-1~deb12u1`.
    pub(crate) async fn systemd_version(&self) -> Result<u32, BusError> {
        let text = self.systemd_version_text().await?;
        major_version(&text).ok_or_else(|| BusError::Other { name: "version".to_owned(), message: text })
    }

    /// What systemd says of itself: `252.39-1~deb12u1`.
    pub(crate) async fn systemd_version_text(&self) -> Result<String, BusError> {
        let reply = self.call(ROOT, PROPERTIES, "Get", "", &(MANAGER, "Version")).await?;
        let body = reply.body();
        let version: Variant<'_> = body.deserialize().map_err(unreadable)?;
        let text = <&str>::try_from(&version).map_err(unreadable)?;
        Ok(text.to_owned())
    }

    async fn enqueue(&self, method: &str, unit: &str) -> Result<Job, BusError> {
        let slot = self.shared.jobs.slot(method == "StopUnit").await?;
        self.listening().await?;
        let calling = self.shared.jobs.calling();
        let reply = self.manage(method, unit, &(unit, "replace")).await?;
        let path: OwnedObjectPath = reply.body().deserialize().map_err(unreadable)?;
        let number = path.as_str().rsplit('/').next().and_then(|id| id.parse().ok());
        let id = number.ok_or_else(|| BusError::Other { name: "job path".to_owned(), message: path.to_string() })?;
        Ok(calling.accepted(id, unit, slot))
    }

    /// Without signals a job's end would not be seen.
    async fn listening(&self) -> Result<(), BusError> {
        let mut listening = self.shared.listening.subscribe();
        let up = listening.wait_for(|up| *up);
        match tokio::time::timeout(self.shared.options.call_timeout, up).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(BusError::Disconnected { reason: "no signals from systemd".to_owned() }),
        }
    }

    /// Whether the job is still queued or running.
    pub(super) async fn job_exists(&self, id: u32) -> Result<bool, BusError> {
        match self.manage("GetJob", "", &(id,)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is(NO_SUCH_JOB) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn manage<B>(&self, method: &str, unit: &str, body: &B) -> Result<Message, BusError>
    where
        B: Serialize + DynamicType,
    {
        self.call(ROOT, MANAGER, method, unit, body).await
    }

    async fn call<B>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        unit: &str,
        body: &B,
    ) -> Result<Message, BusError>
    where
        B: Serialize + DynamicType,
    {
        let request = || if unit.is_empty() { method.to_owned() } else { format!("{method} {unit}") };
        let call = async {
            let connection = self.connection().await?;
            let reply = connection.call_method(Some(SYSTEMD), path, Some(interface), method, body).await;
            reply.map_err(|error| BusError::from_zbus(error, unit, &request()))
        };
        match tokio::time::timeout(self.shared.options.call_timeout, call).await {
            Ok(answer) => answer,
            Err(_) => Err(BusError::Busy { request: request() }),
        }
    }

    async fn connection(&self) -> Result<zbus::Connection, BusError> {
        let mut current = self.shared.connection.lock().await;
        if let Some(connection) = current.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let connection = self.shared.options.connect().await?;
        *current = Some(connection.clone());
        Ok(connection)
    }
}

/// Sets `dir`'s modification time to now, by the clock that counts nanoseconds. systemd looks for unit files that it has
/// not loaded only in directories whose time has changed, and kernels before 6.13 write times of the last tick.
/// To be called after every file written there.
pub(crate) fn touch_unit_dir(dir: &Path) -> std::io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timestamps, utimensat};
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let times = Timestamps { last_access: now, last_modification: now };
    Ok(utimensat(CWD, dir, &times, AtFlags::empty())?)
}

fn major_version(version: &str) -> Option<u32> {
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version.get(..digits)?.parse().ok()
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn unreadable(error: zbus::Error) -> BusError {
    BusError::Other { name: "unreadable answer".to_owned(), message: error.to_string() }
}

#[cfg(test)]
mod version_tests {
    use super::major_version;

    #[test]
    fn the_major_version_is_the_leading_number() {
        let table = [
            ("252.39-1~deb12u1", Some(252)),
            ("257", Some(257)),
            ("v257-rc1", None),
            ("", None),
            ("256~rc1", Some(256)),
        ];
        for (text, expected) in table {
            assert_eq!(major_version(text), expected, "{text}");
        }
    }
}
