//! Command lines, split by us and by the systemd of this machine: `systemd-analyze verify` prints what it read when it
//! logs at debug level. Without one there is nothing to compare with.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::disallowed_methods, reason = "runs systemd's own tool, which needs no running systemd")]
#![expect(clippy::disallowed_types, reason = "runs systemd's own tool, which needs no running systemd")]

use std::fs;
use std::path::Path;
use std::process::Command;

use plan::vendor::{Fragment, SpecifierFacts, VendorContext, VendorUnit, adopt};
use proptest::prelude::*;

const NAME: &str = "a-b@c-d\\x20e.service";

/// The command lines that systemd reads; empty where it refuses the unit. None: there is no systemd here.
fn by_systemd(test: &str, text: &str) -> Option<Vec<Vec<String>>> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(NAME);
    fs::write(&path, text).unwrap();
    let output = Command::new("systemd-analyze")
        .env("SYSTEMD_LOG_LEVEL", "debug")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(&path)
        .output();
    let printed = String::from_utf8_lossy(&output.ok()?.stdout).into_owned();
    let own = printed.split("-> Unit ").find(|unit| unit.starts_with(NAME)).unwrap_or_default();
    Some(own.lines().filter_map(|line| line.trim_start().strip_prefix("Command Line: ")).map(unquoted).collect())
}

/// Undoes systemd's `quote_command_line()`.
fn unquoted(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.chars().peekable();
    while let Some(first) = rest.next() {
        let mut word = String::new();
        if first == '"' {
            while let Some(character) = rest.next().filter(|character| *character != '"') {
                word.push(match (character, rest.peek()) {
                    ('\\', Some('t')) => rest.next().map(|_| '\t').unwrap(),
                    ('\\', Some('n')) => rest.next().map(|_| '\n').unwrap(),
                    ('\\', Some(_)) => rest.next().unwrap(),
                    _ => character,
                });
            }
        } else {
            word.push(first);
            while let Some(character) = rest.next_if(|character| *character != ' ') {
                word.push(character);
            }
        }
        rest.next_if_eq(&' ');
        words.push(word);
    }
    words
}

/// The same, by us. None: we refuse bytes that are no UTF-8, which systemd takes.
fn by_us(text: &str) -> Option<Vec<Vec<String>>> {
    let facts = SpecifierFacts::default();
    let ctx = VendorContext {
        runtime_root: "r",
        run_dir: "/run/r",
        program_given: false,
        pod_identity: false,
        specifiers: &facts,
    };
    let fragments = vec![Fragment { path: "/x".to_owned(), text: text.to_owned() }];
    match adopt(&VendorUnit { name: NAME.to_owned(), fragments }, &ctx) {
        Ok(service) => Some(
            service
                .lines
                .into_iter()
                .map(|line| {
                    let mut argv = line.line.argv;
                    if let Some(arg0) = line.line.arg0 {
                        argv[0] = arg0;
                    }
                    argv
                })
                .collect(),
        ),
        Err(refusals) => (!refusals.iter().any(|refusal| refusal.text.contains("no UTF-8"))).then(Vec::new),
    }
}

fn unit(line: &str) -> String {
    format!("[Service]\nType=oneshot\nExecStart={line}\n")
}

#[test]
fn lines_by_hand() {
    for line in [
        r#"/bin/echo one 'two two' "three  three" a\x20b a\qb \u00e4 \101 a"b c"d '' \; ';' "\;" $X ${Y} %i %I %n %p %P %f %% 5%"#,
        "/bin/echo a \\\n# comment\n   b \\\n; c\n \\\n d",
        "/bin/echo one ; /bin/echo two ;",
        "; /bin/echo one ;; x",
        r#"-@/bin/echo name "x\ty" \t \s"#,
        "!!:/bin/echo $X",
        "echo bare",
        "bin/echo relative",
        "-bin/echo relative",
        "/bin/",
        "\"/bin/echo\" x",
        "/bin/echo 'a",
        "-/bin/echo 'a",
        "/bin/echo a\\",
        "/bin/echo %Z",
        "/bin/echo %-x 5%;",
        "@/bin/echo",
        "--/bin/echo",
        "+!/bin/echo",
        "//bin//echo x",
        "/bin/echo \\\\; \\;; ;x ;",
    ] {
        let Some(theirs) = by_systemd("vendor_exec_hand", &unit(line)) else { return };
        assert_eq!(by_us(&unit(line)), Some(theirs), "{line}");
    }
}

// No letter here is a C escape or a fact of this machine.
proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn lines_at_random(parts in prop::collection::vec(prop::sample::select(vec![
        " ", " ", " ", "k", "k c", "\"", "'", "\\", "\\\\", "\\x41", "\\x20", "\\101", "\\u00e9", "\\s", "\\t", ";", " ; ",
        "\\;", "$X", "${Y}", "%i", "%I", "%%", "%n", "%x", "%", "@", "-", "+", "!", ":", "\t", "é", "\\\n", "#", "=", "/",
        " ; /bin/true ", "\\q", "x",
    ]), 0..14)) {
        let text = unit(&format!("/bin/echo {}", parts.concat()));
        if let (Some(theirs), Some(ours)) = (by_systemd("vendor_exec_random", &text), by_us(&text)) {
            prop_assert_eq!(ours, theirs, "{}", text);
        }
    }
}
