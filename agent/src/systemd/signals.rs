//! What systemd announces, as a closed set of events. Owns the signal connection and makes it again for ever.
//!
//! Never waits for the receiver: what does not fit into the queue becomes one [`UnitEvent::Resync`], on which the receiver
//! lists everything anew. The same after a reconnect, after systemd left the bus, and at the end of a daemon-reload.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use plan::observed::{JobResult, UnitChange};
use tokio::sync::mpsc::{self, error::TrySendError};
use zbus::message::{Flags, Message, Type};
use zbus::{Connection, MessageStream, OwnedObjectPath};

use super::bus::{MANAGER, ROOT, SYSTEMD, Shared};
use super::error::BusError;
use super::name::{UNIT_ROOT, escape_prefix, escaped_name, unit_at};
use super::properties::{self, Properties};

const DBUS: &str = "org.freedesktop.DBus";
const DBUS_PATH: &str = "/org/freedesktop/DBus";

/// Messages between the socket and this task. Its task does nothing but take them, so it is short of full but in floods,
/// and then dbus-daemon keeps the rest.
const QUEUE: NonZeroUsize = NonZeroUsize::new(512).expect("not zero");

/// Something happened to a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UnitEvent {
    /// Its properties changed. `change` holds all that signals have said about it since the last `Resync` or `Removed`,
    /// so the event with the final state carries the exit code too.
    Changed { name: String, change: UnitChange },
    /// systemd has unloaded it.
    Removed { name: String },
    /// A job for it ended, whoever asked for the job.
    JobRemoved { id: u32, unit: String, result: JobResult },
    /// Events may have been missed: look at everything.
    Resync { reason: ResyncReason },
}

/// Why everything has to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResyncReason {
    /// The signal connection is up, for the first time or again.
    Connected,
    /// A daemon-reload is over.
    Reloaded,
    /// The receiver was too slow.
    Overflow,
}

/// Why a connection is given up.
enum Lost {
    /// The connection is closed, or could not be made.
    Connection(String),
    /// Another process is systemd now: dbus-daemon was told, or PID 1 executed itself anew.
    Owner,
    /// Nobody wants events any more.
    Receiver,
}

impl From<zbus::Error> for Lost {
    fn from(error: zbus::Error) -> Self {
        Self::Connection(error.to_string())
    }
}

/// Listens until the receiver or the last [`super::bus::Bus`] is gone.
pub(super) async fn listen(shared: Weak<Shared>, events: mpsc::Sender<UnitEvent>) {
    const SHORTEST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(2);
    let mut pause = SHORTEST;
    loop {
        let Some(bus) = shared.upgrade() else { return };
        let mut listener = Listener::new(&bus, &events);
        let lost = listener.run().await;
        if bus.listening.send_replace(false) {
            bus.counters.reconnects.fetch_add(1, Ordering::Relaxed);
            pause = SHORTEST;
        }
        bus.jobs.signals_lost();
        match lost {
            Lost::Receiver => return,
            Lost::Owner => tracing::info!("systemd has a new connection to the bus, listening anew"),
            Lost::Connection(reason) => tracing::info!(reason, "no signals from systemd, connecting again"),
        }
        drop(bus);
        tokio::select! {
            () = events.closed() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST);
    }
}

/// What signals have said of a unit.
#[derive(Default)]
struct Heard {
    change: UnitChange,
    /// The receiver does not know all of it yet.
    news: bool,
}

struct Listener<'a> {
    bus: &'a Shared,
    events: &'a mpsc::Sender<UnitEvent>,
    /// The prefixes as they are written in object paths.
    escaped: Vec<String>,
    /// Unique name of PID 1's connection. Match rules do not hold back a signal that any other client sends to us alone.
    owner: String,
    known: HashMap<String, Heard>,
    reloading: bool,
    overflowed: bool,
}

impl<'a> Listener<'a> {
    fn new(bus: &'a Shared, events: &'a mpsc::Sender<UnitEvent>) -> Self {
        let escaped = bus.options.prefixes.iter().map(|prefix| escape_prefix(prefix)).collect();
        let (owner, known) = (String::new(), HashMap::new());
        Self { bus, events, escaped, owner, known, reloading: false, overflowed: false }
    }

    async fn run(&mut self) -> Lost {
        match self.until_lost().await {
            Ok(never) => match never {},
            Err(lost) => lost,
        }
    }

    async fn until_lost(&mut self) -> Result<std::convert::Infallible, Lost> {
        let patience = self.bus.options.call_timeout;
        let (connection, mut stream) = match tokio::time::timeout(patience, self.subscribe()).await {
            Ok(subscribed) => subscribed?,
            Err(_) => return Err(Lost::Connection("no answer".to_owned())),
        };
        // The rules were sent without waiting for replies, which a full stream would hold up. This answer comes after them all.
        let dbus = Some(DBUS);
        let barrier = tokio::time::timeout(patience, connection.call_method(dbus, DBUS_PATH, dbus, "GetId", &()));
        tokio::pin!(barrier);
        let mut ready = false;
        let events = self.events;
        loop {
            tokio::select! {
                message = stream.next() => match message {
                    Some(message) => self.take(&message?)?,
                    None => return Err(Lost::Connection("closed".to_owned())),
                },
                answer = &mut barrier, if !ready => {
                    answer.map_err(|_| Lost::Connection("no answer".to_owned()))??;
                    ready = true;
                    self.known.clear();
                    self.emit(UnitEvent::Resync { reason: ResyncReason::Connected })?;
                    self.bus.listening.send_replace(true);
                    self.bus.jobs.recheck.notify_one();
                }
                permit = events.reserve(), if self.overflowed => {
                    let permit = permit.map_err(|_| Lost::Receiver)?;
                    self.overflowed = false;
                    self.known.clear();
                    permit.send(UnitEvent::Resync { reason: ResyncReason::Overflow });
                }
                () = events.closed() => return Err(Lost::Receiver),
            }
        }
    }

