//! Named failpoints, one at each side effect of start, stop, install and status. `e2e` walks [`ALL`] and kills the agent at
//! each of them; a name that is never crossed fails that test.
//!
//! `SYSTEMK_FAILPOINT=name` in the agent's environment makes it kill itself there, once: the file named by
//! `SYSTEMK_FAILPOINT_DONE` marks that it happened.

use std::path::PathBuf;
use std::sync::OnceLock;

/// Every failpoint there is; those of `api.` only a node of a cluster crosses.
pub(crate) const ALL: [&str; 46] = [
    "history.before-save",
    "history.after-save",
    "volume.before",
    "volume.after",
    "content.directory-made",
    "content.files-written",
    "content.data-linked",
    "content.switched",
    "content.shown",
    "attempt.before-create",
    "attempt.views-refreshed",
    "attempt.dirs-made",
    "attempt.launch-written",
    "attempt.after-create",
    "unit.before-start",
    "unit.after-start",
    "unit.before-kill",
    "unit.before-stop",
    "unit.after-stop",
    "clean.before",
    "clean.unit-removed",
    "clean.after",
    "pod.before-remove",
    "pod.slice-removed",
    "pod.before-history-removed",
    "pod.after-remove",
    "image.before-install",
    "image.after-install",
    "status.before-report",
    "api.before-get-node",
    "api.before-node",
    "api.before-node-status",
    "api.before-label",
    "api.before-get-lease",
    "api.before-create-lease",
    "api.before-lease",
    "api.before-list",
    "api.before-watch",
    "api.before-token",
    "api.before-status",
    "api.before-delete",
    "api.before-event",
    "api.before-count-event",
    "api.before-mirror",
    "api.before-delete-mirror",
    "api.before-review",
];

struct Armed {
    name: String,
    done: PathBuf,
}

fn armed() -> Option<&'static Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let read = || {
        let name = std::env::var("SYSTEMK_FAILPOINT").ok()?;
        let done = PathBuf::from(std::env::var_os("SYSTEMK_FAILPOINT_DONE")?);
        Some(Armed { name, done })
    };
    ARMED.get_or_init(read).as_ref()
}

/// Execution is at `name`. Nothing happens unless that failpoint is armed and has not fired yet.
pub(crate) fn crossing(name: &'static str) {
    debug_assert!(ALL.contains(&name), "{name} is not in the list of failpoints");
    let Some(armed) = armed() else { return };
    if armed.name != name {
        return;
    }
    let fired = std::fs::OpenOptions::new().write(true).create_new(true).open(&armed.done);
    if fired.is_ok() {
        // As the OOM killer or a power cut would: no destructor, no flush.
        let pid = rustix::process::getpid();
        let _dead = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
