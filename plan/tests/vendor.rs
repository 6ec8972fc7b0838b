//! Vendor units in, what a container's unit takes from them out: one directory of `vendor_cases` a case.
//!
//! A case is a unit file, its drop-ins in `NAME.d`, flags in `context`, and `expect.txt`, which `BLESS=1` rewrites.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::disallowed_methods, reason = "the cases are files")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use plan::vendor::specifier::OsFacts;
use plan::vendor::{Fragment, SpecifierFacts, VendorContext, VendorService, VendorUnit, adopt};

fn facts() -> SpecifierFacts {
    SpecifierFacts {
        hostname: "node1.example.org".to_owned(),
        pretty_hostname: None,
        machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
        boot_id: "fedcba9876543210fedcba9876543210".to_owned(),
        kernel_release: "6.1.0-1-amd64".to_owned(),
        architecture: "x86-64".to_owned(),
        os: OsFacts { id: "debian".to_owned(), version_id: "12".to_owned(), ..OsFacts::default() },
    }
}

fn sorted(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn fragment(path: &Path, base: &Path) -> Fragment {
    let relative = path.strip_prefix(base).unwrap().display();
    let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    Fragment { path: format!("/lib/systemd/system/{relative}"), text }
}

fn unit(case: &Path) -> VendorUnit {
    let main = sorted(case).into_iter().find(|path| path.is_file() && path.extension().is_some_and(|e| e == "service"));
    let main = main.unwrap_or_else(|| panic!("{} has no unit", case.display()));
    let name = main.file_name().unwrap().to_str().unwrap().to_owned();
    let mut fragments = vec![fragment(&main, case)];
    let drop_ins = case.join(format!("{name}.d"));
    if drop_ins.is_dir() {
        fragments.extend(sorted(&drop_ins).iter().map(|path| fragment(path, case)));
    }
    VendorUnit { name, fragments }
}

fn show(service: &VendorService) -> String {
    let mut text = String::new();
    writeln!(text, "type: {}", service.service_type).unwrap();
    for line in &service.lines {
        let arg0 = line.line.arg0.as_ref().map(|arg0| format!(" arg0={arg0:?}")).unwrap_or_default();
        let (expand, full) = (line.line.expand, line.line.full_privileges);
        let flags = format!("{}{}", if expand { " expand" } else { "" }, if full { " full" } else { "" });
        let (directive, prefix, key) = (line.directive, &line.prefix, &line.key);
        writeln!(text, "{directive}={prefix}init {key}\n    {:?}{arg0}{flags}", line.line.argv).unwrap();
    }
    let mut section = None;
    for directive in &service.directives {
        if section != Some(directive.section) {
            section = Some(directive.section);
            writeln!(text, "[{}]", directive.section).unwrap();
        }
        writeln!(text, "{directive}").unwrap();
    }
    let facts = [
        ("user", format!("{:?}", service.user)),
        ("group", format!("{:?}", service.group)),
        ("supplementary groups", format!("{:?}", service.supplementary_groups)),
        ("dynamic user", service.dynamic_user.to_string()),
        ("directories", format!("{:?}", service.directories)),
        ("runtime variable", format!("{:?}", service.runtime_directory_variable().map(|variable| variable.value))),
        ("working directory", format!("{:?}", service.working_directory)),
        ("pid file", format!("{:?}", service.pid_file)),
        ("private devices", service.private_devices.to_string()),
        ("environment files", format!("{:?}", service.environment_files)),
        ("stop signal", format!("{:?}", service.stop_signal)),
        ("bounding set", format!("{:?}", service.bounding_set.as_ref().map(|set| set.len()))),
        ("notify access", format!("{:?}", service.notify_access)),
    ];
    for (name, value) in facts {
        if !["None", "false", "[]"].contains(&value.as_str())
            && value != format!("{:?}", plan::vendor::Directories::default())
        {
            writeln!(text, "{name}: {value}").unwrap();
        }
    }
    for note in &service.notes {
        writeln!(text, "note: {note}").unwrap();
    }
    text
}

#[test]
fn cases() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vendor_cases");
    let facts = facts();
    let mut wrong = Vec::new();
    for case in sorted(&root) {
        let context = fs::read_to_string(case.join("context")).unwrap_or_default();
        let ctx = VendorContext {
            runtime_root: "systemk/pods/uid/c/0/run",
            run_dir: "/run/systemk/pods/uid/c/0/run",
            program_given: context.contains("program-given"),
            pod_identity: context.contains("pod-identity"),
            specifiers: &facts,
        };
        let actual = match adopt(&unit(&case), &ctx) {
            Ok(service) => show(&service),
            Err(refusals) => {
                refusals.iter().fold(String::new(), |text, refusal| text + &format!("refused: {refusal}\n"))
            }
        };
        let expected = case.join("expect.txt");
        if env::var_os("BLESS").is_some() {
            fs::write(&expected, &actual).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != actual {
            wrong.push(format!("{}:\n{actual}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "BLESS=1 rewrites what is right\n{}", wrong.join("\n"));
}

#[test]
fn a_line_of_two_megabytes_is_refused_with_every_other_reason() {
    let facts = facts();
    let ctx = VendorContext {
        runtime_root: "r",
        run_dir: "/run/r",
        program_given: false,
        pod_identity: false,
        specifiers: &facts,
    };
    let fragments = vec![
        Fragment { path: "/a".to_owned(), text: format!("[Service]\nExecStart=/bin/x {}\n", "x".repeat(2 << 20)) },
        Fragment { path: "/b".to_owned(), text: "[Service".to_owned() },
    ];
    let refusals = adopt(&VendorUnit { name: "x.service".to_owned(), fragments }, &ctx).unwrap_err();
    let texts: Vec<&str> = refusals.iter().map(|refusal| refusal.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "/a: line 2 is longer than 1 MiB, which systemd refuses",
            "/b: line 1 starts like a section but is none, which systemd refuses"
        ]
    );
}

#[test]
fn taking_a_directive_leaves_the_others() {
    let facts = facts();
    let ctx = VendorContext {
        runtime_root: "r",
        run_dir: "/run/r",
        program_given: false,
        pod_identity: false,
        specifiers: &facts,
    };
    let text =
        "[Service]\nExecStart=/bin/x\nLimitNOFILE=1\nMemoryMax=1G\nEnvironment=A=1\nEnvironment=B=2\n".to_owned();
    let unit = VendorUnit { name: "x.service".to_owned(), fragments: vec![Fragment { path: "/a".to_owned(), text }] };
    let mut service = adopt(&unit, &ctx).unwrap();
    let taken: Vec<String> = service.take("Environment").iter().map(ToString::to_string).collect();
    assert_eq!(taken, ["Environment=A=1", "Environment=B=2"]);
    let left: Vec<String> = service.directives.iter().map(ToString::to_string).collect();
    assert_eq!(left, ["LimitNOFILE=1", "MemoryMax=1G"]);
}
