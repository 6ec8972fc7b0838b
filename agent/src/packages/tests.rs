//! The apt side against a real apt: installs, breaks and downgrades packages, so it runs only in a throw-away Debian root
//! (`mmdebstrap --variant=apt --include=init-system-helpers`, the test binary copied in and started by chroot with
//! `--ignored --test-threads=1`). The packages come from a flat repository that the test makes itself.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Mutex as Shelf;

use plan::image::Unqualified;

use super::*;

const STATE: &str = "/var/lib/systemk/packages";

/// Made by `repository`: a daemon in two versions, one whose configuration fails, one that wants the daemon removed.
const REPOSITORY: &str = r#"
set -e
rm -rf /repo && mkdir -p /repo /run/systemd/system && cd /repo
package() { # name version extra-field postinst
    rm -rf tree && mkdir -p tree/DEBIAN tree/usr/lib/systemd/system tree/etc/init.d
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n' "$1" "$2" > tree/DEBIAN/control
    if [ -n "$3" ]; then echo "$3" >> tree/DEBIAN/control; fi
    printf '[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n' > "tree/usr/lib/systemd/system/$1.service"
    printf '#!/bin/sh\n%s\n' "$4" > tree/DEBIAN/postinst && chmod 755 tree/DEBIAN/postinst
    dpkg-deb --root-owner-group -b tree "$1_$2_all.deb" > /dev/null
}
enable='deb-systemd-helper enable demo-daemon.service; /usr/sbin/policy-rc.d demo-daemon start; echo "policy $?" > /tmp/policy
deb-systemd-invoke start demo-daemon.service > /tmp/invoke 2>&1; exit 0'
package demo-daemon 1.0-1 "" "$enable"
package demo-daemon 2.0-1 "" "$enable"
package demo-broken 1 "" 'echo "cannot configure: the moon is full"; exit 1'
package demo-eater 1 "Conflicts: demo-daemon" ""
package demo-slow 1 "" 'deb-systemd-helper enable demo-slow.service; touch /tmp/slow; sleep 6; exit 0'
for deb in *.deb; do
    dpkg-deb -f "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d' ' -f1)"
done > Packages
echo 'deb [trusted=yes] file:/repo ./' > /etc/apt/sources.list.d/demo.list
apt-get update -qq
"#;

fn throw_away_root() -> Packages {
    assert!(Path::new("/throw-away-root").exists(), "this test changes the system it runs on");
    assert!(Command::new("sh").args(["-c", REPOSITORY]).status().expect("sh").success());
    let os_release = fs::read_to_string("/etc/os-release").expect("os-release");
    Packages::detect(&os_release, STATE.into()).expect("a Debian")
}

async fn ensure(packages: &Packages, image: &str, policy: PullPolicy) -> Result<Installed, PackageError> {
    ensure_in_use(packages, image, policy, None).await
}

async fn ensure_in_use(
    packages: &Packages,
    image: &str,
    policy: PullPolicy,
    user: Option<InUse>,
) -> Result<Installed, PackageError> {
    let image = ImageRef::parse(image, Unqualified::Package).expect("an image");
    let seen = Shelf::new(Vec::new());
    let result = packages
        .ensure(&image, policy, |_| user.clone(), |step| seen.lock().expect("seen").push(step.to_string()))
        .await;
    println!("{image} {policy}: {:?}", seen.lock().expect("seen"));
    match &result {
        Ok(installed) => println!("    {installed:?}"),
        Err(error) => println!("    {}: {error}", error.reason()),
    }
    result
}

fn version(result: Result<Installed, PackageError>) -> (String, bool) {
    let installed = result.expect("installed");
    (installed.package.expect("a package").version, installed.changed)
}

fn nothing_is_left() {
    assert!(!Path::new("/usr/sbin/policy-rc.d").exists());
    assert!(!Path::new(STATE).join("installing.json").exists());
    assert!(fs::read_dir(Path::new(STATE).join("downloads")).map_or(0, Iterator::count) == 0);
    let links = serde_json::to_string(&enablement::links(Path::new("/"))).expect("json");
    assert!(!links.contains("demo"), "{links}");
    let audit = Command::new("dpkg").arg("--audit").output().expect("dpkg");
    assert_eq!(String::from_utf8_lossy(&audit.stdout), "");
}

