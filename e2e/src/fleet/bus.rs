//! The system bus of a node of a fleet: a socket at which the agent finds a message bus and, on it, systemd. Both are this
//! process, for all nodes of a fleet in one thread: 200 buses and service managers would measure themselves.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zbus::message::{Header, Message, Type};
use zbus::{Connection, Guid, MessageStream, ObjectPath, Variant};

use super::systemd::{Systemd, VERSION};

const ROOT: &str = "/org/freedesktop/systemd1";
const UNIT_ROOT: &str = "/org/freedesktop/systemd1/unit/";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// The name of systemd's connection on the bus, and the agent's.
const SYSTEMD: &str = ":1.0";
const CLIENT: &str = ":1.1";

/// One node's bus and what is on it.
#[derive(Debug, Default)]
pub(super) struct Bus {
    systemd: Mutex<Systemd>,
    /// Those who want systemd's signals.
    subscribed: Mutex<Vec<Connection>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bus {
    /// How often each unit was started.
    pub(super) fn starts(&self) -> BTreeMap<String, usize> {
        locked(&self.systemd).starts.clone()
    }

    /// Serves whoever connects, until the runtime ends.
    pub(super) async fn serve(self: Arc<Self>, listener: UnixListener) -> zbus::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let stream = stream.into_std()?;
            let bus = Arc::clone(&self);
            tokio::spawn(async move {
                let builder = zbus::connection::Builder::unix_stream(stream).server(Guid::generate()).p2p();
                // The agent's end closes it; it connects again if that was no intention.
                if let Ok(stream) = builder.unique_name(SYSTEMD).build_message_stream().await {
                    bus.talk(stream).await;
                }
            });
        }
    }

    async fn talk(&self, mut calls: MessageStream) {
        use futures_util::StreamExt as _;
        let connection = Connection::from(&calls);
        while let Some(Ok(call)) = calls.next().await {
            if call.message_type() == Type::MethodCall && self.answer(&connection, &call).await.is_err() {
                break;
            }
        }
        locked(&self.subscribed).retain(|other| !other.is_closed());
    }

    async fn answer(&self, connection: &Connection, call: &Message) -> zbus::Result<()> {
        let header = call.header();
        let body = call.body();
        let member = header.member().map(|member| member.to_string()).unwrap_or_default();
        match member.as_str() {
            "Hello" => connection.reply(&header, &CLIENT).await,
            "GetNameOwner" => connection.reply(&header, &SYSTEMD).await,
            "Subscribe" => {
                locked(&self.subscribed).push(connection.clone());
                connection.reply(&header, &()).await
            }
            "StartUnit" => {
                let (unit, _): (&str, &str) = body.deserialize()?;
                let job = locked(&self.systemd).start(unit);
                self.done(connection, &header, unit, job).await
            }
            "StopUnit" => {
                let (unit, _): (&str, &str) = body.deserialize()?;
                let Some(job) = locked(&self.systemd).stop(unit) else {
                    return connection.reply_error(&header, "org.freedesktop.systemd1.NoSuchUnit", &"not loaded").await;
                };
                self.done(connection, &header, unit, job).await?;
                locked(&self.systemd).unload(unit);
                self.tell(ROOT, MANAGER, "UnitRemoved", &(unit, path(&unit_path(unit))?)).await
            }
            "GetJob" => connection.reply_error(&header, "org.freedesktop.systemd1.NoSuchJob", &"it is over").await,
            "Get" => connection.reply(&header, &Variant::from(VERSION)).await,
            "GetAll" => {
                let (interface,): (&str,) = body.deserialize()?;
                let unit = header.path().and_then(|path| unit_at(path.as_str())).unwrap_or_default();
                let all = locked(&self.systemd).properties(&unit, interface == SERVICE);
                connection.reply(&header, &all).await
            }
            "ListUnitsByPatterns" => {
                let list = locked(&self.systemd).list();
                let none = path("/")?;
                let rows: Vec<_> = list
                    .iter()
                    .map(|(name, active, sub)| (name, "", "loaded", *active, *sub, "", &none, 0u32, "", &none))
                    .collect();
                connection.reply(&header, &rows).await
            }
            // Of the bus and of systemd alike: done.
            _ if header.message_type() == Type::MethodCall => connection.reply(&header, &()).await,
            _ => Ok(()),
        }
    }

    /// A job that is over as soon as it is there, as systemd tells of it.
    async fn done(&self, connection: &Connection, call: &Header<'_>, unit: &str, job: u32) -> zbus::Result<()> {
        let job_path = format!("{ROOT}/job/{job}");
        connection.reply(call, &path(&job_path)?).await?;
        for (interface, service) in [(SERVICE, true), (UNIT, false)] {
            let changed = locked(&self.systemd).properties(unit, service);
            self.tell(&unit_path(unit), PROPERTIES, "PropertiesChanged", &(interface, changed, Vec::<&str>::new()))
                .await?;
        }
        self.tell(ROOT, MANAGER, "JobRemoved", &(job, path(&job_path)?, unit, "done")).await
    }

    async fn tell<B>(&self, from: &str, interface: &str, member: &str, body: &B) -> zbus::Result<()>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let subscribed = locked(&self.subscribed).clone();
        for connection in subscribed {
            // Who is gone needs to hear nothing.
            connection.emit_signal(None::<&str>, from, interface, member, body).await.ok();
        }
        Ok(())
    }
}

fn path(text: &str) -> zbus::Result<ObjectPath<'_>> {
    ObjectPath::try_from(text)
}

/// systemd writes every byte but letters and digits as `_` and two hex digits.
fn unit_path(unit: &str) -> String {
    let escaped = unit.bytes().map(|byte| match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
        other => format!("_{other:02x}"),
    });
    escaped.fold(UNIT_ROOT.to_owned(), |path, part| path + &part)
}

fn unit_at(path: &str) -> Option<String> {
    let mut parts = path.strip_prefix(UNIT_ROOT)?.split('_');
    let mut name = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = part.split_at_checked(2)?;
        name.push(u8::from_str_radix(byte, 16).ok()?);
        name.extend(rest.bytes());
    }
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_found_at_its_path() {
        let unit = "systemk.ns.web-1_0a1b2c3d_0.service";
        assert_eq!(unit_path(unit), format!("{UNIT_ROOT}systemk_2ens_2eweb_2d1_5f0a1b2c3d_5f0_2eservice"));
        assert_eq!(unit_at(&unit_path(unit)).as_deref(), Some(unit));
    }
}
