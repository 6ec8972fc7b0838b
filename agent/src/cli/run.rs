//! Not here.
pub(super) fn main(_: &crate::config::RunArguments) -> anyhow::Result<std::process::ExitCode> { anyhow::bail!("not here") }
