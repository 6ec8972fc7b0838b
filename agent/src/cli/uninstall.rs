//! Not here.
pub(super) fn main(_: &crate::config::UninstallArguments) -> anyhow::Result<std::process::ExitCode> { anyhow::bail!("not here") }
