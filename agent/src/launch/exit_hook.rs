//! `systemk exit-hook <dir>`: the unit's first `ExecStopPost=+:` line, which writes how the main process ended for an agent
//! that may not be running. It may run inside the container's root, so the directory is held open and nothing in it is
//! followed. It never fails the unit.
//!
//! systemd (252) skips the `ExecStopPost=` lines that follow one that failed without a `-` prefix: a vendor's line before
//! the hook's can keep it from running.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;

use plan::launch::exit::{EXIT_FILE, EXIT_VERSION, ExitRecord};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// One hook runs per unit and attempt, so the name needs no randomness; what a killed one left is replaced.
const TEMPORARY: &str = ".exit.json.new";

pub(super) fn run(dir: Option<OsString>) {
    let written = match dir {
        Some(dir) => write(&dir, &record()).map_err(|e| format!("{}: {e}", dir.display())),
        None => Err("needs a directory".to_owned()),
    };
    if let Err(reason) = written {
        eprintln!("systemk exit-hook: {reason}");
    }
}

fn record() -> ExitRecord {
    let variable = |name| std::env::var(name).unwrap_or_default();
    ExitRecord {
        version: EXIT_VERSION,
        invocation: variable("INVOCATION_ID"),
        result: variable("SERVICE_RESULT"),
        code: variable("EXIT_CODE"),
        status: variable("EXIT_STATUS"),
        finished_at: format!("{:.6}", jiff::Timestamp::now()),
    }
}

fn write(dir: &OsStr, record: &ExitRecord) -> std::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let dir = rustix::fs::openat2(CWD, dir, flags, Mode::empty(), resolve)?;
    match rustix::fs::unlinkat(&dir, TEMPORARY, AtFlags::empty()) {
        Err(Errno::NOENT) => {}
        removed => removed?,
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir.as_fd(), TEMPORARY, flags, Mode::from_raw_mode(0o600))?;
    // No fsync: the directory is on /run, and a record of before a reboot is of no use after it.
    std::io::Write::write_all(&mut std::fs::File::from(file), &serde_json::to_vec(record)?)?;
    rustix::fs::renameat(&dir, TEMPORARY, &dir, EXIT_FILE)?;
    Ok(())
}
