//! What cannot start, and what is left of it.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use plan::launch::exit::{ExitRecord, Outcome};
use plan::launch::{EnvVar, Failure, LAUNCH_VERSION, MAIN_LINE};

use super::support::*;

#[test]
fn a_program_that_is_not_there() {
    let Some(mut bench) = Bench::new(&["no-such-program"]) else { return };
    let failure = bench.failure();
    assert_eq!((failure.step.as_str(), failure.errno, failure.exit_code), ("exec", 2, 127));
    assert_eq!(failure.message, r#"exec: "no-such-program": executable file not found in $PATH"#);
    let missing = bench.text("missing");
    bench.launch.lines.insert(MAIN_LINE.to_owned(), line(&[&missing]));
    let failure = bench.failure();
    assert_eq!((failure.message, failure.exit_code), (format!("exec {missing:?}: no such file or directory"), 127));
}

#[test]
fn a_program_that_cannot_be_executed() {
    let Some(mut bench) = Bench::new(&[]) else { return };
    fs::write(bench.path("data"), "#!/bin/sh\n").unwrap();
    bench.program("text", b"echo no interpreter line\n");
    bench.program("empty", b"");
    let mut elf = fs::read("/bin/true").unwrap();
    let machine = if elf[18] == 0xb7 { 0x3e } else { 0xb7 };
    elf[18] = machine;
    bench.program("foreign", &elf);
    let format = "exec format error";
    let cases = [
        ("data", 13, "permission denied".to_owned()),
        ("", 13, "is a directory".to_owned()),
        ("text", 8, format!("{format} (it is neither an ELF program nor a script that begins with #!)")),
        ("empty", 8, format!("{format} (the file is empty)")),
        ("foreign", 8, format!("{format} (it is built for another architecture or damaged)")),
    ];
    for (name, errno, reason) in cases {
        let path = bench.text(name);
        bench.launch.lines.insert(MAIN_LINE.to_owned(), line(&[&path]));
        let failure = bench.failure();
        assert_eq!((failure.errno, failure.exit_code), (errno, 126), "{name}");
        assert_eq!(failure.message, format!("exec {path:?}: {reason}"));
    }
    bench.launch.lines.insert(MAIN_LINE.to_owned(), line(&["data"]));
    bench.launch.env.push(EnvVar::new("PATH", bench.text("")));
    let failure = bench.failure();
    assert!(failure.exit_code == 126 && failure.message.ends_with("permission denied"), "{}", failure.message);
}

#[test]
fn a_program_whose_interpreter_is_missing() {
    let Some(mut bench) = Bench::new(&[]) else { return };
    let elf = fs::read("/bin/true").unwrap();
    let at = elf.windows(5).position(|w| w == b"/lib6" || w == b"/lib/").unwrap();
    let mut broken = elf;
    broken[at..at + 5].copy_from_slice(b"/nope");
    bench.program("elf", &broken);
    bench.program("script", b"#! /bin/nope -e\n");
    for (name, interpreter) in [("elf", "\"/nope"), ("script", "\"/bin/nope\"")] {
        let path = bench.text(name);
        bench.launch.env = vec![EnvVar::new("PATH", bench.text(""))];
        for program in [path.as_str(), name] {
            bench.launch.lines.insert(MAIN_LINE.to_owned(), line(&[program]));
            let failure = bench.failure();
            assert_eq!((failure.errno, failure.exit_code), (2, 127), "{program}");
            let expected = "no such file or directory (its interpreter ";
            assert!(failure.message.contains(&format!("{expected}{interpreter}")), "{}", failure.message);
            assert!(failure.message.ends_with(" is missing)"));
        }
    }
}

#[test]
fn too_long_an_environment() {
    let Some(mut bench) = Bench::new(&["true"]) else { return };
    bench.launch.env = vec![EnvVar::new("BIG", "x".repeat(200_000))];
    let failure = bench.failure();
    assert_eq!((failure.errno, failure.exit_code), (7, 128));
    assert!(failure.message.contains("takes 200005 bytes, the limit is 131072"), "{}", failure.message);
    bench.launch.env = (0..70).map(|n| EnvVar::new(format!("N{n}"), "x".repeat(100_000))).collect();
    let failure = bench.failure();
    assert!(failure.message.contains("argument list too long: the environment and arguments take 70"), "{failure:?}");
}

#[test]
fn a_bad_working_directory() {
    let Some(mut bench) = Bench::new(&["true"]) else { return };
    symlink("/nowhere/at/all", bench.path("dangling")).unwrap();
    for (cwd, reason) in [
        (bench.text("failure"), "not a directory"),
        (bench.text("dangling"), "no such file or directory"),
        ("/proc/self/fd/0".to_owned(), ""),
        ("/proc/self/cwd".to_owned(), "too many levels of symbolic links"),
        ("/proc/self/root/tmp".to_owned(), "too many levels of symbolic links"),
        ("relative".to_owned(), "is not an absolute path"),
        ("/a\0b".to_owned(), ""),
    ] {
        bench.launch.cwd = Some(cwd.clone());
        let failure = bench.failure();
        assert_eq!((failure.step.as_str(), failure.exit_code), ("chdir", 128), "{cwd}");
        assert!(failure.message.ends_with(reason), "{}", failure.message);
    }
}

#[test]
fn ids_that_wrap_are_refused() {
    let Some(mut bench) = Bench::new(&["true"]) else { return };
    for id in [1 << 31, u32::MAX] {
        for wrong in [identity(id, 1, &[]), identity(1, id, &[]), identity(1, 1, &[id])] {
            bench.launch.identity = wrong;
            assert_eq!(bench.failure().step, "identity");
        }
    }
}

#[test]
fn a_launch_that_cannot_be_used() {
    let Some(mut bench) = Bench::new(&["true"]) else { return };
    let refused = |bench: &Bench, json: &[u8]| {
        fs::write(bench.path("other.json"), json).unwrap();
        let stdin = File::open(bench.path("other.json")).unwrap();
        let output = bench.command(MAIN_LINE).stdin(stdin).output().unwrap();
        assert_eq!(output.status.code(), Some(128));
        String::from_utf8(output.stderr).unwrap()
    };
    let whole = serde_json::to_vec(&bench.launch).unwrap();
    assert!(refused(&bench, &whole[..whole.len() - 1]).contains("ends too early"));
    assert!(refused(&bench, b"").contains("ends too early"));
    assert!(refused(&bench, b"{]").contains("is not JSON"));
    assert!(refused(&bench, b"{\"version\":1}").contains("is not a Launch"));
    let big = [&whole[..], &vec![b' '; 17 << 20]].concat();
    assert!(refused(&bench, &big).contains("the limit is 16777216"));
    for stdin in [Stdio::piped(), Stdio::null()] {
        let output = bench.command(MAIN_LINE).stdin(stdin).output().unwrap();
        assert_eq!(output.status.code(), Some(128));
    }
    assert_eq!(bench.command("stop.7").output().unwrap().status.code(), Some(128));
    let newer = format!(r#"{{"version":99,"shape":"new","failure_file":{:?}}}"#, bench.text("failure"));
    assert!(refused(&bench, newer.as_bytes()).contains("has version 99, this build of systemk reads 1"));
    bench.launch.version = LAUNCH_VERSION + 1;
    assert_eq!(bench.failure().step, "read-launch");
}

#[test]
fn usage() {
    let Some(bench) = Bench::new(&["true"]) else { return };
    for args in [&["init"][..], &["init", "a", "b"]] {
        let output = Command::new(BINARY).args(args).stdin(bench.stdin()).output().unwrap();
        assert_eq!(output.status.code(), Some(128));
    }
}

#[test]
fn the_failure_file_is_neither_followed_nor_made() {
    let Some(bench) = Bench::new(&["/nope"]) else { return };
    fs::remove_file(bench.path("failure")).unwrap();
    assert_eq!(bench.run().status.code(), Some(127));
    assert!(!bench.path("failure").exists());
    fs::write(bench.path("victim"), "untouched").unwrap();
    symlink(bench.path("victim"), bench.path("failure")).unwrap();
    assert_eq!(bench.run().status.code(), Some(127));
    assert_eq!(fs::read(bench.path("victim")).unwrap(), b"untouched");
    fs::remove_file(bench.path("failure")).unwrap();
    assert!(Command::new("mkfifo").arg(bench.path("failure")).status().unwrap().success());
    assert_eq!(bench.run().status.code(), Some(127), "a FIFO must not hang the start");
}

#[test]
fn the_failure_of_the_start_outlives_the_lines_that_follow_it() {
    let Some(mut bench) = Bench::new(&["/nope"]) else { return };
    bench.launch.lines.insert("stop-post.0".to_owned(), line(&["/other"]));
    bench.launch.lines.insert("stop-post.1".to_owned(), line(&["true"]));
    bench.launch.lines.insert("start-pre.0".to_owned(), line(&["/allowed-to-fail"]));
    for key in ["start-pre.0", MAIN_LINE, "stop-post.0", "stop-post.1"] {
        bench.command(key).output().unwrap();
    }
    let failure: Failure = serde_json::from_slice(&fs::read(bench.path("failure")).unwrap()).unwrap();
    assert_eq!(failure.line, MAIN_LINE);
}

#[test]
fn secrets_are_not_shown() {
    const SECRET: &str = "hunter2";
    let Some(mut bench) = Bench::new(&["/nope", SECRET]) else { return };
    bench.launch.env = vec![EnvVar::new("PASSWORD", SECRET), EnvVar::new("NUL", "")];
    let shown = |bench: &Bench| {
        let output = bench.run();
        let file = fs::read_to_string(bench.path("failure")).unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap() + &file
    };
    assert!(!shown(&bench).contains(SECRET));
    bench.launch.env[1].value = format!("{SECRET}\0");
    assert!(!shown(&bench).contains(SECRET));
}

#[test]
fn the_exit_hook_writes_one_private_record() {
    let Some(bench) = Bench::new(&[]) else { return };
    let hook = |dir: &Path| {
        let mut hook = Command::new(BINARY);
        hook.arg("exit-hook").arg(dir).env_clear();
        hook.envs([("SERVICE_RESULT", "signal"), ("EXIT_CODE", "killed"), ("EXIT_STATUS", "TERM")]);
        let output = hook.env("INVOCATION_ID", "0123456789abcdef").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "the hook must never fail the unit");
        String::from_utf8(output.stderr).unwrap()
    };
    // What a container could have planted, had it been able to.
    fs::write(bench.path("victim"), "untouched").unwrap();
    for name in ["exit.json", ".exit.json.new"] {
        symlink(bench.path("victim"), bench.path(name)).unwrap();
    }
    let before = std::time::SystemTime::now();
    assert_eq!(hook(bench.dir.path()), "");
    assert_eq!(fs::read(bench.path("victim")).unwrap(), b"untouched");
    let metadata = fs::symlink_metadata(bench.path("exit.json")).unwrap();
    assert_eq!((metadata.is_file(), metadata.mode() & 0o777), (true, 0o600));
    assert!(!bench.path(".exit.json.new").exists());
    let record: ExitRecord = serde_json::from_slice(&fs::read(bench.path("exit.json")).unwrap()).unwrap();
    assert_eq!((record.version, record.invocation.as_str(), record.result.as_str()), (1, "0123456789abcdef", "signal"));
    assert_eq!(record.outcome(), Outcome::Killed(15));
    assert_eq!((record.finished_at.len(), record.finished_at.ends_with('Z')), (27, true), "{}", record.finished_at);
    let age = before.elapsed().unwrap();
    assert!(age.as_secs() < 60);

    symlink(bench.dir.path(), bench.path("link")).unwrap();
    fs::remove_file(bench.path("exit.json")).unwrap();
    assert!(hook(&bench.path("link")).contains("exit-hook"));
    assert!(!bench.path("exit.json").exists(), "a symlinked directory is not followed");
    assert!(hook(&bench.path("missing")).contains("No such file"));
    fs::create_dir(bench.path("exit.json")).unwrap();
    assert!(hook(bench.dir.path()).contains("exit-hook"));
    let output = Command::new(BINARY).arg("exit-hook").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}
