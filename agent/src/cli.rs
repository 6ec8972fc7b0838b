//! The commands beside the agent.

use std::process::ExitCode;

use crate::config::Command;

/// Runs one command.
///
/// # Errors
/// What a person reads.
pub(crate) fn main(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Version => println!("systemk {}", env!("CARGO_PKG_VERSION")),
        Command::Install(_) => {}
        _ => anyhow::bail!("not here"),
    }
    Ok(ExitCode::SUCCESS)
}
