//! The package repository holds what its table says, on both releases of Debian.

use std::thread;
use std::time::Duration;

use e2e::apt_repo::{AptRepo, Archive, INSTALL};
use e2e::eventually::wait_until;
use e2e::sandbox::{Sandbox, SandboxSpec, Systemd};

#[test]
fn every_trait_is_there_on_both_releases() {
    thread::scope(|scope| {
        for systemd in Systemd::ALL {
            scope.spawn(move || every_trait_is_there(systemd));
        }
    });
}

fn every_trait_is_there(systemd: Systemd) {
    let sandbox = Sandbox::start(SandboxSpec::for_test(systemd, "apt").netns()).unwrap();
    AptRepo::build().unwrap().install_into(&sandbox, Archive::OursOnly).unwrap();
    let install = |packages: &[&str]| {
        let argv = [&INSTALL[..], packages].concat();
        sandbox.exec(&argv).unwrap()
    };
    let show = |unit: &str, property: &str| {
        sandbox.run(&["systemctl", "show", "--value", "--property", property, unit]).unwrap().trim().to_owned()
    };
    let start = |unit: &str| sandbox.run(&["systemctl", "start", unit]).unwrap();
    let journal_has = |unit: &str, text: &str| {
        let journal = || sandbox.run(&["journalctl", "--no-pager", "-o", "cat", "-u", unit]).unwrap();
        let found = wait_until(text, Duration::from_secs(10), || journal().contains(text).then_some(()));
        assert!(found.is_ok(), "{unit} did not log `{text}` but:\n{}", journal());
    };

    let plain = [
        "sk-nounit",
        "sk-simple",
        "sk-notify",
        "sk-forking",
        "sk-oneshot",
        "sk-othername",
        "sk-continued",
        "sk-dropin",
        "sk-dirs",
        "sk-alias",
        "sk-conflicts",
        "sk-condition",
        "sk-dbus",
        "sk-template",
        "sk-onlytemplate",
        "sk-dynamic",
        "sk-exit",
        "sk-var",
        "sk-versions=1.0-1",
    ];
    let output = install(&plain);
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    sandbox.run(&["systemctl", "daemon-reload"]).unwrap();

    for (unit, text) in [
        ("sk-simple.service", "sk-simple: hello 1"),
        ("sk-notify.service", "sk-notify: ready"),
        ("sk-notify-main.service", "sk-notify-main: ready"),
        ("sk-forking.service", "sk-forking: daemonized"),
        ("sk-oneshot.service", "sk-oneshot: step three"),
        ("skother.service", "skother: started"),
        (
            "sk-continued.service",
            "[--foreground] [--one] [--two] [words] [--name] [a name with spaces] [--quoted=two words] [--percent=100%]",
        ),
        ("sk-dropin.service", "FROM_UNIT=yes FROM_DROPIN=yes arguments: dropin"),
        ("sk-dirs.service", "/var/lib/sk-dirs sk-dirs 750 lines: 1"),
        ("sk-dbus.service", "sk-dbus: asked for the name"),
        ("sk-template@one.service", "sk-template: instance one"),
        ("sk-dynamic.service", "state /var/lib/sk-dynamic"),
        ("sk-exit.service", "sk-exit: will exit with 0"),
        ("sk-var.service", "<p>shipped by sk-var</p>"),
        ("sk-versions.service", "sk-versions: 1.0-1"),
    ] {
        start(unit);
        assert_eq!(show(unit, "ActiveState"), "active", "{unit}");
        journal_has(unit, text);
    }
    assert_eq!(show("sk-notify-main.service", "StatusText"), "notified by the main process");
    assert_eq!(show("sk-template.service", "Type"), "oneshot");
    start("sk-condition.service");
    assert_eq!(show("sk-condition.service", "ConditionResult"), "no");
    start("sk-conflicts.service");
    assert_eq!(show("sk-simple.service", "ActiveState"), "inactive");
    sandbox.run(&["systemctl", "enable", "sk-alias.service"]).unwrap();
    assert_eq!(show("sk-alias-alias.service", "Id"), "sk-alias.service");
    assert_eq!(sandbox.exec(&["sk-exit", "42"]).unwrap().code, 42);
    assert_eq!(sandbox.run(&["id", "-u", "sk-dirs"]).unwrap(), "64990\n");

    assert_eq!(install(&["sk-versions"]).code, 0);
    assert_eq!(sandbox.run(&["sk-versions", "once"]).unwrap(), "sk-versions: 2.0-1\n");
    let bad = install(&["sk-badpostinst"]);
    assert!(bad.code != 0 && bad.stdout.contains("looking for what is not there"), "{bad:?}");
    autostarts(&sandbox, &install);
}

/// A plain install starts it in both ways: what a node has to prevent.
fn autostarts(sandbox: &Sandbox, install: &dyn Fn(&[&str]) -> e2e::sandbox::Output) {
    sandbox.run(&["dpkg", "--purge", "--force-all", "sk-badpostinst"]).unwrap();
    let output = install(&["sk-autostart"]);
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    let started = wait_until("both starts", Duration::from_secs(10), || {
        let started = sandbox.read_file("/var/lib/sk-autostart.started").ok()?;
        (started.contains("as unit") && started.contains("as init-script")).then_some(())
    });
    assert!(started.is_ok(), "{}{}", output.stdout, output.stderr);
    assert_eq!(sandbox.run(&["systemctl", "is-enabled", "sk-autostart.service"]).unwrap(), "enabled\n");
}

#[test]
fn a_package_comes_over_https_from_an_authority_that_the_sandbox_trusts() {
    let sandbox = Sandbox::start(SandboxSpec::for_test(Systemd::V257, "https").netns()).unwrap();
    let repo = AptRepo::build().unwrap();
    let server = repo.serve_https(&sandbox).unwrap();
    let url = server.url("");
    // apt checks certificates against the system's authorities, as the agent's client does.
    sandbox.write_file("/etc/apt/sources.list.d/https.list", format!("deb [trusted=yes] {url} ./\n")).unwrap();
    sandbox.sh("rm /etc/apt/sources.list.d/*.sources; apt-get update; apt-get install -y sk-nounit").unwrap();
    assert_eq!(sandbox.run(&["sk-nounit", "once"]).unwrap(), "sk-nounit: arguments: once\n");
}
