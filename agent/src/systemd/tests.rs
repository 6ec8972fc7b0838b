//! The real client against a fake systemd on a private bus.

mod fake;
mod real;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use fake::{Daemon, Systemd, changed_body, soon};
use plan::observed::{JobResult, UnitChange, UnitCondition, UnitJob};
use tokio::sync::mpsc::Receiver;
use zbus::message::Message;
use zbus::{ObjectPath, Variant};

use super::bus::Bus;
use super::error::BusError;
use super::name::unit_path;
use super::options::BusOptions;
use super::properties::{SERVICE, UNIT};
use super::signals::{ResyncReason, UnitEvent};

const A: &str = "systemk.ns.pod.a_0a1b2c3d_0.service";

async fn open(options: BusOptions) -> (Bus, Receiver<UnitEvent>) {
    let (bus, mut events) = Bus::open(options);
    assert_eq!(soon(events.recv()).await, Some(UnitEvent::Resync { reason: ResyncReason::Connected }));
    (bus, events)
}

async fn rig() -> (Daemon, Systemd, Bus, Receiver<UnitEvent>) {
    let daemon = Daemon::start().await;
    let systemd = Systemd::start(&daemon).await;
    let (bus, events) = open(daemon.options()).await;
    (daemon, systemd, bus, events)
}

async fn changed(events: &mut Receiver<UnitEvent>) -> UnitChange {
    match soon(events.recv()).await {
        Some(UnitEvent::Changed { name, change }) if name == A => change,
        other => panic!("not a change of {A}: {other:?}"),
    }
}

#[tokio::test]
async fn a_start_is_over_when_its_job_is() {
    let (_daemon, systemd, bus, mut events) = rig().await;
    let job = soon(bus.start_unit(A)).await.unwrap();
    let id = job.id;
    let done = job.done();
    tokio::pin!(done);
    assert!(futures_util::poll!(&mut done).is_pending());
    systemd.finish(id + 1000, A, "done").await;
    systemd.finish(id, A, "dependency").await;
    assert_eq!(soon(done).await, Err(BusError::JobFailed { unit: A.to_owned(), result: JobResult::Dependency }));
    for (id, result) in [(id + 1000, JobResult::Done), (id, JobResult::Dependency)] {
        assert_eq!(soon(events.recv()).await, Some(UnitEvent::JobRemoved { id, unit: A.to_owned(), result }));
    }
    // The signal comes before the reply.
    assert_eq!(soon(soon(bus.start_unit("fast")).await.unwrap().done()).await, Ok(()));
}

#[tokio::test]
async fn no_more_than_64_jobs_are_in_flight() {
    let (_daemon, systemd, bus, _events) = rig().await;
    let mut first = 0;
    for n in 0..64 {
        // Nobody waits for these jobs, and they count.
        let job = soon(bus.start_unit(&format!("systemk.{n}"))).await.unwrap();
        first = if n == 0 { job.id } else { first };
    }
    let next = bus.start_unit(A);
    tokio::pin!(next);
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut next).await.is_err());
    assert_eq!(bus.shared.jobs.in_flight(), 64);
    assert!(!systemd.script.lock().unwrap().calls.contains(&format!("StartUnit {A}")));
    systemd.finish(first, "systemk.0", "done").await;
    soon(next).await.unwrap();
}

