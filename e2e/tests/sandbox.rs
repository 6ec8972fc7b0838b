//! A sandbox node is a real systemd that keeps to itself and leaves nothing.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use e2e::eventually::wait_until;
use e2e::sandbox::{Sandbox, SandboxSpec, Systemd};

#[test]
fn both_versions_boot_side_by_side() {
    thread::scope(|scope| {
        for systemd in Systemd::ALL {
            scope.spawn(move || boots_and_logs(systemd));
        }
    });
}

fn boots_and_logs(systemd: Systemd) {
    let spec = SandboxSpec::for_test(systemd, "boot");
    let start = Instant::now();
    let sandbox = Sandbox::start(spec).unwrap();
    println!("systemd {} is running after {:?}", systemd.version(), start.elapsed());

    assert_eq!(sandbox.run(&["systemctl", "is-system-running"]).unwrap(), "running\n");
    let version = sandbox.run(&["systemctl", "--version"]).unwrap();
    assert!(version.starts_with(&format!("systemd {} ", systemd.version())), "{version}");
    assert_eq!(sandbox.run(&["hostname"]).unwrap().trim(), sandbox.name());
    assert_eq!(sandbox.run(&["systemctl", "is-active", "dbus"]).unwrap(), "active\n");
    assert_eq!(sandbox.read_file("/proc/1/comm").unwrap(), "systemd\n");

    sandbox.run(&["logger", "--tag", "fixture", "a line of a test"]).unwrap();
    let logged = wait_until("the line in the journal", Duration::from_secs(10), || {
        let journal = sandbox.run(&["journalctl", "--no-pager", "-t", "fixture", "-o", "cat"]).ok()?;
        journal.contains("a line of a test").then_some(())
    });
    logged.unwrap();
}

#[test]
fn commands_give_their_output_and_end_at_the_deadline() {
    let sandbox = Sandbox::start(SandboxSpec::for_test(Systemd::V257, "exec")).unwrap();

    let output = sandbox.exec(&["sh", "-c", "echo out; echo err >&2; exit 7"]).unwrap();
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (7, "out\n", "err\n"));
    assert_eq!(sandbox.exec(&["sh", "-c", "kill -TERM $$"]).unwrap().code, 128 + 15);
    assert!(sandbox.run(&["cat", "/nonexistent"]).unwrap_err().root_cause().to_string().contains("No such file"));

    let start = Instant::now();
    let late = sandbox.exec_within(Duration::from_millis(300), &["sh", "-c", "echo first; sleep 4711 & sleep 4712"]);
    let error = late.unwrap_err().to_string();
    assert!(error.contains("killed") && error.contains("first"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_ne!(sandbox.exec(&["pgrep", "-f", "sleep 471"]).unwrap().code, 0, "the command left a process");

    let mut running = sandbox.spawn(&["sh", "-c", "echo ready; sleep 4713"]).unwrap();
    wait_until("its output", Duration::from_secs(10), || (running.stdout().ok()? == "ready\n").then_some(())).unwrap();
    running.kill().unwrap();
    assert_ne!(sandbox.exec(&["pgrep", "-f", "sleep 471"]).unwrap().code, 0, "the command left a process");
}

#[test]
fn a_reboot_keeps_etc_and_var_and_clears_run() {
    let mut sandbox = Sandbox::start(SandboxSpec::for_test(Systemd::V252, "reboot")).unwrap();
    for file in ["/etc/kept", "/var/lib/kept", "/root/kept", "/run/cleared", "/tmp/cleared"] {
        sandbox.write_file(file, "here").unwrap();
    }
    let boot_id = "journalctl --list-boots --no-pager | wc -l";
    let before = (sandbox.record().init, sandbox.read_file("/etc/machine-id").unwrap());

    sandbox.reboot().unwrap();

    assert_ne!(sandbox.record().init, before.0);
    assert_eq!(sandbox.read_file("/etc/machine-id").unwrap(), before.1);
    assert_eq!(sandbox.run(&["systemctl", "is-system-running"]).unwrap(), "running\n");
    for file in ["/etc/kept", "/var/lib/kept", "/root/kept"] {
        assert_eq!(sandbox.read_file(file).unwrap(), "here");
    }
    for file in ["/run/cleared", "/tmp/cleared"] {
        assert!(!sandbox.path(file).unwrap().exists(), "{file} is still there");
    }
    println!("boots in the journal: {}", sandbox.sh(boot_id).unwrap().trim());
}

#[test]
fn binds_are_seen_and_a_network_namespace_has_loopback_only() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "from the machine").unwrap();
    let spec = SandboxSpec::for_test(Systemd::V257, "binds").netns();
    let spec = spec.bind_ro(directory.path(), "/srv/shown").bind(directory.path().join("file"), "/usr/local/share/one");
    let sandbox = Sandbox::start(spec).unwrap();

    assert_eq!(sandbox.read_file("/srv/shown/file").unwrap(), "from the machine");
    assert_ne!(sandbox.exec(&["touch", "/srv/shown/new"]).unwrap().code, 0, "a read-only bind was written");
    sandbox.sh("echo from inside > /usr/local/share/one").unwrap();
    assert_eq!(fs::read_to_string(directory.path().join("file")).unwrap(), "from inside\n");

    let links = sandbox.run(&["ip", "-brief", "link"]).unwrap();
    assert!(links.lines().count() == 1 && links.starts_with("lo ") && links.contains("LOWER_UP"), "{links}");
}

