//! Not here.
pub(super) fn main(_: &crate::config::PodArgument) -> anyhow::Result<std::process::ExitCode> { anyhow::bail!("not here") }
