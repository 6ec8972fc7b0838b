//! The tiny modes of the binary that systemd starts around a container: `init <line>` and `exit-hook <dir>`.
//!
//! `main` asks here before any runtime, logging or CLI parser starts: `init` stands before every program of every
//! container, so what it does not need it must not pay for. Nothing in this module starts a thread, which the raw system
//! calls of [`crate::sys`] and rustix's per-thread identity calls rely on.

mod exit_hook;
mod failure;
mod init;
mod path;
mod program;

use std::ffi::OsString;

/// Runs the mode that the arguments (with the program's own name in front) ask for, and gives the exit code to end with.
/// `None`: it is for the command line parser. `init` comes back only if it failed.
pub(crate) fn dispatch(mut args: impl Iterator<Item = OsString>) -> Option<i32> {
    let mode = args.nth(1)?;
    match mode.to_str()? {
        "init" => Some(init::run(args.next(), args.next().is_some())),
        "exit-hook" => {
            exit_hook::run(args.next());
            Some(0)
        }
        _ => None,
    }
}
