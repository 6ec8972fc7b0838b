//! Against the systemd of this machine, which it loads with units, reloads and executes anew: for sandbox nodes only.

use std::path::Path;
use std::time::{Duration, Instant};

use plan::journal::LogStream;
use tokio::process::Command;
use tokio::sync::watch;

use super::fake::soon;
use super::*;
use crate::systemd::bus::touch_unit_dir;
use crate::systemd::journal::{Journalctl, LogQuery, LogReader};

const DIR: &str = "/run/systemd/system";

fn write(unit: &str, body: &str) {
    std::fs::write(Path::new(DIR).join(unit), body).unwrap();
    touch_unit_dir(Path::new(DIR)).unwrap();
}

async fn run(bus: &Bus, unit: &str, body: &str) {
    write(unit, body);
    soon(soon(bus.start_fresh_unit(unit, Path::new(DIR))).await.unwrap().done()).await.unwrap();
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (middle, last) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{what}: p50 {middle:?} p99 {last:?} total {:?}", times.iter().sum::<Duration>());
}

async fn resync(events: &mut Receiver<UnitEvent>, wanted: ResyncReason) {
    soon(async { while events.recv().await.expect("events go on") != (UnitEvent::Resync { reason: wanted }) {} }).await;
}

async fn systemctl(verb: &str, unit: Option<&str>) {
    assert!(Command::new("systemctl").arg(verb).args(unit).status().await.unwrap().success(), "{verb}");
}

#[tokio::test]
#[ignore = "plays with the machine's systemd: run it in a sandbox node"]
async fn units_on_a_real_systemd() {
    let (bus, mut events) = open(BusOptions::new(vec!["systemk.".to_owned()])).await;
    println!("systemd {}", soon(bus.systemd_version()).await.unwrap());
    let (mut starts, mut reads, mut stops) = (Vec::new(), Vec::new(), Vec::new());
    let names: Vec<_> = (0..100).map(|n| format!("systemk.real{}-{n}.service", std::process::id())).collect();
    for name in &names {
        let begun = Instant::now();
        run(&bus, name, "[Service]\nType=exec\nExecStart=/bin/sleep 1000\n").await;
        starts.push(begun.elapsed());
        let begun = Instant::now();
        let state = soon(bus.unit_properties(name)).await.unwrap();
        reads.push(begun.elapsed());
        assert_eq!((state.active_state.as_str(), state.invocation_id.len()), ("active", 32));
        while events.try_recv().is_ok() {}
    }
    assert_eq!(soon(bus.list_units_by_patterns(&["systemk.real*"])).await.unwrap().len(), 100);
    for name in &names {
        let begun = Instant::now();
        soon(soon(bus.stop_unit(name)).await.unwrap().done()).await.unwrap();
        stops.push(begun.elapsed());
        while events.try_recv().is_ok() {}
    }
    report("write, start, JobRemoved", starts);
    report("two GetAll", reads);
    report("stop, JobRemoved", stops);
    let begun = Instant::now();
    let all = names.iter().map(|name| async { bus.start_unit(name).await.unwrap().done().await.unwrap() });
    soon(futures_util::future::join_all(all)).await;
    println!("100 starts at once: {:?}", begun.elapsed());
    let begun = Instant::now();
    let all = names.iter().map(|name| async { bus.stop_unit(name).await.unwrap().done().await.unwrap() });
    soon(futures_util::future::join_all(all)).await;
    println!("100 stops at once: {:?}", begun.elapsed());
    while events.try_recv().is_ok() {}

    let unknown = soon(bus.start_fresh_unit("systemk.none.service", Path::new(DIR))).await.map(drop);
    assert_eq!(unknown, Err(BusError::NoSuchUnit { unit: "systemk.none.service".to_owned() }));
    let bad = format!("systemk.bad{}.service", std::process::id());
    write(&bad, "[Service]\nType=exec\n");
    let bad = soon(bus.start_unit(&bad)).await.map(drop);
    assert!(matches!(bad, Err(BusError::LoadFailed { .. })), "{bad:?}");
    run(&bus, "systemk.cond.service", "[Unit]\nConditionPathExists=/no\n[Service]\nExecStart=/bin/true\n").await;
    let state = soon(bus.unit_properties("systemk.cond.service")).await.unwrap();
    // Unloaded at once, and loaded anew by the question: only the signals had the answer.
    assert_eq!((state.condition_result, state.condition_us), (false, 0));
    let seen = soon(async {
        loop {
            if let Some(UnitEvent::Changed { name, change }) = events.recv().await
                && name == "systemk.cond.service"
                && change.condition_us.is_some_and(|tested| tested > 0)
            {
                return change.condition_result;
            }
        }
    });
    assert_eq!(seen.await, Some(false));

    run(&bus, "systemk.exit.service", "[Service]\nType=exec\nExecStart=/bin/sh -c 'sleep 0.1; exit 3'\n").await;
    let exit = soon(async {
        loop {
            if let Some(UnitEvent::Changed { name, change }) = events.recv().await
                && name == "systemk.exit.service"
                && change.active_state.as_deref() == Some("failed")
            {
                return change;
            }
        }
    })
    .await;
    assert_eq!(
        (exit.exec_main_code, exit.exec_main_status, exit.result.as_deref()),
        (Some(1), Some(3), Some("exit-code"))
    );
    let state = soon(bus.unit_properties("systemk.exit.service")).await.unwrap();
    assert_eq!((state.exec_main_status, state.exec_main_exit_us), (3, exit.exec_main_exit_us.unwrap()));
    soon(bus.reset_failed_unit("systemk.exit.service")).await.unwrap();
    let gone = soon(bus.reset_failed_unit("systemk.exit.service")).await;
    assert_eq!(gone, Err(BusError::NoSuchUnit { unit: "systemk.exit.service".to_owned() }));

    let begun = Instant::now();
    systemctl("daemon-reload", None).await;
    resync(&mut events, ResyncReason::Reloaded).await;
    println!("daemon-reload: {:?}", begun.elapsed());
    let slow = "systemk.slow.service";
    write(slow, "[Service]\nType=oneshot\nExecStart=/bin/sleep 1\n");
    let job = soon(bus.start_unit(slow)).await.unwrap();
    systemctl("daemon-reexec", None).await;
    resync(&mut events, ResyncReason::Connected).await;
    println!("daemon-reexec: {:?}; the job across it: {:?}", begun.elapsed(), soon(job.done()).await);
    systemctl("restart", Some("dbus.service")).await;
    resync(&mut events, ResyncReason::Connected).await;
    run(&bus, "systemk.after.service", "[Service]\nExecStart=/bin/true\n").await;
    println!("after a restart of dbus: {:?}", bus.counters());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().filter(|line| line.starts_with("Rss")).collect::<Vec<_>>().join(", "));
}

