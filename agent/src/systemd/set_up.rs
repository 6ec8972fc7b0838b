//! What systemd logged of a unit that it could not set up: which mount, which directory. Its exit status says only which
//! step that was.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// A journal that is not well must not hold up a pod.
const PATIENCE: Duration = Duration::from_secs(3);

/// A unit file of ours is a few KiB.
const UNIT_LIMIT: u64 = 1024 * 1024;

/// The first error that systemd logged of this invocation of the unit, with the setting that it does not name; empty if
/// there is none to be had. `status` is systemd's own (systemd.exec(5), process exit codes).
pub(crate) async fn error_of(unit_file: &Path, unit: &str, invocation: &str, status: i32) -> String {
    // What was logged just now may still be on its way.
    let _synced = journalctl(&["--sync"]).await;
    let unit_field = format!("UNIT={unit}");
    let invocation = format!("INVOCATION_ID={invocation}");
    let lines = ["--quiet", "--no-pager", "--output=cat", "--priority=err", "--lines=20", &unit_field, &invocation];
    let error = first_error(&journalctl(&lines).await, unit);
    match crate::files::read_bounded(unit_file, UNIT_LIMIT).ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
        Some(text) if !error.is_empty() => {
            setting(&text, status).map_or(error.clone(), |line| format!("{error} ({line})"))
        }
        Some(_) | None => error,
    }
}

/// The line of the unit file that a status is about.
fn setting(unit_file: &str, status: i32) -> Option<&str> {
    let name = match status {
        200 => "WorkingDirectory=",
        216 => "Group=",
        217 => "User=",
        _ => return None,
    };
    unit_file.lines().rfind(|line| line.starts_with(name))
}

async fn journalctl(arguments: &[&str]) -> String {
    let mut command = Command::new("journalctl");
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(Err(_)) | Err(_) => String::new(),
    }
}

/// "Failed at step" repeats what the exit status says, so it comes last.
fn first_error(text: &str, unit: &str) -> String {
    let said = || text.lines().filter_map(|line| line.strip_prefix(unit)?.strip_prefix(": "));
    let found = said().find(|line| !line.starts_with("Failed at step")).or_else(|| said().next());
    // The container's root is where systemd builds it.
    found.unwrap_or_default().replace("/run/systemd/unit-root/", "/").replace("/run/systemd/mount-rootfs/", "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_named() {
        let unit = "[Service]\nUser=a\nWorkingDirectory=/b\nUser=c\n";
        assert_eq!(setting(unit, 217), Some("User=c"));
        assert_eq!(setting(unit, 200), Some("WorkingDirectory=/b"));
        assert_eq!((setting(unit, 216), setting(unit, 226)), (None, None));
    }

    #[test]
    fn the_error_that_says_most_is_taken() {
        let text = "a.service: Failed at step NAMESPACE spawning /x: Not a directory\n\
                    a.service: Failed to set up mount namespacing: /run/systemd/unit-root/etc/hostname: Not a directory\n\
                    Failed to start a.service - A.\n";
        assert_eq!(
            first_error(text, "a.service"),
            "Failed to set up mount namespacing: /etc/hostname: Not a directory"
        );
        let step = "a.service: Failed at step EXEC spawning /x: Permission denied";
        assert_eq!(first_error(step, "a.service"), "Failed at step EXEC spawning /x: Permission denied");
        assert_eq!(first_error("b.service: Failed", "a.service"), "");
    }
}
