//! `systemk init` and `systemk exit-hook` as systemd would start them, without systemd. Needs root.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use plan::launch::exit::{ExitRecord, Outcome};
use plan::launch::{Capability, EnvVar, Failure, Identity, InheritEnv, LAUNCH_VERSION, Launch, Line, MAIN_LINE};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_systemk");

/// One container's files. Dropped with the test.
struct Bench {
    dir: TempDir,
    launch: Launch,
}

impl Bench {
    /// None, said aloud, where the test cannot run.
    fn new(argv: &[&str]) -> Option<Self> {
        if !rustix::process::getuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let failure_file = dir.path().join("failure");
        fs::write(&failure_file, "").unwrap();
        let launch = Launch {
            version: LAUNCH_VERSION,
            lines: BTreeMap::from([(MAIN_LINE.to_owned(), line(argv))]),
            env: Vec::new(),
            inherit: InheritEnv::Only(vec!["PATH".to_owned()]),
            cwd: None,
            identity: None,
            chown: Vec::new(),
            capabilities: None,
            no_new_privileges: false,
            failure_file: failure_file.to_str().unwrap().to_owned(),
        };
        Some(Self { dir, launch })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A file that may be executed.
    fn program(&self, name: &str, content: &[u8]) -> String {
        fs::write(self.path(name), content).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        self.text(name)
    }

    fn stdin(&self) -> File {
        fs::write(self.path("launch.json"), serde_json::to_vec(&self.launch).unwrap()).unwrap();
        File::open(self.path("launch.json")).unwrap()
    }

    fn command(&self, key: &str) -> Command {
        let mut command = Command::new(BINARY);
        command.args(["init", key]).stdin(self.stdin()).current_dir("/");
        command
    }

    fn run(&self) -> Output {
        self.command(MAIN_LINE).output().unwrap()
    }

    /// Standard output of a program that must end well.
    fn stdout(&self) -> String {
        let output = self.run();
        assert!(output.status.success(), "{output:?} {:?}", fs::read_to_string(self.path("failure")));
        assert_eq!(fs::read(self.path("failure")).unwrap(), b"", "a failure was written");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The failure of a program that must not start.
    fn failure(&self) -> Failure {
        let output = self.run();
        let failure: Failure = serde_json::from_slice(&fs::read(self.path("failure")).unwrap()).unwrap();
        assert_eq!(output.status.code(), Some(failure.exit_code), "{output:?}");
        assert_eq!(failure.line, MAIN_LINE);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr, format!("systemk init: start.0: {}\n", failure.message));
        failure
    }

    fn status(&mut self) -> Status {
        self.launch.lines.insert(MAIN_LINE.to_owned(), line(&["cat", "/proc/self/status"]));
        Status(self.stdout())
    }
}

/// `/proc/self/status` of the program.
struct Status(String);

impl Status {
    fn field(&self, name: &str) -> String {
        let line = self.0.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn mask(&self, name: &str) -> u64 {
        u64::from_str_radix(&self.field(name), 16).unwrap()
    }
}

fn own_status() -> Status {
    Status(fs::read_to_string("/proc/self/status").unwrap())
}

fn line(argv: &[&str]) -> Line {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    Line { argv, arg0: None, expand: false, full_privileges: false }
}

fn identity(uid: u32, gid: u32, groups: &[u32]) -> Option<Identity> {
    Some(Identity { uid, gid, groups: groups.to_vec() })
}

fn capabilities(names: &[&str]) -> Option<Vec<Capability>> {
    Some(names.iter().map(|name| Capability::parse(name).unwrap()).collect())
}

fn bits(names: &[&str]) -> u64 {
    names.iter().map(|name| 1 << Capability::parse(name).unwrap().number()).sum()
}

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

#[test]
fn identity_is_exact_and_without_capabilities() {
    let Some(mut bench) = Bench::new(&[]) else { return };
    bench.launch.identity = identity(54_321, 65_432, &[7, 100_000]);
    for listed in [None, capabilities(&["CHOWN", "NET_BIND_SERVICE"])] {
        bench.launch.capabilities = listed;
        let status = bench.status();
        assert_eq!(status.field("Uid"), "54321 54321 54321 54321");
        assert_eq!(status.field("Gid"), "65432 65432 65432 65432");
        assert_eq!(status.field("Groups"), "7 100000");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status.mask(set), 0, "{set}");
        }
        assert_eq!(status.field("NoNewPrivs"), "0");
    }
    bench.launch.identity = identity(i32::MAX as u32, i32::MAX as u32, &[]);
    let status = bench.status();
    assert_eq!(status.field("Uid").split(' ').next(), Some("2147483647"));
    assert_eq!(status.field("Groups"), "", "root's own groups are gone");
}

