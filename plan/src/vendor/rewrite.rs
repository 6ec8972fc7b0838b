//! The values that are written differently, each as a function from the vendor's value to ours.

use super::specifier::Specifiers;
use super::words::{self, Escapes};

/// The targets that systemk's own unit may be part of: waiting for one of them would be waiting for itself.
const BOOT_TARGETS: [&str; 4] = ["multi-user.target", "graphical.target", "default.target", "systemk.target"];

/// What a container has of its own, so a unit needs no `TemporaryFileSystem=` for it.
const OWN_DIRECTORIES: [&str; 4] = ["/run", "/var/run", "/tmp", "/var/tmp"];

/// Directories whose files the host does not see where the container has them.
const HIDDEN_DIRECTORIES: [&str; 4] = ["/tmp", "/var/tmp", "/home", "/root"];

/// The words of a value with their specifiers expanded; the error is a sentence.
pub(super) fn expanded_words(value: &str, specifiers: &Specifiers<'_>) -> Result<Vec<String>, String> {
    let words = words::split(value, Escapes::Literal).map_err(|error| error.to_string())?;
    words.iter().map(|word| specifiers.text(word).map_err(|error| error.to_string())).collect()
}

fn joined(words: &[String]) -> Result<String, String> {
    let quoted: Result<Vec<String>, _> =
        words.iter().map(|word| words::quote(&word.replace('%', "%%"), Escapes::Literal)).collect();
    quoted.map(|words| words.join(" ")).map_err(|error| error.to_string())
}

/// `ReadWritePaths=` and its like: with `+` they are paths of the container's root (without, systemd looks for them in the
/// host's, which the container does not see, and nothing happens); with `-` one that this root lacks is no failure.
pub(super) fn root_paths(value: &str, specifiers: &Specifiers<'_>) -> Result<String, String> {
    let paths = expanded_words(value, specifiers)?;
    let paths: Vec<String> = paths.iter().map(|path| format!("-+{}", path.trim_start_matches(['-', '+']))).collect();
    joined(&paths)
}

/// `ReadWritePaths=` without the container's own directories, which are writable mounts already: a second entry for the
/// same path would contend with theirs. None: nothing is left.
pub(super) fn writable_paths(value: &str, specifiers: &Specifiers<'_>) -> Result<Option<String>, String> {
    let mut paths = expanded_words(value, specifiers)?;
    paths.retain(|path| !is_own(path.trim_start_matches(['-', '+'])));
    if paths.is_empty() {
        return Ok(None);
    }
    let paths: Vec<String> = paths.iter().map(|path| format!("-+{}", path.trim_start_matches(['-', '+']))).collect();
    joined(&paths).map(Some)
}

fn is_own(path: &str) -> bool {
    OWN_DIRECTORIES.contains(&path.trim_end_matches('/'))
}

/// The names that `RuntimeDirectory=` and its like make, without the symlinks to them (`name:link`, systemd 253).
pub(super) fn directory_names(value: &str, specifiers: &Specifiers<'_>) -> Result<Vec<String>, String> {
    let words = expanded_words(value, specifiers)?;
    Ok(words.iter().map(|word| word.split(':').next().unwrap_or_default().to_owned()).collect())
}

/// `RuntimeDirectory=sshd` as `<runtime_root>/sshd`.
pub(super) fn runtime_directories(
    value: &str,
    runtime_root: &str,
    specifiers: &Specifiers<'_>,
) -> Result<String, String> {
    let mut directories = Vec::new();
    for word in expanded_words(value, specifiers)? {
        let mut fields = word.splitn(3, ':');
        let path = |field: Option<&str>| match field {
            Some(name) if !is_relative(name) => Err(format!("{name:?} is no relative path below /run")),
            Some(name) => Ok(Some(format!("{runtime_root}/{name}"))),
            None => Ok(None),
        };
        let name = path(fields.next())?.unwrap_or_default();
        let link = path(fields.next().filter(|link| !link.is_empty()))?;
        directories.push(link.map_or(name.clone(), |link| format!("{name}:{link}")));
    }
    joined(&directories)
}

/// Whether systemd would take it for a directory below one of its roots.
pub(super) fn is_relative(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('/')
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// `TemporaryFileSystem=` without what the container has of its own. None: nothing is left.
pub(super) fn temporary_file_systems(value: &str, specifiers: &Specifiers<'_>) -> Result<Option<String>, String> {
    let mut words = expanded_words(value, specifiers)?;
    words.retain(|word| !is_own(word.split(':').next().unwrap_or_default()));
    if words.is_empty() { Ok(None) } else { joined(&words).map(Some) }
}

/// `After=` with the targets alone. None: there are none.
pub(super) fn after(value: &str, specifiers: &Specifiers<'_>) -> Result<Option<String>, String> {
    let mut units = expanded_words(value, specifiers)?;
    units.retain(|unit| is_sync_target(unit));
    if units.is_empty() { Ok(None) } else { joined(&units).map(Some) }
}

fn is_sync_target(unit: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    unit.ends_with(".target") && unit.bytes().all(plain) && !BOOT_TARGETS.contains(&unit)
}

/// `PIDFile=` where PID 1, which is outside of the container's root, finds it.
pub(super) fn pid_file(value: &str, run_dir: &str, specifiers: &Specifiers<'_>) -> Result<String, String> {
    let path = specifiers.text(value).map_err(|error| error.to_string())?;
    if path.chars().any(char::is_control) || path.split('/').any(|part| part == "..") {
        return Err(format!("{path:?} is no path that systemd accepts"));
    }
    let absolute = if path.starts_with('/') { path } else { format!("/run/{path}") };
    for run in ["/run/", "/var/run/"] {
        if let Some(below) = absolute.strip_prefix(run) {
            return Ok(format!("{run_dir}/{below}"));
        }
    }
    if HIDDEN_DIRECTORIES.iter().any(|hidden| absolute.strip_prefix(hidden).is_some_and(|rest| rest.starts_with('/'))) {
        return Err(format!("{absolute} is in a directory that is the container's own, where systemd cannot read it"));
    }
    Ok(absolute)
}