#[tokio::test]
#[ignore = "plays with the machine's systemd: run it in a sandbox node"]
async fn a_log_is_followed_to_its_last_line() {
    let (bus, _events) = open(BusOptions::new(Vec::new())).await;
    let unit = format!("systemk.log{}.service", std::process::id());
    let script = "sleep 0.2; seq 1 20000; head -c 120000 /dev/zero | tr \\\\\\\\0 y; echo; printf last >&2";
    let body = format!("[Service]\nType=exec\nLogRateLimitBurst=1000000\nExecStart=/bin/bash -c \"{script}\"\n");
    write(&unit, &body);
    let (ended, end) = watch::channel(false);
    let query = LogQuery { units: vec![unit.clone()], follow: true, ..LogQuery::default() };
    let mut reader = LogReader::open(Journalctl::default(), query.clone(), end.clone()).unwrap();
    soon(soon(bus.start_unit(&unit)).await.unwrap().done()).await.unwrap();
    let mut lines = Vec::new();
    let begun = Instant::now();
    while let Some(line) = soon(reader.next()).await.unwrap() {
        if line.bytes == b"20000" {
            soon(async { while soon(bus.unit_properties(&unit)).await.unwrap().active_state == "active" {} }).await;
            ended.send_replace(true);
        }
        lines.push(line);
    }
    println!(
        "{} lines in {:?}, last {:?}",
        lines.len(),
        begun.elapsed(),
        lines.last().map(|line| (line.bytes.len(), line.partial))
    );
    for (n, line) in lines.iter().take(20000).enumerate() {
        assert_eq!(line.bytes, (n + 1).to_string().as_bytes());
    }
    assert_eq!(lines.len(), 20002);
    assert_eq!(lines[20000].bytes.len(), 120_000);
    assert_eq!((lines[20001].bytes.as_slice(), lines[20001].partial), (b"last".as_slice(), true));
    let begun = Instant::now();
    let tail = LogQuery { follow: false, tail: Some(2), stream: Some(LogStream::Stdout), ..query };
    let mut reader = LogReader::open(Journalctl::default(), tail, end).unwrap();
    let mut last = 0;
    while soon(reader.next()).await.unwrap().is_some() {
        last += 1;
    }
    println!("tail 2: {last} lines in {:?}", begun.elapsed());
}