#[test]
fn root_keeps_only_the_listed_capabilities() {
    let Some(mut bench) = Bench::new(&[]) else { return };
    let names = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let here = own_status().mask("CapBnd");
    for root in [None, identity(0, 0, &[])] {
        bench.launch.identity = root;
        for (listed, expected) in [(&names[..], bits(&names) & here), (&[], 0)] {
            bench.launch.capabilities = capabilities(listed);
            bench.launch.no_new_privileges = !bench.launch.no_new_privileges;
            let status = bench.status();
            for set in ["CapBnd", "CapPrm", "CapEff"] {
                assert_eq!(status.mask(set), expected, "{set}");
            }
            assert_eq!((status.mask("CapInh"), status.mask("CapAmb")), (0, 0));
            assert_eq!(status.field("NoNewPrivs"), u8::from(bench.launch.no_new_privileges).to_string());
        }
    }
    bench.launch.capabilities = None;
    assert_eq!(bench.status().mask("CapEff"), own_status().mask("CapEff"), "None leaves them alone");
}

#[test]
fn an_identity_that_systemd_made_keeps_its_ambient_capabilities_as_far_as_listed() {
    let Some(mut bench) = Bench::new(&["cat", "/proc/self/status"]) else { return };
    bench.launch.capabilities = capabilities(&["NET_BIND_SERVICE"]);
    let run = |ambient: &str| {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--reuid=1000", "--regid=1000", "--clear-groups"]);
        setpriv.args([format!("--inh-caps={ambient}"), format!("--ambient-caps={ambient}")]);
        let output = setpriv.args([BINARY, "init", MAIN_LINE]).stdin(bench.stdin()).output().unwrap();
        (output.status.code(), Status(String::from_utf8(output.stdout).unwrap()))
    };
    let (_, status) = run("+chown,+net_bind_service,+setpcap");
    for set in ["CapBnd", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status.mask(set), bits(&["NET_BIND_SERVICE"]), "{set}");
    }
    let (code, _) = run("+chown,+net_bind_service");
    assert_eq!(code, Some(128), "a bounding set that cannot be lowered is a failure");
}

#[test]
fn full_privileges_skip_what_would_take_any_away() {
    let Some(mut bench) = Bench::new(&[]) else { return };
    bench.launch.identity = identity(1000, 1000, &[]);
    bench.launch.capabilities = capabilities(&[]);
    bench.launch.no_new_privileges = true;
    let mut line = line(&["cat", "/proc/self/status"]);
    line.full_privileges = true;
    bench.launch.lines.insert(MAIN_LINE.to_owned(), line);
    let status = Status(bench.stdout());
    assert_eq!(status.field("Uid"), "0 0 0 0");
    assert_eq!(status.field("NoNewPrivs"), "0");
    assert_eq!(status.mask("CapEff"), own_status().mask("CapEff"));
}

#[test]
fn signals_are_as_the_unit_left_them() {
    const SIGPIPE: u64 = 1 << 12;
    let Some(mut bench) = Bench::new(&[]) else { return };
    let status = bench.status();
    // Not the two above 31 that glibc keeps for itself and its posix_spawn leaves ignored.
    let ignored = |status: &Status| status.mask("SigIgn") & 0x7fff_ffff;
    let others = ignored(&own_status()) & !SIGPIPE;
    assert_eq!((ignored(&status), status.mask("SigBlk")), (others, 0), "Rust's ignored SIGPIPE leaked");
    bench.stdin();
    let script = format!("trap '' PIPE; exec {BINARY} init start.0 <{}", bench.text("launch.json"));
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let status = Status(String::from_utf8(output.stdout).unwrap());
    assert_eq!(ignored(&status), others | SIGPIPE, "IgnoreSIGPIPE=yes");
}

