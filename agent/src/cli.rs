//! The commands beside the agent: one file each. They read what the agent reports below its run directory and leave
//! manifests for it to find; only `run` without an agent, `install` and `uninstall` change the machine themselves.

mod followed;
mod install;
mod logs;
mod manifest_file;
mod output;
mod plan;
mod pod_status;
mod ps;
mod reports;
mod rm;
mod run;
mod table;
mod uninstall;

use std::process::ExitCode;

use crate::config::Command;

/// Runs one command.
///
/// # Errors
/// What a person reads.
pub(crate) fn main(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Version => output::print(&format!("systemk {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Ps(arguments) => ps::main(&arguments),
        Command::Run(arguments) => run::main(&arguments),
        Command::Logs(arguments) => logs::main(&arguments),
        Command::Rm(arguments) => rm::main(&arguments),
        Command::Plan(arguments) => plan::main(&arguments),
        Command::Install(arguments) => install::main(&arguments),
        Command::Uninstall(arguments) => uninstall::main(&arguments),
        Command::Agent(_) => anyhow::bail!("the agent is not a command of its own"),
    }
}
