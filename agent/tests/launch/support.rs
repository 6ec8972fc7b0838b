//! One container's files, and init started on them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use plan::launch::{Capability, Failure, Identity, InheritEnv, LAUNCH_VERSION, Launch, Line, MAIN_LINE};
use tempfile::TempDir;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_systemk");

/// One container's files. Dropped with the test.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) launch: Launch,
}

impl Bench {
    /// None, said aloud, where the test cannot run.
    pub(crate) fn new(argv: &[&str]) -> Option<Self> {
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

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A file that may be executed.
    pub(crate) fn program(&self, name: &str, content: &[u8]) -> String {
        fs::write(self.path(name), content).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        self.text(name)
    }

    pub(crate) fn stdin(&self) -> File {
        fs::write(self.path("launch.json"), serde_json::to_vec(&self.launch).unwrap()).unwrap();
        File::open(self.path("launch.json")).unwrap()
    }

    pub(crate) fn command(&self, key: &str) -> Command {
        let mut command = Command::new(BINARY);
        command.args(["init", key]).stdin(self.stdin()).current_dir("/");
        command
    }

    pub(crate) fn run(&self) -> Output {
        self.command(MAIN_LINE).output().unwrap()
    }

    /// Standard output of a program that must end well.
    pub(crate) fn stdout(&self) -> String {
        let output = self.run();
        assert!(output.status.success(), "{output:?} {:?}", fs::read_to_string(self.path("failure")));
        assert_eq!(fs::read(self.path("failure")).unwrap(), b"", "a failure was written");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The failure of a program that must not start.
    pub(crate) fn failure(&self) -> Failure {
        let output = self.run();
        let failure: Failure = serde_json::from_slice(&fs::read(self.path("failure")).unwrap()).unwrap();
        assert_eq!(output.status.code(), Some(failure.exit_code), "{output:?}");
        assert_eq!(failure.line, MAIN_LINE);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr, format!("systemk init: start.0: {}\n", failure.message));
        failure
    }

    pub(crate) fn status(&mut self) -> Status {
        self.launch.lines.insert(MAIN_LINE.to_owned(), line(&["cat", "/proc/self/status"]));
        Status(self.stdout())
    }
}

/// `/proc/self/status` of the program.
pub(crate) struct Status(pub(crate) String);

impl Status {
    pub(crate) fn field(&self, name: &str) -> String {
        let line = self.0.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn mask(&self, name: &str) -> u64 {
        u64::from_str_radix(&self.field(name), 16).unwrap()
    }
}

pub(crate) fn own_status() -> Status {
    Status(fs::read_to_string("/proc/self/status").unwrap())
}

pub(crate) fn line(argv: &[&str]) -> Line {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    Line { argv, arg0: None, expand: false, full_privileges: false }
}

pub(crate) fn identity(uid: u32, gid: u32, groups: &[u32]) -> Option<Identity> {
    Some(Identity { uid, gid, groups: groups.to_vec() })
}

pub(crate) fn capabilities(names: &[&str]) -> Option<Vec<Capability>> {
    Some(names.iter().map(|name| Capability::parse(name).unwrap()).collect())
}

pub(crate) fn bits(names: &[&str]) -> u64 {
    names.iter().map(|name| 1 << Capability::parse(name).unwrap().number()).sum()
}
