//! Where the demo runs: a sandbox node, or the machine itself. Commands are shown as a person would type them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use e2e::progress;
use e2e::sandbox::{Sandbox, SandboxSpec, Systemd};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cargo;

/// The agent inside a sandbox.
const AGENT: &str = "/usr/local/bin/systemk";

/// What `systemk install` writes.
const SERVICE: &str = "/etc/systemd/system/systemk.service";

/// The directory of the demo's manifests inside a sandbox.
const HOME: &str = "/root";

pub(super) enum Place {
    /// A node in namespaces.
    Sandbox(Sandbox),
    /// The machine, with the directory where `systemk` is.
    Host(PathBuf),
}

impl Place {
    /// Boots a node that reaches the archive, with the manifests in root's home.
    pub(super) fn sandbox(systemd: Systemd, binary: PathBuf) -> Result<Self> {
        let sandbox = Sandbox::start(SandboxSpec::for_test(systemd, "demo").bind_ro(binary, AGENT))?;
        for entry in fs::read_dir(manifests()).context("list the demo's manifests")? {
            let entry = entry.context("list the demo's manifests")?;
            if entry.path().is_dir() {
                continue;
            }
            let text = fs::read(entry.path()).with_context(|| format!("read {}", entry.path().display()))?;
            sandbox.write_file(Path::new(HOME).join(entry.file_name()), text)?;
        }
        Ok(Self::Sandbox(sandbox))
    }

    /// Whether the machine itself can be the node.
    pub(super) fn check_host() -> Result<()> {
        let first = fs::read_to_string("/proc/1/comm").unwrap_or_default();
        if first.trim() != "systemd" || !Path::new("/run/systemd/system").exists() {
            bail!("process 1 of this machine is `{}`, not systemd: run the demo without --host", first.trim());
        }
        if Path::new(SERVICE).exists() {
            bail!("systemk is installed on this machine already: the demo would take its place");
        }
        Ok(())
    }

    /// The machine.
    pub(super) fn host(binary: &Path) -> Result<Self> {
        Ok(Self::Host(binary.parent().context("the agent's directory")?.to_owned()))
    }

    /// Shows a command and what it prints. A failure ends the demo.
    pub(super) fn shell(&self, script: &str) -> Result<()> {
        shown(self.command(script)?, script)
    }

    /// What a command prints, without showing it.
    pub(super) fn output(&self, script: &str) -> Result<String> {
        let output = self.command(script)?.stdin(Stdio::null()).output().context("start the command")?;
        if !output.status.success() {
            bail!("`{script}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Removes all that the demo made.
    pub(super) fn remove(self) -> Result<()> {
        match self {
            Self::Sandbox(sandbox) => {
                progress::line("\nremoving the node");
                sandbox.stop()
            }
            Self::Host(directory) => {
                progress::line("\nthe package uptimed stays installed: packages are never removed");
                // The demo ends with it, unless it was cut short.
                if ![SERVICE, "/run/systemk", "/var/lib/systemk"].iter().any(|path| Path::new(path).exists()) {
                    return Ok(());
                }
                let status = Command::new(directory.join("systemk")).arg("uninstall").status();
                if status.context("start systemk uninstall")?.success() {
                    Ok(())
                } else {
                    bail!("systemk uninstall failed")
                }
            }
        }
    }

    fn command(&self, script: &str) -> Result<Command> {
        let mut command = match self {
            Self::Sandbox(sandbox) => {
                let enter = sandbox.enter_argv()?;
                let mut command = Command::new(&enter[0]);
                command.args(&enter[1..]).args(["bash", "-c", &format!("cd {HOME}; {script}")]);
                command
            }
            Self::Host(directory) => {
                let mut command = Command::new("bash");
                let path = std::env::var("PATH").unwrap_or_default();
                command.env("PATH", format!("{}:{path}", directory.display())).current_dir(manifests());
                command.args(["-c", script]);
                command
            }
        };
        command.env("SYSTEMD_PAGER", "cat");
        Ok(command)
    }
}

/// Shows a command as it is typed, and what it prints. A failure ends the demo.
pub(super) fn shown(mut command: Command, typed: &str) -> Result<()> {
    check_interrupts()?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "\n$ {typed}").and_then(|()| stdout.flush()).context("write to stdout")?;
    drop(stdout);
    let status = command.stdin(Stdio::null()).status().context("start the command")?;
    check_interrupts()?;
    if !status.success() {
        bail!("`{typed}` failed: {status}");
    }
    Ok(())
}

fn manifests() -> PathBuf {
    cargo::workspace().join("e2e/manifests")
}

fn flag() -> &'static Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    FLAG.get_or_init(Arc::default)
}

/// From now on Ctrl-C ends the demo by its own way out, which cleans up; what runs in the terminal gets it as well.
pub(super) fn catch_interrupts() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag())).context("catch Ctrl-C")?;
    }
    Ok(())
}

/// Whether the demo is to end.
pub(super) fn interrupted() -> bool {
    flag().load(Ordering::Relaxed)
}

/// Ends the demo after Ctrl-C.
pub(super) fn check_interrupts() -> Result<()> {
    if interrupted() { bail!("interrupted") } else { Ok(()) }
}
