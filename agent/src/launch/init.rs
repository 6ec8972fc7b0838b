//! `systemk init <line>`: applies the Launch on standard input to this process and becomes the program.
//!
//! The order, and why:
//! 1. inherited descriptors are closed, so nothing below can be reached through a leaked one;
//! 2. the Launch is read and its failure file opened, while still privileged;
//! 3. standard input becomes /dev/null;
//! 4. directories are given away and the working directory is made and entered, as root: an identity that may not search
//!    the way to its own working directory still starts there, as with runc;
//! 5. the bounding set is lowered, which needs CAP_SETPCAP;
//! 6. groups, then gid, then uid: each needs a capability that the uid's change takes away;
//! 7. the capability sets, last because 4 to 6 need what they drop. This also empties the inheritable set, and with it the
//!    ambient one, which a changed uid leaves alone under `SecureBits=no-setuid-fixup`;
//! 8. the working directory again if 4 was refused: on a file system where root is nobody only the identity may enter;
//! 9. no_new_privs, signals, exec.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use plan::launch::{Capability, EnvVar, Identity, InheritEnv, LAUNCH_VERSION, Launch, Line, expand};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::thread as this_thread;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::failure::{FailureFile, StepError};
use super::path;
use super::program::Exec;
use crate::sys;

/// A Launch is made of a pod, which the API server limits to 3 MiB, and of ConfigMaps and Secrets of 1 MiB each.
const LAUNCH_LIMIT: u64 = 16 * 1024 * 1024;

/// Ids above may be taken for negative ones and wrap to root's (CVE-2024-40635).
const LARGEST_ID: u32 = i32::MAX as u32;

/// Comes back only if it failed, with the exit code.
pub(super) fn run(key: Option<OsString>, more: bool) -> i32 {
    let Some(key) = key.filter(|_| !more).and_then(|key| key.into_string().ok()) else {
        eprintln!("systemk init: needs one argument, the key of a line in the Launch on standard input");
        return 128;
    };
    let mut file = FailureFile::none();
    let error = start(&key, &mut file);
    eprintln!("systemk init: {key}: {error}");
    if let Err(e) = file.write(&key, &error) {
        eprintln!("systemk init: {key}: the failure file: {e}");
    }
    error.exit_code
}

/// Everything up to the program; gives back why it did not start.
fn start(key: &str, file: &mut FailureFile) -> StepError {
    let launch = match read(file).and_then(|launch| close_stdin().map(|()| launch)) {
        Ok(launch) => launch,
        Err(error) => return error,
    };
    let Some(line) = launch.lines.get(key) else {
        return StepError::refused("read-launch", format!("the Launch has no line {key:?}"));
    };
    file.reached(key);
    match prepare(&launch, line) {
        Ok(exec) => exec.run(),
        Err(error) => error,
    }
}

/// Reads the Launch and opens the failure file that it names.
fn read(file: &mut FailureFile) -> Result<Launch, StepError> {
    sys::close_inherited().map_err(|e| StepError::os("read-launch", e, "close inherited descriptors"))?;
    let json = read_stdin()?;
    match serde_json::from_slice::<Launch>(&json) {
        Ok(launch) if launch.version == LAUNCH_VERSION => {
            *file = FailureFile::open(&launch.failure_file);
            Ok(launch)
        }
        Ok(Launch { version, failure_file, .. }) => {
            *file = FailureFile::open(&failure_file);
            Err(refuse_version(version))
        }
        Err(error) => Err(unreadable(&json, &error, file)),
    }
}

fn refuse_version(version: u32) -> StepError {
    let message = format!("the Launch has version {version}, this build of systemk reads {LAUNCH_VERSION}");
    StepError::refused("read-launch", message)
}

/// A newer Launch may have another shape: only what says so is read. serde's own message may quote the value that it did
/// not expect, a secret perhaps, so it is not shown.
fn unreadable(json: &[u8], error: &serde_json::Error, file: &mut FailureFile) -> StepError {
    #[derive(serde::Deserialize)]
    struct Header {
        version: u32,
        failure_file: Option<String>,
    }
    if let Ok(header) = serde_json::from_slice::<Header>(json) {
        *file = header.failure_file.map_or_else(FailureFile::none, |path| FailureFile::open(&path));
        if header.version != LAUNCH_VERSION {
            return refuse_version(header.version);
        }
    }
    let what = match error.classify() {
        serde_json::error::Category::Eof => "ends too early",
        serde_json::error::Category::Syntax => "is not JSON",
        serde_json::error::Category::Data => "is not a Launch",
        serde_json::error::Category::Io => "cannot be read",
    };
    let message = format!("the Launch {what} (line {}, column {})", error.line(), error.column());
    StepError::refused("read-launch", message)
}

