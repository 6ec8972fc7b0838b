//! The peer: Debian's podman with crun, `podman kube play` of the same pod.
//!
//! In mount, pid and cgroup namespaces of its own and, where the machine has cgroup v1, with a view of v1 alone, as that
//! crun refuses a hybrid. The view is a fresh tmpfs with own children of each hierarchy: the machine's mounts stay as they
//! are. It is on the machine's network, where its program reports its start; the pod asks for the host's network, so podman
//! sets none up.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use e2e::sandbox::Systemd;
use e2e::{cache, command, rootfs};
use tempfile::TempDir;

use super::manifests;
use super::node::LONG;
use super::started::{Started, now};

const IMAGE: &str = "localhost/systemk-bench:latest";

/// Reads commands, one a line, and says when each is done. Arguments: the state directory, a name for its cgroups.
const SHELL: &str = include_str!("podman.sh");

/// A prepared podman. What it has is removed on drop.
pub(super) struct Podman {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    state: TempDir,
    group: String,
}

impl Podman {
    /// Installs podman where it is missing, makes the image and plays the pod once.
    pub(super) fn start(started: &Started) -> Result<Self> {
        for (program, package) in
            [("podman", "podman"), ("crun", "crun"), ("/usr/libexec/podman/catatonit", "catatonit")]
        {
            command::require(program, package)?;
        }
        // On a disk, where overlay works, and not deep: podman's sockets have short names.
        let state = tempfile::tempdir_in(cache::directory()?).context("make podman's directory")?;
        let group = format!("systemk-bench-{}", std::process::id());
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", SHELL, "podman"]);
        shell.arg(state.path()).arg(&group).stdin(Stdio::piped()).stdout(Stdio::piped());
        let log = fs::File::create(state.path().join("log")).context("make podman's log")?;
        let mut child = shell.stderr(log).spawn().context("start podman's namespaces")?;
        let stdin = child.stdin.take().context("take its stdin")?;
        let stdout = BufReader::new(child.stdout.take().context("take its stdout")?);
        let mut podman = Self { child, stdin, stdout, state, group };
        fs::write(podman.state.path().join("pod.yaml"), manifests::image("peer", IMAGE, &started.script("podman-")?))
            .context("write podman's manifest")?;
        let root = rootfs::directory(Systemd::V252.release())?;
        podman.run(&format!("image {}", root.display()))?;
        let [_, keys] = manifests::OBJECTS;
        fs::write(podman.state.path().join("keys.yaml"), keys).context("write podman's secret")?;
        podman.run("secret keys keys.yaml")?;
        // The first one makes the image of the pause container.
        podman.round(started)?;
        Ok(podman)
    }

    /// Plays the pod and takes it away: milliseconds to the start of its program, and to the command's end, when it runs.
    pub(super) fn round(&mut self, started: &Started) -> Result<(f64, f64)> {
        let (begun, clock) = (Instant::now(), now());
        self.run("play pod.yaml")?;
        let running = begun.elapsed().as_secs_f64() * 1000.0;
        let start = (started.wait("podman-", 1, LONG)? - clock) * 1000.0;
        self.run("down pod.yaml")?;
        Ok((start, running))
    }

    /// Plays `count` pods with volumes from one manifest and takes them away: seconds until all run, and until all are gone.
    pub(super) fn many(&mut self, started: &Started, count: usize) -> Result<(f64, f64)> {
        let script = started.script("podmen-")?;
        let pods: Vec<_> =
            (0..count).map(|n| manifests::image_with_volumes(&format!("peer{n}"), IMAGE, &script)).collect();
        let [settings, _] = manifests::OBJECTS;
        let text = format!("{settings}---\n{}", pods.join("---\n"));
        fs::write(self.state.path().join("many.yaml"), text).context("write podman's manifests")?;
        let begun = Instant::now();
        self.run("play many.yaml")?;
        let running = begun.elapsed().as_secs_f64();
        started.wait("podmen-", count, LONG)?;
        let begun = Instant::now();
        self.run("down many.yaml")?;
        Ok((running, begun.elapsed().as_secs_f64()))
    }

    fn run(&mut self, line: &str) -> Result<()> {
        writeln!(self.stdin, "{line}").context("ask podman")?;
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).context("hear from podman")?;
        if answer.trim() != "done 0" {
            let log = fs::read_to_string(self.state.path().join("log")).unwrap_or_default();
            bail!("podman {line} failed: {}", command::tail(&log, 3).replace('\n', " "));
        }
        Ok(())
    }

    /// Versions, the cgroups it sees and its storage, for the page.
    pub(super) fn describe() -> String {
        let version = |program: &str| {
            let text = command::run(Command::new(program).arg("--version")).unwrap_or_default();
            text.lines().next().unwrap_or("missing").to_owned()
        };
        let view = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "cgroup v2" } else { "cgroup v1 view" };
        format!("{}, {}, {view}, cgroupfs manager, overlay storage", version("podman"), version("crun"))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // The namespace's process 1 takes all others along.
        self.child.kill().ok();
        self.child.wait().ok();
        // Its cgroups are empty now, and nobody else's.
        let remove = r#"for d in /sys/fs/cgroup/*/"$1" /sys/fs/cgroup/*/*/*/"$1" /sys/fs/cgroup/"$1"; do
            [ -d "$d" ] && find "$d" -depth -type d -exec rmdir {} \; ; done; true"#;
        if let Err(error) = command::run(Command::new("sh").args(["-c", remove, "remove", &self.group])) {
            e2e::progress::line(&format!("podman's cgroups {} were not removed: {error:#}", self.group));
        }
    }
}