#[test]
fn stopping_leaves_no_process_no_cgroup_and_no_mount() {
    // Others may mount meanwhile: only what names this sandbox or its layers counts.
    let mounts = |home: &Path| {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = |line: &&str| line.contains(home.to_str().unwrap()) || line.contains(" - overlay sandbox ");
        mountinfo.lines().filter(ours).count()
    };
    let sandbox = Sandbox::start(SandboxSpec::for_test(Systemd::V257, "stop")).unwrap();
    sandbox.sh("systemd-run --unit=stays sleep 4714; mount -t tmpfs tmpfs /mnt").unwrap();
    let record = sandbox.record().clone();
    let home = e2e::cache::directory().unwrap().join("run").join(sandbox.name());
    assert!(record.cgroup.exists() && home.exists());
    assert_eq!(mounts(&home), 0, "a mount of the sandbox is seen on the machine");

    sandbox.stop().unwrap();

    assert!(!record.init.unwrap().alive() && !record.supervisor.unwrap().alive());
    assert!(!record.cgroup.exists() && !home.exists());
    assert_eq!(mounts(&home), 0);
}

#[test]
fn what_a_killed_owner_left_is_reaped_by_the_next_start() {
    let sandbox = Sandbox::start(SandboxSpec::for_test(Systemd::V257, "orphan")).unwrap();
    let record = sandbox.record().clone();
    // What a killed process does: nothing but letting go of its lock.
    sandbox.abandon();
    assert!(record.init.unwrap().alive());

    let next = Sandbox::start(SandboxSpec::for_test(Systemd::V257, "next")).unwrap();

    assert!(!record.init.unwrap().alive() && !record.cgroup.exists());
    next.stop().unwrap();
}

#[test]
fn a_node_that_stays_is_found_again_and_can_be_rebooted() {
    let spec = SandboxSpec::for_test(Systemd::V257, "stays");
    let name = spec.name.clone();
    drop(Sandbox::start_to_stay(spec.clone()).unwrap());
    assert!(Sandbox::list().unwrap().iter().any(|record| record.spec.name == name), "it is not listed");
    let taken = Sandbox::start(spec).unwrap_err().to_string();
    assert!(taken.contains("up already"), "{taken}");

    let mut again = Sandbox::attach(&name).unwrap();
    again.write_file("/etc/kept", "here").unwrap();
    again.reboot().unwrap();
    drop(again);

    let again = Sandbox::attach(&name).unwrap();
    assert_eq!(again.read_file("/etc/kept").unwrap(), "here");
    again.stop().unwrap();
    assert!(Sandbox::attach(&name).is_err());
}
