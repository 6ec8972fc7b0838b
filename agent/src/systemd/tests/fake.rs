//! A dbus-daemon of our own, and on it something that answers as systemd does.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use zbus::message::{Message, Type};
use zbus::{Connection, DynamicType, MessageStream, ObjectPath, Variant};

use crate::systemd::bus::{MANAGER, ROOT, SYSTEMD};
use crate::systemd::name::unit_path;
use crate::systemd::options::BusOptions;
use crate::systemd::properties::{SERVICE, UNIT};

/// A private bus, which can be killed and started again at the same address.
pub(super) struct Daemon {
    dir: tempfile::TempDir,
    child: Child,
}

impl Daemon {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "<!DOCTYPE busconfig PUBLIC '-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN'
              'http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd'>
             <busconfig><listen>unix:path={}/bus</listen><auth>EXTERNAL</auth>
             <policy context='default'><allow send_destination='*'/><allow receive_sender='*'/><allow own='*'/></policy></busconfig>",
            dir.path().display()
        );
        std::fs::write(dir.path().join("config"), config).unwrap();
        let child = Self::spawn(dir.path().join("config")).await;
        Self { dir, child }
    }

    async fn spawn(config: PathBuf) -> Child {
        let mut command = Command::new("dbus-daemon");
        command.arg("--config-file").arg(config).args(["--nofork", "--print-address=1"]);
        let mut child = command.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        assert!(BufReader::new(stdout).lines().next_line().await.unwrap().is_some(), "dbus-daemon did not start");
        child
    }

    pub(super) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
        std::fs::remove_file(self.dir.path().join("bus")).unwrap();
    }

    pub(super) async fn start_again(&mut self) {
        self.child = Self::spawn(self.dir.path().join("config")).await;
    }

    pub(super) fn address(&self) -> String {
        format!("unix:path={}/bus", self.dir.path().display())
    }

    pub(super) fn options(&self) -> BusOptions {
        BusOptions { address: Some(self.address()), ..BusOptions::new(vec!["systemk.".to_owned()]) }
    }

    pub(super) async fn connect(&self) -> Connection {
        soon(zbus::connection::Builder::address(self.address().as_str()).build()).await.unwrap()
    }
}

/// What has been asked of the fake, and what it shall answer.
#[derive(Default)]
pub(super) struct Script {
    pub(super) calls: Vec<String>,
    last_job: u32,
    jobs: HashSet<u32>,
    pub(super) properties: HashMap<&'static str, HashMap<&'static str, Variant<'static>>>,
}

/// Answers as PID 1 does. Units named `missing`, `masked`, `bad`, `silent`, `once-missing` and `fast` are special.
pub(super) struct Systemd {
    pub(super) connection: Connection,
    pub(super) script: Arc<Mutex<Script>>,
}

impl Systemd {
    pub(super) async fn start(daemon: &Daemon) -> Self {
        Self::serve(daemon, Arc::default()).await
    }

    pub(super) async fn serve(daemon: &Daemon, script: Arc<Mutex<Script>>) -> Self {
        let connection = daemon.connect().await;
        let mut calls = MessageStream::from(&connection);
        calls.set_max_queued(1000.try_into().unwrap());
        let server = Self { connection: connection.clone(), script: Arc::clone(&script) };
        tokio::spawn(async move {
            while let Some(Ok(call)) = calls.next().await {
                if call.message_type() == Type::MethodCall {
                    server.answer(&call).await;
                }
            }
        });
        connection.request_name(SYSTEMD).await.unwrap();
        Self { connection, script }
    }

