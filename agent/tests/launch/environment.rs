//! What the program gets: environment, path, standard input, the Launch itself.

use std::fs;
use std::io::{Seek, SeekFrom};
use std::process::{Command, Stdio};

use plan::launch::{EnvVar, InheritEnv, Line, MAIN_LINE};

use super::support::*;

#[test]
fn the_program_has_inits_pid_and_its_own_exit_code() {
    let Some(bench) = Bench::new(&["sh", "-c", "echo $$; exit 42"]) else { return };
    let child = bench.command(MAIN_LINE).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(42));
    assert_eq!(output.stdout, format!("{pid}\n").as_bytes());
}

#[test]
fn the_environment_is_exactly_what_was_asked_for() {
    let Some(mut bench) = Bench::new(&["/usr/bin/env", "-0"]) else { return };
    bench.launch.inherit = InheritEnv::Only(vec!["KEPT".to_owned(), "OVER".to_owned(), "ABSENT".to_owned()]);
    bench.launch.env = vec![
        EnvVar::new("my.env-name", "a b"),
        EnvVar::new("1A", "line\nline"),
        EnvVar::new("UTF", "Grüße 🦀"),
        EnvVar::new("OVER", "first"),
        EnvVar::new("OVER", "pod"),
        EnvVar::new("RAW", "$KEPT ${KEPT} %n \\ \""),
        EnvVar::new("EMPTY", ""),
    ];
    let env = |bench: &Bench| {
        let mut command = bench.command(MAIN_LINE);
        command.env_clear().envs([("KEPT", "unit"), ("OVER", "unit"), ("DROPPED", "unit")]);
        let output = command.output().unwrap();
        let mut env: Vec<String> =
            String::from_utf8(output.stdout).unwrap().split_terminator('\0').map(str::to_owned).collect();
        env.sort();
        env
    };
    let mut expected = vec![
        "1A=line\nline",
        "EMPTY=",
        "KEPT=unit",
        "OVER=pod",
        "RAW=$KEPT ${KEPT} %n \\ \"",
        "UTF=Grüße 🦀",
        "my.env-name=a b",
    ];
    assert_eq!(env(&bench), expected);
    bench.launch.inherit = InheritEnv::All;
    expected.insert(1, "DROPPED=unit");
    assert_eq!(env(&bench), expected);
}

#[test]
fn the_search_uses_the_final_path() {
    let Some(mut bench) = Bench::new(&["tool"]) else { return };
    bench.program("tool", b"#!/bin/sh\necho found\n");
    fs::create_dir_all(bench.path("first/tool")).unwrap();
    bench.launch.env.push(EnvVar::new("PATH", format!("/nowhere::{}:{}", bench.text("first"), bench.text(""))));
    assert_eq!(bench.stdout(), "found\n");
    bench.launch.env.clear();
    bench.launch.inherit = InheritEnv::Only(Vec::new());
    bench.launch.lines.insert(MAIN_LINE.to_owned(), line(&["true"]));
    assert_eq!(bench.stdout(), "", "the default PATH");
}

#[test]
fn arg0_and_expansion() {
    let Some(mut bench) = Bench::new(&[]) else { return };
    bench.launch.env.push(EnvVar::new("OPTS", "a 'b c'"));
    let argv = ["sh", "-c", r#"printf '%s|' "$0" "$@""#, "$OPTS", "${OPTS}", "$$"].map(str::to_owned);
    let mut line = Line { argv: argv.to_vec(), arg0: Some("-sh".to_owned()), expand: true, full_privileges: false };
    bench.launch.lines.insert(MAIN_LINE.to_owned(), line.clone());
    assert_eq!(bench.stdout(), "a|b c|a 'b c'|$|");
    line.argv = ["sh", "-c", "cat /proc/$$/cmdline"].map(str::to_owned).to_vec();
    line.expand = false;
    bench.launch.lines.insert(MAIN_LINE.to_owned(), line);
    assert!(bench.stdout().starts_with("-sh\0-c\0"));
}

#[test]
fn standard_input_is_dev_null_and_no_other_descriptor_is_left() {
    let Some(bench) = Bench::new(&["sh", "-c", "ls /proc/$$/fd; readlink /proc/$$/fd/0; wc -c"]) else { return };
    assert_eq!(bench.stdout(), "0\n1\n2\n/dev/null\n0\n");
    let launch = bench.text("launch.json");
    bench.stdin();
    let script = format!("exec 7</ 8<{launch}; exec {BINARY} init start.0 <{launch}");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "0\n1\n2\n/dev/null\n0\n");
}

#[test]
fn the_launch_is_read_from_its_beginning() {
    let Some(bench) = Bench::new(&["echo", "read"]) else { return };
    let mut stdin = bench.stdin();
    stdin.seek(SeekFrom::End(0)).unwrap();
    assert_eq!(bench.command(MAIN_LINE).stdin(stdin).output().unwrap().stdout, b"read\n");
}
