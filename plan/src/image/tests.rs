use super::os_release::OsRelease;
use super::simulation::{PlanRefusal, Request};
use super::*;

fn parse(text: &str) -> Result<ImageRef, InvalidImage> {
    ImageRef::parse(text, Unqualified::Package)
}

fn pinned(name: &str, version: VersionPin) -> ImageRef {
    ImageRef::Package(PackageRef { name: name.to_owned(), version })
}

#[test]
fn every_form_of_the_table() {
    let sha = "a".repeat(64);
    let table = [
        ("nginx", pinned("nginx", VersionPin::Any)),
        ("nginx:latest", pinned("nginx", VersionPin::Any)),
        ("nginx=1.22.1-9*", pinned("nginx", VersionPin::Prefix("1.22.1-9".into()))),
        ("nginx=1.22.1-9+deb12u4", pinned("nginx", VersionPin::Exact("1.22.1-9+deb12u4".into()))),
        ("nginx:1.22.1", pinned("nginx", VersionPin::Upstream("1.22.1".into()))),
        ("uptimed=1:0.4.6-3", pinned("uptimed", VersionPin::Exact("1:0.4.6-3".into()))),
        ("package://nginx", pinned("nginx", VersionPin::Any)),
        ("package://nginx=1*", pinned("nginx", VersionPin::Prefix("1".into()))),
        ("g++", pinned("g++", VersionPin::Any)),
        ("bash-", pinned("bash-", VersionPin::Any)),
        ("tzdat.", pinned("tzdat.", VersionPin::Any)),
        ("g++-", pinned("g++-", VersionPin::Any)),
        ("MySQL_server", pinned("MySQL_server", VersionPin::Any)),
        ("/usr/bin/foo", ImageRef::Path("/usr/bin/foo".into())),
        ("/opt/a b/é", ImageRef::Path("/opt/a b/é".into())),
        ("docker.io/library/nginx:1.27", ImageRef::Oci("docker.io/library/nginx:1.27".parse().unwrap())),
        ("localhost/x", ImageRef::Oci("localhost/x".parse().unwrap())),
        ("oci://nginx", ImageRef::Oci("docker.io/library/nginx".parse().unwrap())),
        ("oci://a/b:1", ImageRef::Oci("docker.io/a/b:1".parse().unwrap())),
    ];
    for (text, expected) in table {
        let parsed = parse(text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(parsed, expected, "{text}");
        assert_eq!(parse(&parsed.to_string()), Ok(expected.clone()), "the canonical form of {text}");
        assert_eq!(ImageRef::parse(&parsed.to_string(), Unqualified::Oci), Ok(expected), "on any node: {text}");
    }
    let digest = format!("registry:5000/x@sha256:{sha}");
    assert_eq!(parse(&digest), Ok(ImageRef::Oci(digest.parse().unwrap())));
    for (suffix, format) in
        [("deb", PackageFormat::Deb), ("rpm", PackageFormat::Rpm), ("pkg.tar.zst", PackageFormat::Pacman)]
    {
        let url = format!("https://example.org:8443/a/x_1.2_amd64.{suffix}");
        let expected = PackageUrl { url: url.clone(), format, sha256: None };
        assert_eq!(parse(&url), Ok(ImageRef::Url(expected.clone())));
        let hashed = ImageRef::Url(PackageUrl { sha256: Some(sha.clone()), ..expected });
        assert_eq!(parse(&format!("{url}#sha256={}", sha.to_uppercase())), Ok(hashed.clone()));
        assert_eq!(parse(&hashed.to_string()), Ok(hashed));
    }
}

#[test]
fn hostile_and_ambiguous_images_are_refused() {
    let table = [
        "",
        "-oDPkg::x",
        "-oDPkg::Pre-Invoke::=sh",
        "--reinstall",
        "./x.deb",
        "../x",
        "x.deb/",
        " nginx",
        "nginx ",
        "nginx foo",
        "nginx\n",
        "ngi\0nx",
        "nginx\t",
        "ñginx",
        "nginx\u{202e}",
        "name:tag:tag",
        "name:1:2",
        "nginx:",
        "nginx=",
        "nginx=*",
        "nginx=1*2",
        "nginx:1*",
        "nginx==1",
        "nginx=-1",
        "nginx=1/stable",
        "nginx/stable",
        "a/b",
        "a/b:1",
        "nginx@sha256:00",
        "nginx?",
        "ngin*",
        "?name",
        "~n",
        "nginx|bash",
        "$(id)",
        "`id`",
        "nginx;id",
        "=1",
        ":1",
        "_x",
        ".x",
        "+x",
        "http://example.org/x.deb",
        "HTTPS://example.org/x.deb",
        "deb://x/x.deb",
        "ftp://x/x.deb",
        "file:///x.deb",
        "https:///x.deb",
        "https://u:p@h/x.deb",
        "https://h/x.zip",
        "https://h/.deb",
        "https://h/x.deb#",
        "https://h/x.deb#sha256=00",
        "https://h/x.deb#md5=00",
        "https://h/x.deb?a=b#sha256=zz",
        "https://h/a\"b.deb",
        "https://h/a\\b.deb",
        "https://h?x.deb",
        "/",
        "//",
        "/a//b",
        "/a/../b",
        "/a/./b",
        "/a/",
        "/a\nb",
        "/a\u{7f}",
        "oci://",
        "oci://A/b",
        "oci://a//b",
        "docker.io/",
        "docker.io/X",
        "docker.io/x:",
        "docker.io/x@sha256:12",
        "host:99999/x",
        "-h.x/y",
        "..../x",
        "package://",
        "package://a/b",
        "package://-x",
    ];
    for text in table {
        for unqualified in [Unqualified::Package, Unqualified::Oci] {
            if unqualified == Unqualified::Oci && ["a/b", "a/b:1", "nginx/stable", "nginx:1*"].contains(&text) {
                continue;
            }
            let error = ImageRef::parse(text, unqualified).expect_err(text).to_string();
            assert!(!error.chars().any(char::is_control), "{error:?}");
        }
    }
    for long in ["a".repeat(129), format!("a={}", "1".repeat(129)), format!("https://h/{}.deb", "a".repeat(2048))] {
        parse(&long).expect_err("too long");
    }
    assert!(parse(&format!("/{}", "a/".repeat(4000))).is_err());
}

#[test]
fn a_refusal_says_what_was_probably_meant() {
    let hint = |text: &str| parse(text).expect_err(text).hint;
    assert_eq!(hint("bitnami/nginx:1").as_deref(), Some("docker.io/bitnami/nginx:1"));
    assert_eq!(hint("http://h/x.deb").as_deref(), Some("https://h/x.deb"));
    assert_eq!(hint("uptimed:1:0.4").as_deref(), Some("uptimed=1:0.4"));
    assert_eq!(hint("nginx@sha256:00").as_deref(), Some("docker.io/library/nginx@sha256:00"));
    let oci = ImageRef::parse("nginx=1", Unqualified::Oci).expect_err("a version");
    assert_eq!(oci.hint.as_deref(), Some("package://nginx=1"));
    assert_eq!(
        ImageRef::parse("nginx:1", Unqualified::Oci),
        Ok(ImageRef::Oci("docker.io/library/nginx:1".parse().unwrap()))
    );
}

#[test]
fn pins() {
    let upstream = VersionPin::Upstream("1.22.1".into());
    for version in ["1.22.1", "1.22.1-9+deb12u4", "2:1.22.1-9"] {
        assert!(upstream.matches(version), "{version}");
    }
    for version in ["1.22.10-9", "1.22", "1:2-1.22.1", "1.22.1+x-9"] {
        assert!(!upstream.matches(version), "{version}");
    }
    assert!(VersionPin::Prefix("1.22".into()).matches("1.22.1-9"));
    assert!(!VersionPin::Exact("1.22".into()).matches("1.22.1-9"));
    assert!(VersionPin::Any.matches("anything") && !VersionPin::Any.is_explicit());
}

#[test]
fn pull_policy_defaults_to_what_is_present() {
    assert_eq!(PullPolicy::from_field(None), Ok(PullPolicy::IfNotPresent));
    assert_eq!(PullPolicy::from_field(Some("Always")), Ok(PullPolicy::Always));
    PullPolicy::from_field(Some("always")).expect_err("Kubernetes is exact about case");
}

#[test]
fn the_distribution_is_found_wherever_its_id_stands() {
    let detect = |text: &str| Manager::detect(&OsRelease::parse(text));
    // Debian 12 has VERSION_ID before ID.
    let bookworm = "PRETTY_NAME=\"Debian\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n";
    assert_eq!(detect(bookworm), Some(Manager::Apt));
    assert_eq!(detect("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"), Some(Manager::Dnf));
    assert_eq!(detect("ID='pop'\nID_LIKE='ubuntu debian'\n"), Some(Manager::Apt));
    assert_eq!(detect("ID=endeavouros\nID_LIKE=arch\n"), Some(Manager::Pacman));
    assert_eq!(detect("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n"), Some(Manager::Zypper));
    assert_eq!(detect("ID=alpine\n"), None);
    assert_eq!(detect(""), None);
    assert_eq!(OsRelease::parse("# ID=x\nID=\"a\\\"b\"\n").id, "a\"b");
}

macro_rules! captured {
    ($name:literal) => {
        include_str!(concat!("../../tests/packages/", $name))
    };
}

#[test]
fn apt_candidates_are_of_the_exact_name() {
    let nginx = Manager::Apt.parse_candidates("nginx", captured!("apt/policy-nginx"));
    assert_eq!(nginx.candidate.as_deref(), Some("1.22.1-9+deb12u11"));
    assert_eq!(nginx.versions, ["1.22.1-9+deb12u11", "1.22.1-9+deb12u9"]);
    let bash = Manager::Apt.parse_candidates("bash", captured!("apt/policy-bash"));
    assert_eq!(bash.versions, ["5.2.15-2+b13"]);
    let virtual_package = captured!("apt/policy-virtual");
    assert!(virtual_package.contains("mail-transport-agent"));
    assert_eq!(Manager::Apt.parse_candidates("mail-transport-agent", virtual_package).candidate, None);
    // apt takes the unknown name as a regular expression and answers about tzdata and others.
    assert_eq!(Manager::Apt.parse_candidates("tzdat.", captured!("apt/policy-regex")), manager::Candidates::default());
}

#[test]
fn apt_plans() {
    let plan = Manager::Apt.parse_plan(captured!("apt/simulate-nginx"));
    assert_eq!((plan.installs.len(), plan.upgrades.len(), plan.downgrades.len(), plan.removes.len()), (18, 0, 0, 0));
    let nginx = Request { name: "nginx", version: "1.22.1-9+deb12u11", explicit: false };
    assert_eq!(plan.check(nginx), Ok(()));
    assert!(matches!(plan.check(Request { version: "1.22.1-9", ..nginx }), Err(PlanRefusal::NotInstalled { .. })));

    let plan = Manager::Apt.parse_plan(captured!("apt/simulate-remove"));
    let refusal = plan.check(Request { name: "bash-", version: "1", explicit: true }).expect_err("it removes bash");
    assert_eq!(refusal.to_string(), "it would remove bash");

    let plan = Manager::Apt.parse_plan(captured!("apt/simulate-regex"));
    assert!(plan.installs.len() > 1);
    let refusal = plan.check(Request { name: "tzdat.", version: "1", explicit: false });
    assert!(matches!(refusal, Err(PlanRefusal::NotInstalled { .. })));
}

#[test]
fn apt_downgrades_only_what_was_named() {
    let plan = Manager::Apt.parse_plan(captured!("apt/simulate-downgrade"));
    let request = Request { name: "libssl3", version: "3.0.20-1~deb12u2", explicit: true };
    assert_eq!(plan.downgrades.len(), 1);
    assert_eq!(plan.check(request), Ok(()));
    let refusal = plan.check(Request { explicit: false, ..request }).expect_err("not asked for");
    assert_eq!(refusal.to_string(), "it would downgrade libssl3");
}

#[test]
fn dpkg_status_and_files() {
    let bash = Manager::Apt.parse_installed("bash", captured!("apt/installed-bash")).expect("installed");
    assert_eq!((bash.version.as_str(), bash.arch.as_str()), ("5.2.15-2+b13", "amd64"));
    for status in ["deinstall ok config-files", "install ok half-configured", "install reinstreq installed"] {
        assert_eq!(Manager::Apt.parse_installed("bash", &format!("bash\t1\tamd64\t{status}\n")), None, "{status}");
    }
    let held = Manager::Apt.parse_installed("bash", "bash\t1\tamd64\thold ok installed\n");
    assert!(held.is_some());
    let files = Manager::Apt.parse_files(captured!("apt/files-dash"));
    assert!(files.contains(&"/bin/dash".to_owned()) && files.iter().all(|file| file.starts_with('/') && file != "/."));
    assert!(!files.iter().any(|file| file.contains("distrib")));
    let hello = Manager::Apt.parse_file(captured!("apt/file-hello")).expect("a package");
    assert_eq!((hello.name.as_str(), hello.version.as_str()), ("hello", "2.10-3"));
}

#[test]
fn names_and_versions_follow_the_separator() {
    let target = manager::Target::Version { name: "nginx", version: "1" };
    for manager in [Manager::Apt, Manager::Dnf, Manager::Pacman, Manager::Zypper] {
        let argvs = [
            manager.query_installed("nginx"),
            manager.list_files("nginx"),
            manager.query_candidates("nginx"),
            manager.simulate(target, true),
            manager.install(target, false),
        ];
        for argv in argvs {
            assert_eq!(argv.iter().position(|part| part == "--"), Some(argv.len() - 2), "{argv:?}");
        }
    }
    assert!(!Manager::Apt.accepts_name("Nginx") && !Manager::Apt.accepts_name("x") && Manager::Apt.accepts_name("g++"));
    assert!(Manager::Dnf.accepts_name("NetworkManager"));
}

#[test]
fn dnf_answers_and_plans() {
    let candidates = Manager::Dnf.parse_candidates("demo", captured!("dnf/candidates"));
    assert_eq!(candidates.versions, ["2.0-1", "1.0-1"]);
    let candidates = Manager::Dnf.parse_candidates("epochal", captured!("dnf/candidates-epoch"));
    assert_eq!(candidates.candidate.as_deref(), Some("7:3-1"));
    let installed = Manager::Dnf.parse_installed("epochal", captured!("dnf/installed-epoch")).expect("installed");
    assert_eq!((installed.version.as_str(), installed.arch.as_str()), ("7:3-1", "noarch"));

    let demo = Request { name: "demo", version: "1.0-1", explicit: true };
    let plan = Manager::Dnf.parse_plan(captured!("dnf/simulate"));
    assert_eq!((plan.installs.len(), plan.check(demo)), (2, Ok(())));
    let plan = Manager::Dnf.parse_plan(captured!("dnf/simulate-downgrade"));
    assert_eq!((plan.downgrades.len(), plan.check(demo)), (1, Ok(())));
    let plan = Manager::Dnf.parse_plan(captured!("dnf/simulate-remove"));
    let refusal = plan.check(Request { name: "eater", version: "1-1", explicit: false }).expect_err("obsoletes");
    assert_eq!(refusal.to_string(), "it would remove demo");
}

/// From dnf's documentation: a long name pushes its row's rest to the next line.
#[test]
fn dnf_breaks_long_rows() {
    let name = "a".repeat(70);
    let plan = Manager::Dnf.parse_plan(&format!("Installing:\n {name}\n             x86_64  1-1  repo  5 k\n"));
    assert_eq!(plan.installs, [simulation::Change { name, version: "1-1".into() }]);
}

#[test]
fn zypper_answers_and_plans() {
    let candidates = Manager::Zypper.parse_candidates("demo", captured!("zypper/candidates"));
    assert_eq!(candidates.versions, ["2.0-1", "1.0-1"]);
    let plan = Manager::Zypper.parse_plan(captured!("zypper/simulate"));
    assert_eq!(plan.installs.len(), 2);
    assert_eq!(plan.check(Request { name: "demo", version: "1.0-1", explicit: false }), Ok(()));
    let plan = Manager::Zypper.parse_plan(captured!("zypper/simulate-downgrade"));
    assert_eq!(plan.downgrades, [simulation::Change { name: "demo".into(), version: "1.0-1".into() }]);
    // Not interactive, zypper would go on and remove demo.
    let plan = Manager::Zypper.parse_plan(captured!("zypper/simulate-conflict"));
    assert!(plan.check(Request { name: "rival", version: "1-1", explicit: true }).is_err());
    let refusal = Manager::Zypper.parse_plan(captured!("zypper/simulate-remove"));
    assert_eq!(
        refusal.check(Request { name: "eater", version: "1-1", explicit: false }).expect_err("removes").to_string(),
        "it would remove demo"
    );
}

#[test]
fn pacman_answers_and_plans() {
    let candidates = Manager::Pacman.parse_candidates("demo", captured!("pacman/candidates"));
    assert_eq!(candidates.versions, ["1.0-1"]);
    let demo = Manager::Pacman.parse_installed("demo", captured!("pacman/installed")).expect("installed");
    assert_eq!((demo.version.as_str(), demo.arch.as_str()), ("1.0-1", "any"));
    // Asked for what demo-lib provides, pacman answers with demo-lib.
    assert_eq!(Manager::Pacman.parse_installed("libdemo", captured!("pacman/installed-provided")), None);
    let files = Manager::Pacman.parse_files(captured!("pacman/files"));
    assert!(
        files.contains(&"/usr/lib/systemd/system/demo.service".to_owned())
            && files.contains(&"/var/lib/demo".to_owned())
    );
    let request = Request { name: "demo", version: "1.0-1", explicit: false };
    assert_eq!(Manager::Pacman.parse_plan(captured!("pacman/simulate")).check(request), Ok(()));
    let plan = Manager::Pacman.parse_plan(captured!("pacman/simulate-file"));
    assert_eq!(plan.check(Request { name: "eater", version: "1-1", explicit: true }), Ok(()));
}

#[test]
fn pacman_does_not_say_what_is_there_already() {
    let change = |name: &str, version: &str| simulation::Change { name: name.into(), version: version.into() };
    let plan = Manager::Pacman.parse_plan("old 2-1\nnewer 1-1\nnew 1-1\n");
    let there = [change("old", "1-1"), change("newer", "2-1")];
    let plan = plan.with_installed(&there);
    assert_eq!(
        (plan.installs, plan.upgrades, plan.downgrades),
        (vec![change("new", "1-1")], vec![change("old", "2-1")], vec![change("newer", "1-1")])
    );
}

#[test]
fn versions_in_rpm_order() {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let table = [
        ("1.0-1", "1.0-1", Equal),
        ("1.10-1", "1.9-1", Greater),
        ("1.0~rc1-1", "1.0-1", Less),
        ("1:1-1", "2-1", Greater),
        ("1.0^git1-1", "1.0-1", Greater),
        ("1.0^git1-1", "1.0.1-1", Less),
        ("1.a", "1.1", Less),
        ("1.01", "1.1", Equal),
        ("1.0-2", "1.0-10", Less),
        ("1.0a", "1.0", Greater),
    ];
    for (left, right, ordering) in table {
        assert_eq!(manager::compare_rpm(left, right), ordering, "{left} {right}");
        assert_eq!(manager::compare_rpm(right, left), ordering.reverse(), "{right} {left}");
    }
}

/// Debian's nginx ships its unit and its state directories in nginx-common.
#[test]
fn debian_splits_packages_of_one_source() {
    let (source, names) = apt::parse_dependencies(captured!("apt/dependencies-nginx")).expect("an answer");
    assert_eq!(source, "nginx");
    assert!(names.contains(&"nginx-common".to_owned()) && names.contains(&"libc6".to_owned()), "{names:?}");
    assert_eq!(apt::parse_siblings(&source, captured!("apt/sources-nginx")), ["nginx-common"]);
}

#[test]
fn apt_replaces_again_what_was_cut_off() {
    let line = |status: &str| format!("sk\t1.0-1\tall\t{status}\n");
    for (status, cut_off) in [
        ("install ok installed", false),
        ("install ok half-configured", false),
        ("install ok unpacked", false),
        ("deinstall ok config-files", false),
        ("install reinstreq half-installed", true),
        ("install ok half-installed", true),
        ("install reinstreq installed", true),
        ("hold reinstreq unpacked", true),
    ] {
        assert_eq!(apt::is_cut_off(&line(status)), cut_off, "{status}");
    }
    for (file, name, version, is) in [
        ("sk_1.0-1_all.deb", "sk", "1.0-1", true),
        ("sk_1%3a1.0-1_amd64.deb", "sk", "1:1.0-1", true),
        ("sk_1.0-1_i386.deb", "sk:i386", "1.0-1", true),
        ("sk_1.0-1_amd64.deb", "sk:i386", "1.0-1", false),
        ("sk_1.0-1_all.deb", "sk", "1.0", false),
        ("sk-more_1.0-1_all.deb", "sk", "1.0-1", false),
        ("sk_1.0-1_all.deb.FAILED", "sk", "1.0-1", false),
        ("lock", "sk", "1.0-1", false),
    ] {
        assert_eq!(apt::is_archive_of(file, name, version), is, "{file}");
    }
    let again = apt::install_again(&[("sk".to_owned(), "2:1-1".to_owned())]).join(" ");
    assert!(again.starts_with("apt-get -y ") && again.contains("--no-remove"), "{again}");
    assert!(again.ends_with(" --allow-downgrades --reinstall install -- sk=2:1-1"), "{again}");
}
