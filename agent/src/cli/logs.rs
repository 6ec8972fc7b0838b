//! Not here.
pub(super) fn main(_: &crate::config::LogsArguments) -> anyhow::Result<std::process::ExitCode> { anyhow::bail!("not here") }
