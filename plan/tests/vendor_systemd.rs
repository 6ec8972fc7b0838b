//! The table and what is rendered, held against the systemd of this machine. Without one there is nothing to compare with.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::disallowed_methods, reason = "runs systemd's own tools, which need no running systemd")]
#![expect(clippy::disallowed_types, reason = "runs systemd's own tools, which need no running systemd")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use plan::vendor::directives::{Class, rule, rules};
use plan::vendor::{Fragment, Section, SpecifierFacts, VendorContext, VendorUnit, adopt};

#[test]
fn the_table_names_each_directive_once() {
    let mut names: Vec<_> = rules().map(|rule| (rule.section, rule.name)).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for rule in rules() {
        match rule.class() {
            Class::Kept => {}
            Class::Rewritten(why) | Class::Dropped(why) | Class::Refused(why) => {
                assert!(!why.is_empty() && !why.ends_with('.'));
            }
        }
    }
}

#[test]
fn the_table_has_what_this_systemd_knows() {
    let Ok(output) = Command::new("/lib/systemd/systemd").arg("--dump-configuration-items").output() else { return };
    let mut section = None;
    let mut missing = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = Section::parse(name);
        } else if let (Some(section), Some((name, _))) = (section, line.split_once('='))
            && rule(section, name).is_none()
        {
            missing.push(format!("[{section}] {name}"));
        }
    }
    assert!(missing.is_empty(), "not in the table: {missing:?}");
}

/// What systemd says about the rendered directives of a case, without the machine's own lack of programs and units.
fn complaints(case: &Path, directory: &Path) -> Option<String> {
    let main = fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path());
    let main = main.into_iter().find(|path| path.is_file() && path.extension().is_some_and(|e| e == "service"))?;
    let text = String::from_utf8_lossy(&fs::read(&main).unwrap()).into_owned();
    let name = main.file_name().unwrap().to_str().unwrap().to_owned();
    let unit = VendorUnit { name, fragments: vec![Fragment { path: "/lib/systemd/system/x".to_owned(), text }] };
    let facts = SpecifierFacts::default();
    let ctx = VendorContext {
        runtime_root: "systemk/pods/uid/c/0/run",
        run_dir: "/run/systemk/pods/uid/c/0/run",
        program_given: false,
        pod_identity: fs::read_to_string(case.join("context")).unwrap_or_default().contains("pod-identity"),
        specifiers: &facts,
    };
    let service = adopt(&unit, &ctx).ok()?;
    let mut rendered = format!("[Service]\nType={}\n", service.service_type);
    for line in &service.lines {
        writeln!(rendered, "{}={}/bin/true {}", line.directive, line.prefix, line.key).unwrap();
    }
    for directive in &service.directives {
        writeln!(rendered, "[{}]\n{directive}", directive.section).unwrap();
    }
    let path = directory.join(format!("{}.service", case.file_name().unwrap().to_str().unwrap()));
    fs::write(&path, rendered).unwrap();
    let output =
        Command::new("systemd-analyze").args(["verify", "--man=no", "--recursive-errors=no"]).arg(&path).output();
    let said = String::from_utf8_lossy(&output.ok()?.stderr).into_owned();
    let ours = said.lines().filter(|line| line.starts_with(path.to_str().unwrap()));
    // The vendor's own: a unit may be newer or older than this systemd, and the case `unknown` means it.
    let lines: Vec<&str> = ours.filter(|line| !line.contains("Unknown key 'NewThing'")).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[test]
fn systemd_reads_what_is_rendered() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vendor_cases");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vendor_systemd");
    fs::create_dir_all(&directory).unwrap();
    let wrong: Vec<String> =
        fs::read_dir(cases).unwrap().filter_map(|entry| complaints(&entry.unwrap().path(), &directory)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
