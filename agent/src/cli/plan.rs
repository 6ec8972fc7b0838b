//! Not here.
pub(super) fn main(_: &crate::config::PlanArguments) -> anyhow::Result<std::process::ExitCode> { anyhow::bail!("not here") }