/// The whole file from its beginning, wherever an earlier Exec line left the offset.
fn read_stdin() -> Result<Vec<u8>, StepError> {
    let failed = |e| StepError::os("read-launch", e, "read the Launch from standard input");
    let stdin = std::io::stdin();
    let stat = rustix::fs::fstat(&stdin).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(StepError::refused("read-launch", "standard input is not a file that holds a Launch"));
    }
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    if size > LAUNCH_LIMIT {
        let message = format!("the Launch takes {size} bytes, the limit is {LAUNCH_LIMIT}");
        return Err(StepError::refused("read-launch", message));
    }
    let mut json = vec![0; usize::try_from(size).unwrap_or_default()];
    let mut filled = 0;
    while filled < json.len() {
        match rustix::io::pread(&stdin, &mut json[filled..], filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    json.truncate(filled);
    Ok(json)
}

/// Puts the real /dev/null at descriptor 0: not something that an image or a volume has at that path (CVE-2025-31133).
fn close_stdin() -> Result<(), StepError> {
    let failed = |e| StepError::os("stdin", e, "open /dev/null as standard input");
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty()).map_err(failed)?;
    let stat = rustix::fs::fstat(&null).map_err(failed)?;
    let real =
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == rustix::fs::makedev(1, 3);
    if !real {
        return Err(StepError::refused("stdin", "/dev/null is not the null device"));
    }
    rustix::fs::fcntl_setfl(&null, OFlags::empty()).map_err(failed)?;
    sys::become_stdin(null).map_err(failed)
}

fn prepare<'l>(launch: &'l Launch, line: &'l Line) -> Result<Exec<'l>, StepError> {
    let exec = program(launch, line)?;
    if let Some(identity) = &launch.identity {
        check(identity)?;
        launch.chown.iter().try_for_each(|dir| path::give(dir, identity))?;
    }
    let enter = || launch.cwd.as_deref().map_or(Ok(()), |cwd| path::enter(cwd, launch.identity.as_ref()));
    let refused = match enter() {
        Err(error) if !matches!(error.errno, Some(Errno::ACCESS | Errno::PERM)) => return Err(error),
        entered => entered.is_err(),
    };
    if !line.full_privileges {
        let wanted = launch.capabilities.as_deref().map(set);
        wanted.map_or(Ok(()), lower_bounding_set)?;
        launch.identity.as_ref().map_or(Ok(()), become_identity)?;
        apply_sets(wanted, launch.identity.as_ref())?;
    }
    if refused {
        enter()?;
    }
    if launch.no_new_privileges && !line.full_privileges {
        this_thread::set_no_new_privs(true).map_err(|e| StepError::os("identity", e, "set no_new_privs"))?;
    }
    sys::restore_signals();
    Ok(exec)
}

/// The program, its arguments and its environment in the kernel's form.
fn program<'l>(launch: &'l Launch, line: &'l Line) -> Result<Exec<'l>, StepError> {
    let Some(program) = line.argv.first().filter(|name| !name.is_empty()) else {
        return Err(StepError::refused("exec", "the line has no program"));
    };
    let inherited: Vec<(Vec<u8>, Vec<u8>)> = std::env::vars_os()
        .filter(|(name, _)| keeps(&launch.inherit, name))
        .map(|(name, value)| (name.into_vec(), value.into_vec()))
        .collect();
    let env = environment(&inherited, &launch.env)?;
    let called = line.arg0.as_ref().unwrap_or(program);
    let words: Vec<&[u8]> = std::iter::once(called).chain(&line.argv[1..]).map(|word| word.as_bytes()).collect();
    let words = if line.expand {
        expand::expand(&words, |name| env.get(name).copied())
    } else {
        words.into_iter().map(<[u8]>::to_vec).collect()
    };
    let nul = || StepError::refused("exec", "an argument contains a NUL byte");
    let argv = words.into_iter().map(CString::new).collect::<Result<_, _>>().map_err(|_| nul())?;
    let path = env.get(&b"PATH"[..]).map(|value| value.to_vec());
    let env = env.into_iter().map(|(name, value)| pair(name, value)).collect::<Result<_, _>>()?;
    Ok(Exec { program, argv, env, path })
}