#[test]
fn the_working_directory_is_made_and_owned() {
    let Some(mut bench) = Bench::new(&["pwd"]) else { return };
    let (made, top) = (bench.path("made/below"), bench.path("made"));
    bench.launch.identity = identity(1234, 5678, &[]);
    bench.launch.cwd = Some(format!("{}//made/./below/", bench.text("")));
    let script = format!("umask 0777; exec {BINARY} init start.0 <{}", bench.text("launch.json"));
    bench.stdin();
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), made.to_str().unwrap());
    for dir in [&made, &top] {
        let metadata = fs::metadata(dir).unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1234, 5678, 0o755));
    }
    assert_eq!(fs::metadata(bench.dir.path()).unwrap().uid(), 0, "what was there keeps its owner");
}

#[test]
fn a_working_directory_that_only_root_may_search_still_works() {
    let Some(mut bench) = Bench::new(&["sh", "-c", "readlink /proc/$$/cwd"]) else { return };
    fs::create_dir(bench.path("closed")).unwrap();
    fs::set_permissions(bench.path("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    bench.launch.identity = identity(1234, 5678, &[]);
    bench.launch.cwd = Some(bench.text("closed"));
    let output = bench.run();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_working_directory_that_root_may_not_search_is_entered_as_the_identity() {
    let Some(mut bench) = Bench::new(&["sh", "-c", "echo started"]) else { return };
    fs::create_dir_all(bench.path("theirs/inner")).unwrap();
    std::os::unix::fs::chown(bench.path("theirs"), Some(1234), Some(5678)).unwrap();
    fs::set_permissions(bench.path("theirs"), fs::Permissions::from_mode(0o700)).unwrap();
    bench.launch.cwd = Some(bench.text("theirs/inner"));
    // As on NFS with root_squash: root is nobody special.
    let run = |bench: &Bench| {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--bounding-set=-dac_override,-dac_read_search", BINARY, "init", MAIN_LINE]);
        setpriv.stdin(bench.stdin()).output().unwrap()
    };
    assert_eq!(run(&bench).status.code(), Some(128));
    let failure = fs::read_to_string(bench.path("failure")).unwrap();
    assert!(failure.contains("permission denied"), "{failure}");
    bench.launch.identity = identity(1234, 5678, &[]);
    assert_eq!(run(&bench).stdout, b"started\n");
    bench.launch.identity = identity(999, 999, &[]);
    assert_eq!(run(&bench).status.code(), Some(128));
}

#[test]
fn directories_are_given_away_but_never_what_a_symlink_names() {
    let Some(mut bench) = Bench::new(&["true"]) else { return };
    fs::create_dir_all(bench.path("own/inner")).unwrap();
    fs::create_dir(bench.path("other")).unwrap();
    symlink(bench.path("other"), bench.path("link")).unwrap();
    symlink(bench.dir.path(), bench.path("up")).unwrap();
    bench.launch.identity = identity(1234, 5678, &[]);
    bench.launch.chown = vec![bench.text("own")];
    bench.stdout();
    let own = fs::metadata(bench.path("own")).unwrap();
    assert_eq!((own.uid(), own.gid()), (1234, 5678));
    assert_eq!(fs::metadata(bench.path("own/inner")).unwrap().uid(), 0, "only the directory itself");
    for planted in ["link", "up/other", "failure"] {
        bench.launch.chown = vec![bench.text(planted)];
        assert_eq!(bench.failure().step, "chown", "{planted}");
    }
    assert_eq!(fs::metadata(bench.path("other")).unwrap().uid(), 0);
    assert_eq!(fs::metadata(bench.path("failure")).unwrap().uid(), 0);
}

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