    async fn subscribe(&mut self) -> Result<(Connection, MessageStream), Lost> {
        let connect = self.bus.options.connect().await;
        let connection = connect.map_err(|error: BusError| Lost::Connection(error.to_string()))?;
        let dbus = Some(DBUS);
        let owner_changes = format!("type='signal',sender='{DBUS}',member='NameOwnerChanged',arg0='{SYSTEMD}'");
        connection.call_method(dbus, DBUS_PATH, dbus, "AddMatch", &owner_changes).await?;
        let mut stream = MessageStream::from(&connection);
        stream.set_max_queued(QUEUE);
        let reply = connection.call_method(dbus, DBUS_PATH, dbus, "GetNameOwner", &SYSTEMD).await?;
        self.owner = reply.body().deserialize()?;
        connection.call_method(Some(SYSTEMD), ROOT, Some(MANAGER), "Subscribe", &()).await?;
        for rule in match_rules() {
            let add = Message::method_call(DBUS_PATH, "AddMatch")
                .destination(DBUS)
                .interface(DBUS)
                .with_flags(Flags::NO_REPLY_EXPECTED)
                .build(&rule)?;
            connection.send(&add).await?;
        }
        Ok((connection, stream))
    }

    fn take(&mut self, message: &Message) -> Result<(), Lost> {
        if message.message_type() != Type::Signal {
            return Ok(());
        }
        let header = message.header();
        let (Some(sender), Some(member)) = (header.sender(), header.member()) else { return Ok(()) };
        if sender.as_str() == DBUS && member.as_str() == "NameOwnerChanged" {
            let body = message.body();
            let (name, _, new): (&str, &str, &str) = body.deserialize()?;
            return if name == SYSTEMD && new != self.owner { Err(Lost::Owner) } else { Ok(()) };
        }
        if sender.as_str() != self.owner {
            return Ok(());
        }
        let path = header.path().map_or("", |path| path.as_str());
        match member.as_str() {
            "PropertiesChanged" => self.changed(path, message),
            "JobRemoved" => self.job_removed(message),
            "UnitRemoved" => self.unit_removed(message),
            "Reloading" => self.reloading(message),
            _ => Ok(()),
        }
    }

    fn changed(&mut self, path: &str, message: &Message) -> Result<(), Lost> {
        let Some(escaped) = escaped_name(path) else { return Ok(()) };
        if !self.escaped.iter().any(|prefix| escaped.starts_with(prefix.as_str())) {
            return Ok(());
        }
        let Some(name) = unit_at(path) else { return Ok(()) };
        let body = message.body();
        let (interface, all, _): (&str, Properties<'_>, Vec<&str>) = body.deserialize()?;
        let known = self.known.entry(name.clone()).or_default();
        known.news |= known.change.fold(properties::change(&all));
        // systemd sends what is new of the type and then what is new of the unit, in this order so that who waits for the
        // second sees them at once: between the two a unit that is restarted has ended in the run that has just begun.
        if interface == properties::SERVICE || !std::mem::take(&mut known.news) {
            return Ok(());
        }
        let change = known.change.clone();
        self.emit(UnitEvent::Changed { name, change })
    }

    fn job_removed(&mut self, message: &Message) -> Result<(), Lost> {
        let body = message.body();
        let (id, _, unit, result): (u32, OwnedObjectPath, &str, &str) = body.deserialize()?;
        let result = JobResult::from(result);
        self.bus.jobs.removed(id, &result);
        if self.is_ours(unit) {
            self.emit(UnitEvent::JobRemoved { id, unit: unit.to_owned(), result })?;
        }
        Ok(())
    }

    fn unit_removed(&mut self, message: &Message) -> Result<(), Lost> {
        let body = message.body();
        let (unit, _): (&str, OwnedObjectPath) = body.deserialize()?;
        // A daemon-reload announces the removal of every unit, and none is gone.
        if self.reloading || !self.is_ours(unit) {
            return Ok(());
        }
        self.known.remove(unit);
        self.emit(UnitEvent::Removed { name: unit.to_owned() })
    }

    fn reloading(&mut self, message: &Message) -> Result<(), Lost> {
        self.reloading = message.body().deserialize()?;
        if !self.reloading {
            self.known.clear();
            self.emit(UnitEvent::Resync { reason: ResyncReason::Reloaded })?;
        }
        Ok(())
    }

    fn is_ours(&self, unit: &str) -> bool {
        self.bus.options.prefixes.iter().any(|prefix| unit.starts_with(prefix.as_str()))
    }

    fn emit(&mut self, event: UnitEvent) -> Result<(), Lost> {
        if !self.overflowed {
            match self.events.try_send(event) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(_)) => return Err(Lost::Receiver),
                Err(TrySendError::Full(_)) => self.overflowed = true,
            }
        }
        self.bus.counters.missed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Narrow, so that dbus-daemon and not we throw away what nobody reads.
fn match_rules() -> Vec<String> {
    let from_systemd = format!("type='signal',sender='{SYSTEMD}'");
    let manager = |member| format!("{from_systemd},path='{ROOT}',interface='{MANAGER}',member='{member}'");
    let changed = |interface| {
        format!(
            "{from_systemd},interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',\
             path_namespace='{UNIT_ROOT}',arg0='{interface}'"
        )
    };
    vec![
        manager("Reloading"),
        manager("JobRemoved"),
        changed(properties::SERVICE),
        changed(properties::UNIT),
        manager("UnitRemoved"),
    ]
}
