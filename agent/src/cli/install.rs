//! `systemk install`: this binary as a service of the machine. Changes only what differs, so doing it again is an upgrade.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail, ensure};

use super::output::{print, tell};
use crate::config::InstallArguments;
use crate::files::{make_dirs, write_atomic};

mod unit;

/// The service.
pub(super) const SERVICE: &str = "systemk.service";
/// Its unit file.
pub(super) const UNIT_FILE: &str = "/etc/systemd/system/systemk.service";
/// Where its pods are.
pub(super) const MANIFESTS: &str = "/etc/systemk/manifests";

pub(super) fn main(arguments: &InstallArguments) -> anyhow::Result<ExitCode> {
    let dry = arguments.dry_run;
    let binary = binary()?;
    let text = unit::text(&binary)?;
    if !dry {
        require_root("install")?;
        ensure!(
            Path::new("/run/systemd/system").is_dir(),
            "this machine's PID 1 is not systemd, so it cannot run services"
        );
    }
    let mut done = Vec::new();
    if !Path::new(MANIFESTS).is_dir() {
        if !dry {
            // Manifests hold Secrets.
            make_dirs(Path::new("/etc/systemk"), 0o755, None)?;
            make_dirs(Path::new(MANIFESTS), 0o700, None)?;
        }
        done.push(format!("made {MANIFESTS}: the pods of the manifests in it are run"));
    }
    let old = match std::fs::read_to_string(UNIT_FILE) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error).context(format!("read {UNIT_FILE}")),
    };
    let changed = old.as_deref() != Some(text.as_str());
    if changed {
        if !dry {
            write_atomic(Path::new(UNIT_FILE), text.as_bytes(), 0o644)?;
            systemctl(&["daemon-reload"])?;
        }
        done.push(format!("{} {UNIT_FILE}", if old.is_some() { "changed" } else { "wrote" }));
    }
    if dry && changed {
        return print(&format!("{}\n{text}", would(&done)));
    }
    if !dry {
        done.extend(start(&binary, changed)?);
    }
    if done.is_empty() {
        return print("systemk is installed and running; nothing had to be changed\n");
    }
    print(&if dry { would(&done) } else { lines(&done) })
}

fn lines(done: &[String]) -> String {
    done.iter().map(|line| format!("{line}\n")).collect()
}

fn would(done: &[String]) -> String {
    let mut text = lines(done);
    text.insert_str(0, "nothing is changed; without --dry-run this is done, and the service is started:\n");
    text
}

/// Enables it and has it run this very binary.
fn start(binary: &Path, changed: bool) -> anyhow::Result<Vec<String>> {
    let mut done = Vec::new();
    if !succeeds(&["is-enabled", "--quiet", SERVICE]) {
        systemctl(&["enable", "--quiet", SERVICE])?;
        done.push("enabled it: it starts at every boot".to_owned());
    }
    let active = succeeds(&["is-active", "--quiet", SERVICE]);
    if active && !changed && running_binary().is_some_and(|running| running == binary) {
        return Ok(done);
    }
    // Type=notify: returns when the agent is ready. A restart stops no pod.
    if systemctl(&["restart", SERVICE]).is_err() {
        bail!(
            "{SERVICE} does not start; it last said:\n{}systemd tries it again every second until it starts, or until \
             'systemk uninstall'; 'systemctl status {SERVICE}' has more",
            last_said()
        );
    }
    done.push(if active { "restarted it; its pods went on" } else { "started it, and it is ready" }.to_owned());
    Ok(done)
}

/// The program's own words, each once: systemd has started it again meanwhile, so that it says them again.
fn last_said() -> String {
    let unit = format!("_SYSTEMD_UNIT={SERVICE}");
    let output = Command::new("journalctl").args(["--quiet", "--boot", "--output=cat", "--lines=20", &unit]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut said: Vec<&str> = Vec::new();
    for line in text.lines() {
        if !said.contains(&line) {
            said.push(line);
        }
    }
    said.iter().map(|line| format!("  {line}\n")).collect()
}

/// What the service runs now; the link ends in ` (deleted)` after the file was replaced.
fn running_binary() -> Option<PathBuf> {
    let output = Command::new("systemctl").args(["show", "--property=MainPID", "--value", SERVICE]).output().ok()?;
    let pid: u32 = String::from_utf8(output.stdout).ok()?.trim().parse().ok()?;
    std::fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// Where this binary is, for good.
fn binary() -> anyhow::Result<PathBuf> {
    let binary = std::fs::read_link("/proc/self/exe").context("find this program's own file")?;
    let shown = binary.display().to_string();
    ensure!(!shown.ends_with(" (deleted)"), "the file of this program was replaced while it ran: run the new one");
    if ["/tmp", "/var/tmp", "/dev/shm", "/run"].iter().any(|dir| binary.starts_with(dir)) {
        tell(&format!(
            "systemk: {shown} goes away with a reboot or a cleaning: move it to /usr/local/bin and install from there"
        ));
    }
    Ok(binary)
}

/// # Errors
/// This is not root.
pub(super) fn require_root(what: &str) -> anyhow::Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "'systemk {what}' changes the machine: run it as root");
    Ok(())
}

/// # Errors
/// What systemctl complains of.
pub(super) fn systemctl(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("systemctl").args(arguments).output().context("start systemctl")?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    bail!("systemctl {}: {complaint}", arguments.join(" "))
}

/// Whether systemctl says yes.
pub(super) fn succeeds(arguments: &[&str]) -> bool {
    Command::new("systemctl").args(arguments).output().is_ok_and(|output| output.status.success())
}