#[tokio::test]
#[ignore = "changes the system: run in a throw-away Debian root"]
async fn apt_from_name_to_package() {
    let packages = throw_away_root();
    for unknown in ["bash-", "tzdat.", "g++-", "no-such-package", "mail-transport-agent"] {
        let error = ensure(&packages, unknown, PullPolicy::IfNotPresent).await.expect_err("unknown");
        assert!(matches!(error, PackageError::UnknownPackage { .. }), "{error}");
    }
    let never = ensure(&packages, "demo-daemon", PullPolicy::Never).await.expect_err("not there");
    assert_eq!(never.reason(), "ErrImageNeverPull");

    assert_eq!(version(ensure(&packages, "demo-daemon:1.0", PullPolicy::IfNotPresent).await), ("1.0-1".into(), true));
    assert_eq!(fs::read_to_string("/tmp/policy").expect("written by the postinst"), "policy 101\n");
    let invoked = fs::read_to_string("/tmp/invoke").expect("written by the postinst");
    assert!(invoked.contains("returned 101"), "{invoked}");
    nothing_is_left();
    assert_eq!(version(ensure(&packages, "demo-daemon", PullPolicy::IfNotPresent).await), ("1.0-1".into(), false));

    let user = Some(InUse { version: "1.0-1".into(), pod: "default/x".into() });
    let error =
        ensure_in_use(&packages, "demo-daemon=2*", PullPolicy::IfNotPresent, user.clone()).await.expect_err("in use");
    assert!(error.to_string().starts_with("demo-daemon 1.0-1 is in use by pod default/x"), "{error}");
    let kept = ensure_in_use(&packages, "demo-daemon", PullPolicy::Always, user).await.expect("kept");
    assert_eq!((kept.changed, kept.warnings.len()), (false, 1));

    assert_eq!(version(ensure(&packages, "demo-daemon", PullPolicy::Always).await), ("2.0-1".into(), true));
    assert_eq!(version(ensure(&packages, "demo-daemon", PullPolicy::Always).await), ("2.0-1".into(), false));
    assert_eq!(version(ensure(&packages, "demo-daemon=1.0-1", PullPolicy::Always).await), ("1.0-1".into(), true));
    let error = ensure(&packages, "demo-daemon:3", PullPolicy::IfNotPresent).await.expect_err("no such version");
    assert!(matches!(error, PackageError::NoSuchVersion { .. }));

    let error = ensure(&packages, "demo-eater", PullPolicy::IfNotPresent).await.expect_err("removes the daemon");
    assert!(error.to_string().ends_with("it would remove demo-daemon"), "{error}");

    let error = ensure(&packages, "demo-broken", PullPolicy::IfNotPresent).await.expect_err("its postinst fails");
    assert!(error.to_string().contains("the moon is full"), "{error}");
    nothing_is_left();
    let facts = packages.facts("demo-daemon").await.expect("asked").expect("installed");
    assert_eq!(facts.units[0].name, "demo-daemon.service");
}

#[test]
#[ignore = "changes the system: run in a throw-away Debian root"]
fn an_agent_that_died_during_an_installation_puts_it_right() {
    let packages = throw_away_root();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let first = runtime();
    first.block_on(async {
        let install = ensure(&packages, "demo-slow", PullPolicy::IfNotPresent);
        let started = async {
            while !Path::new("/tmp/slow").exists() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            _ = install => panic!("it takes six seconds"),
            () = started => (),
        }
    });
    // The agent is gone: with its runtime every task is, and nobody waits for apt.
    drop(first);
    let mode = fs::metadata("/usr/sbin/policy-rc.d").expect("the placeholder").permissions().mode();
    assert_eq!(mode & 0o111, 0);
    let lock = locks::held(Manager::Apt).expect("apt holds its lock").to_string();
    println!("{lock}");
    assert!(lock.contains("lock-frontend held by pid") && lock.ends_with("(apt-get)"), "{lock}");
    assert!(Path::new(STATE).join("installing.json").exists());

    runtime().block_on(async {
        let next = Packages::detect("ID=debian", STATE.into()).expect("a Debian");
        println!("{:?}", next.recover().await.expect("recovered"));
        assert!(next.installed("demo-slow").await.expect("asked").is_some());
        nothing_is_left();
        assert_eq!(next.recover().await.expect("nothing to do"), Vec::<String>::new());
    });
}

/// For trying real packages by hand: the images of `SYSTEMK_TEST_IMAGES`, one after the other.
#[tokio::test]
#[ignore = "changes the system: run in a throw-away Debian root"]
async fn images_of_the_environment() {
    assert!(Path::new("/throw-away-root").exists(), "this test changes the system it runs on");
    let os_release = fs::read_to_string("/etc/os-release").expect("os-release");
    let packages = Packages::detect(&os_release, STATE.into()).expect("a known distribution");
    println!("recovered: {:?}", packages.recover().await.expect("recovered"));
    for image in std::env::var("SYSTEMK_TEST_IMAGES").unwrap_or_default().split_whitespace() {
        for policy in [PullPolicy::IfNotPresent, PullPolicy::IfNotPresent] {
            if let Ok(Installed { package: Some(package), .. }) = ensure(&packages, image, policy).await {
                let facts = packages.facts(&package.name).await.expect("asked").expect("installed");
                let units = facts.units.iter().map(|unit| (unit.name.as_str(), unit.fragments.len()));
                let state = facts.files.iter().filter(|file| file.directory && file.path.starts_with("/var/"));
                println!("    units {:?}", units.collect::<Vec<_>>());
                println!("    state {:?}", state.map(|file| file.path.as_str()).collect::<Vec<_>>());
            }
            nothing_is_left();
        }
    }
}