#[tokio::test]
async fn errors_are_told_apart() {
    let daemon = Daemon::start().await;
    let systemd = Systemd::start(&daemon).await;
    let (bus, _events) = open(BusOptions { call_timeout: Duration::from_millis(300), ..daemon.options() }).await;
    let unit = |unit: &str| unit.to_owned();
    let table = [
        ("missing", BusError::NoSuchUnit { unit: unit("missing") }),
        ("masked", BusError::Masked { unit: unit("masked") }),
        ("bad", BusError::LoadFailed { unit: unit("bad"), message: unit("no") }),
        ("silent", BusError::Busy { request: unit("StartUnit silent") }),
    ];
    for (name, expected) in table {
        assert_eq!(soon(bus.start_unit(name)).await.map(drop), Err(expected));
    }
    assert_eq!(soon(bus.kill_unit(A, 15)).await, Ok(()), "nothing to kill is fine");
    assert_eq!(soon(bus.systemd_version()).await, Ok(252));
    systemd.connection.release_name("org.freedesktop.systemd1").await.unwrap();
    let gone = soon(bus.reset_failed_unit(A)).await;
    assert!(matches!(gone, Err(BusError::Disconnected { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_fresh_unit_is_looked_for_twice() {
    let (_daemon, _systemd, bus, _events) = rig().await;
    let dir = tempfile::tempdir().unwrap();
    let old = std::fs::File::open(dir.path()).unwrap();
    let past = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    old.set_modified(past).unwrap();
    soon(bus.start_fresh_unit("once-missing", dir.path())).await.unwrap();
    assert!(std::fs::metadata(dir.path()).unwrap().modified().unwrap() > past);
    let missing = soon(bus.start_fresh_unit("missing", dir.path())).await.map(drop);
    assert_eq!(missing, Err(BusError::NoSuchUnit { unit: "missing".to_owned() }));
}

#[tokio::test]
async fn signals_are_folded_and_only_ours_are_told() {
    let (_daemon, systemd, _bus, mut events) = rig().await;
    systemd.unit("ssh.service", &[("ActiveState", "failed".into())]).await;
    systemd.unit(A, &[("ActiveState", "active".into()), ("InvocationID", vec![0xabu8; 16].into())]).await;
    let first = changed(&mut events).await;
    assert_eq!(first.active_state.as_deref(), Some("active"));
    assert_eq!(first.invocation_id.as_deref(), Some("ab".repeat(16).as_str()));

    // As at an exit: what is new of the service is told with what is new of the unit, even where that is nothing.
    systemd
        .service(A, &[("ExecMainCode", 1i32.into()), ("ExecMainStatus", 3i32.into()), ("MainPID", 0u32.into())])
        .await;
    systemd.unit(A, &[("ActiveState", "active".into())]).await;
    systemd.unit(A, &[("ActiveState", "failed".into()), ("SubState", "failed".into())]).await;
    systemd.removed("ssh.service").await;
    systemd.unit(A, &[("ActiveState", "failed".into())]).await;
    systemd.removed(A).await;
    let both = changed(&mut events).await;
    assert_eq!((both.active_state.as_deref(), both.exec_main_status), (Some("active"), Some(3)));
    let last = changed(&mut events).await;
    assert_eq!(
        (last.active_state.as_deref(), last.exec_main_status, last.main_pid),
        (Some("failed"), Some(3), Some(0))
    );
    assert_eq!(soon(events.recv()).await, Some(UnitEvent::Removed { name: A.to_owned() }));

    systemd.unit(A, &[("ActiveState", "inactive".into())]).await;
    assert_eq!(changed(&mut events).await.exec_main_status, None, "a removed unit is forgotten");
}

#[tokio::test]
async fn a_reload_removes_nothing() {
    let (_daemon, systemd, _bus, mut events) = rig().await;
    systemd.reloading(true).await;
    systemd.removed(A).await;
    systemd.reloading(false).await;
    systemd.removed(A).await;
    assert_eq!(soon(events.recv()).await, Some(UnitEvent::Resync { reason: ResyncReason::Reloaded }));
    assert_eq!(soon(events.recv()).await, Some(UnitEvent::Removed { name: A.to_owned() }));
}

#[tokio::test]
async fn nobody_else_speaks_for_systemd() {
    let (daemon, systemd, _bus, mut events) = rig().await;
    let stranger = daemon.connect().await;
    let dbus = Some("org.freedesktop.DBus");
    let names = stranger.call_method(dbus, "/org/freedesktop/DBus", dbus, "ListNames", &()).await.unwrap();
    let names: Vec<String> = names.body().deserialize().unwrap();
    let lie = [("ActiveState", Variant::from("failed"))];
    for name in names.iter().filter(|name| name.starts_with(':')) {
        let signal = Message::signal(unit_path(A), "org.freedesktop.DBus.Properties", "PropertiesChanged");
        let signal = signal.destination(name.as_str()).build(&changed_body(UNIT, &lie)).unwrap();
        stranger.send(&signal).await.unwrap();
    }
    // Answered only after the bus has passed the lies on.
    stranger.call_method(dbus, "/org/freedesktop/DBus", dbus, "GetId", &()).await.unwrap();
    systemd.unit(A, &[("ActiveState", "active".into())]).await;
    assert_eq!(changed(&mut events).await.active_state.as_deref(), Some("active"));
}

#[tokio::test]
async fn systemd_coming_back_means_looking_again() {
    let (daemon, systemd, bus, mut events) = rig().await;
    let (ended, lives) = (soon(bus.start_unit(A)).await.unwrap(), soon(bus.start_unit(A)).await.unwrap());
    let script = Arc::clone(&systemd.script);
    systemd.connection.clone().close().await.unwrap();
    // One job ended meanwhile: its signal is lost. The other goes on, as jobs do when PID 1 executes itself anew.
    systemd.forget(ended.id);
    let again = Systemd::serve(&daemon, script).await;
    assert_eq!(soon(events.recv()).await, Some(UnitEvent::Resync { reason: ResyncReason::Connected }));
    let unseen = soon(ended.done()).await;
    assert!(matches!(unseen, Err(BusError::Disconnected { .. })), "{unseen:?}");
    again.finish(lives.id, A, "done").await;
    assert_eq!(soon(lives.done()).await, Ok(()));
    assert_eq!(bus.counters().reconnects.load(Relaxed), 1);
    assert_eq!(bus.counters().missed.load(Relaxed), 1);
}

#[tokio::test]
async fn a_new_dbus_daemon_at_the_old_address_is_found() {
    let daemon = Daemon::start().await;
    let systemd = Systemd::start(&daemon).await;
    let (bus, mut events) = open(BusOptions { recheck: Duration::from_millis(100), ..daemon.options() }).await;
    let mut daemon = daemon;
    let job = soon(bus.start_unit(A)).await.unwrap();
    daemon.kill().await;
    let unseen = soon(job.done()).await;
    assert!(matches!(unseen, Err(BusError::Disconnected { .. })), "no waiter hangs: {unseen:?}");
    assert!(!bus.is_listening());
    let down = soon(bus.systemd_version()).await;
    assert!(matches!(down, Err(BusError::Disconnected { .. })), "{down:?}");

    daemon.start_again().await;
    let again = Systemd::serve(&daemon, Arc::clone(&systemd.script)).await;
    assert_eq!(soon(events.recv()).await, Some(UnitEvent::Resync { reason: ResyncReason::Connected }));
    let job = soon(bus.start_unit(A)).await.unwrap();
    again.finish(job.id, A, "done").await;
    assert_eq!(soon(job.done()).await, Ok(()));
    assert_eq!(bus.counters().reconnects.load(Relaxed), 1);
}

#[tokio::test]
async fn a_slow_receiver_is_told_to_look_again_and_jobs_still_end() {
    let daemon = Daemon::start().await;
    let systemd = Systemd::start(&daemon).await;
    let (bus, mut events) = open(BusOptions { events: 2, ..daemon.options() }).await;
    let job = soon(bus.start_unit("other.service")).await.unwrap();
    for at in 1..=1000u64 {
        systemd.unit(A, &[("StateChangeTimestamp", at.into())]).await;
    }
    systemd.finish(job.id, "other.service", "done").await;
    assert_eq!(soon(job.done()).await, Ok(()));
    assert_eq!(changed(&mut events).await.state_change_us, Some(1));
    assert_eq!(changed(&mut events).await.state_change_us, Some(2));
    assert_eq!(soon(events.recv()).await, Some(UnitEvent::Resync { reason: ResyncReason::Overflow }));
    assert_eq!(bus.counters().missed.load(Relaxed), 998);
    systemd.unit(A, &[("StateChangeTimestamp", 7u64.into())]).await;
    assert_eq!(changed(&mut events).await.state_change_us, Some(7));
}

#[tokio::test]
async fn properties_become_plain_data() {
    let (_daemon, systemd, bus, _events) = rig().await;
    let condition = ("ConditionPathExists", false, true, "/x", -1i32);
    let job = (9u32, ObjectPath::try_from("/job/9").unwrap());
    systemd.script.lock().unwrap().properties.extend([
        (
            UNIT,
            [
                ("LoadState", Variant::from("loaded")),
                ("ActiveState", "inactive".into()),
                ("InvocationID", vec![1u8; 16].into()),
                ("ConditionResult", false.into()),
                ("Conditions", vec![condition].into()),
                ("DropInPaths", vec!["/etc/x.conf"].into()),
                ("Job", job.into()),
                ("LoadError", ("", "").into()),
                ("NeedDaemonReload", true.into()),
                ("StateChangeTimestamp", 5u64.into()),
            ]
            .into(),
        ),
        (SERVICE, [("ExecMainStatus", Variant::from(3i32)), ("MainPID", "not a number".into())].into()),
    ]);
    let state = soon(bus.unit_properties(A)).await.unwrap();
    let expected = UnitCondition {
        name: "ConditionPathExists".to_owned(),
        negate: true,
        parameter: "/x".to_owned(),
        state: -1,
        ..UnitCondition::default()
    };
    assert_eq!(state.conditions, [expected]);
    assert_eq!(state.job, Some(UnitJob { id: 9, kind: String::new() }));
    assert_eq!((state.exec_main_status, state.main_pid, state.state_change_us), (3, 0, 5));
    assert_eq!((state.name.as_str(), state.load_error, state.need_daemon_reload), (A, None, true));
    assert_eq!((state.invocation_id, state.drop_in_paths), ("01".repeat(16), vec!["/etc/x.conf".to_owned()]));
    let slice = soon(bus.unit_properties("systemk.slice")).await.unwrap();
    assert_eq!(slice.exec_main_status, 0, "a slice is not asked as a service");
}