fn keeps(inherit: &InheritEnv, name: &std::ffi::OsStr) -> bool {
    match inherit {
        InheritEnv::All => true,
        InheritEnv::Only(names) => names.iter().any(|kept| kept.as_bytes() == name.as_bytes()),
    }
}

/// The Launch's variables over the inherited ones; a later one of the same name wins.
fn environment<'e>(
    inherited: &'e [(Vec<u8>, Vec<u8>)],
    overlay: &'e [EnvVar],
) -> Result<BTreeMap<&'e [u8], &'e [u8]>, StepError> {
    let mut env: BTreeMap<&[u8], &[u8]> = inherited.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    for EnvVar { name, value } in overlay {
        if name.is_empty() || name.contains('=') {
            return Err(StepError::refused("environment", format!("{name:?} is no name for an environment variable")));
        }
        env.insert(name.as_bytes(), value.as_bytes());
    }
    Ok(env)
}

fn pair(name: &[u8], value: &[u8]) -> Result<CString, StepError> {
    CString::new([name, b"=", value].concat()).map_err(|_| {
        let name = String::from_utf8_lossy(name);
        StepError::refused("environment", format!("the environment variable {name:?} contains a NUL byte"))
    })
}

fn check(identity: &Identity) -> Result<(), StepError> {
    let Identity { uid, gid, groups } = identity;
    match [uid, gid].into_iter().chain(groups).find(|id| **id > LARGEST_ID) {
        Some(id) => Err(StepError::refused("identity", format!("{id} is no user or group id (0 to {LARGEST_ID})"))),
        None => Ok(()),
    }
}

fn set(capabilities: &[Capability]) -> CapabilitySet {
    CapabilitySet::from_bits_retain(capabilities.iter().fold(0, |set, c| set | 1 << c.number()))
}

/// Takes everything but `wanted` out of the bounding set, capabilities newer than this build included. What is not in it
/// any more needs no privilege to leave out, so a vendor's unprivileged unit that already has less still starts.
fn lower_bounding_set(wanted: CapabilitySet) -> Result<(), StepError> {
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        match this_thread::capability_is_in_bounding_set(one) {
            Ok(true) if !wanted.contains(one) => this_thread::remove_capability_from_bounding_set(one)
                .map_err(|e| StepError::os("capabilities", e, format_args!("drop capability {number}")))?,
            Ok(_) => {}
            // The kernel knows no more.
            Err(Errno::INVAL) => break,
            Err(e) => return Err(StepError::os("capabilities", e, "read the bounding set")),
        }
    }
    Ok(())
}

/// rustix makes these calls for the thread, and the only one is the process.
fn become_identity(identity: &Identity) -> Result<(), StepError> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    let step = |e, what: &str| StepError::os("identity", e, what);
    this_thread::set_thread_groups(&groups).map_err(|e| step(e, "set the supplementary groups"))?;
    this_thread::set_thread_res_gid(gid, gid, gid).map_err(|e| step(e, &format!("become group {}", identity.gid)))?;
    this_thread::set_thread_res_uid(uid, uid, uid).map_err(|e| step(e, &format!("become user {}", identity.uid)))
}

/// The sets of this process, which only ever shrink. A pod's identity that is not root gets none, like every container's.
/// Where systemd made the identity, its ambient set (`AmbientCapabilities=`) keeps what is wanted: the kernel takes a
/// capability out of it that leaves the permitted or the inheritable set. What is wanted and not there cannot be given:
/// a node that lacks a capability itself starts its containers without it, as runc does.
fn apply_sets(wanted: Option<CapabilitySet>, identity: Option<&Identity>) -> Result<(), StepError> {
    let none = CapabilitySet::empty();
    let (keep, inherit) = match (identity, wanted) {
        (Some(identity), _) if identity.uid != 0 => (none, none),
        (Some(_), Some(wanted)) => (wanted, none),
        (None, Some(wanted)) => (wanted, wanted),
        (_, None) => return Ok(()),
    };
    let failed = |e| StepError::os("capabilities", e, "set the capabilities");
    let now = this_thread::capabilities(None).map_err(failed)?;
    let sets = CapabilitySets {
        effective: now.effective & keep,
        permitted: now.permitted & keep,
        inheritable: now.inheritable & inherit,
    };
    this_thread::set_capabilities(None, sets).map_err(failed)
}

#[cfg(test)]
mod tests;