    async fn answer(&self, call: &Message) {
        let header = call.header();
        let method = header.member().unwrap().to_string();
        let body = call.body();
        let unit = body.deserialize::<(&str, &str)>().map_or(String::new(), |(unit, _)| unit.to_owned());
        let fail = |name: &'static str| async move {
            self.connection.reply_error(&call.header(), name, &"no").await.unwrap();
        };
        let seen = {
            let mut script = self.script.lock().unwrap();
            script.calls.push(format!("{method} {unit}").trim_end().to_owned());
            script.calls.iter().filter(|call| call.contains(&unit)).count()
        };
        match (method.as_str(), unit.as_str()) {
            ("StartUnit", "missing") => fail("org.freedesktop.systemd1.NoSuchUnit").await,
            ("StartUnit", "once-missing") if seen == 1 => fail("org.freedesktop.systemd1.NoSuchUnit").await,
            ("StartUnit", "masked") => fail("org.freedesktop.systemd1.UnitMasked").await,
            ("StartUnit", "bad") => fail("org.freedesktop.systemd1.BadUnitSetting").await,
            ("StartUnit", "silent") => {}
            ("StartUnit" | "StopUnit", _) => {
                let id = {
                    let mut script = self.script.lock().unwrap();
                    script.last_job += 1;
                    let id = script.last_job;
                    script.jobs.insert(id);
                    id
                };
                if unit == "fast" {
                    self.finish(id, &unit, "done").await;
                }
                let path = ObjectPath::try_from(format!("{ROOT}/job/{id}")).unwrap();
                self.connection.reply(&header, &path).await.unwrap();
            }
            ("KillUnit", _) => fail("org.freedesktop.systemd1.NoSuchProcess").await,
            ("GetJob", _) => {
                let (id,): (u32,) = body.deserialize().unwrap();
                if self.script.lock().unwrap().jobs.contains(&id) {
                    self.connection.reply(&header, &ObjectPath::try_from(ROOT).unwrap()).await.unwrap();
                } else {
                    fail("org.freedesktop.systemd1.NoSuchJob").await;
                }
            }
            ("Get", _) => self.connection.reply(&header, &Variant::from("252.39-1~deb12u1")).await.unwrap(),
            ("GetAll", _) => {
                let (interface,): (&str,) = body.deserialize().unwrap();
                let all = self.script.lock().unwrap().properties.get(interface).cloned().unwrap_or_default();
                self.connection.reply(&header, &all).await.unwrap();
            }
            _ => self.connection.reply(&header, &()).await.unwrap(),
        }
    }

    async fn emit<B: Serialize + DynamicType>(&self, path: &str, interface: &str, member: &str, body: &B) {
        self.connection.emit_signal(None::<&str>, path, interface, member, body).await.unwrap();
    }

    pub(super) async fn finish(&self, id: u32, unit: &str, result: &str) {
        self.script.lock().unwrap().jobs.remove(&id);
        let path = ObjectPath::try_from(format!("{ROOT}/job/{id}")).unwrap();
        self.emit(ROOT, MANAGER, "JobRemoved", &(id, path, unit, result)).await;
    }

    /// The job ends, and nobody is told.
    pub(super) fn forget(&self, id: u32) {
        self.script.lock().unwrap().jobs.remove(&id);
    }

    pub(super) async fn removed(&self, unit: &str) {
        let path = ObjectPath::try_from(unit_path(unit)).unwrap();
        self.emit(ROOT, MANAGER, "UnitRemoved", &(unit, path)).await;
    }

    pub(super) async fn reloading(&self, active: bool) {
        self.emit(ROOT, MANAGER, "Reloading", &active).await;
    }

    /// The unit's general properties changed.
    pub(super) async fn unit(&self, unit: &str, properties: &[(&str, Variant<'_>)]) {
        self.changed(unit, UNIT, properties).await;
    }

    /// The unit's properties as a service changed.
    pub(super) async fn service(&self, unit: &str, properties: &[(&str, Variant<'_>)]) {
        self.changed(unit, SERVICE, properties).await;
    }

    async fn changed(&self, unit: &str, interface: &str, properties: &[(&str, Variant<'_>)]) {
        let body = changed_body(interface, properties);
        self.emit(&unit_path(unit), "org.freedesktop.DBus.Properties", "PropertiesChanged", &body).await;
    }
}

/// What `PropertiesChanged` carries.
pub(super) fn changed_body<'a>(
    interface: &'a str,
    properties: &'a [(&'a str, Variant<'a>)],
) -> (&'a str, HashMap<&'a str, &'a Variant<'a>>, Vec<&'a str>) {
    (interface, properties.iter().map(|(name, value)| (*name, value)).collect(), Vec::new())
}

/// `future`, or the test has failed.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("within ten seconds")
}
