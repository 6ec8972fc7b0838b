//! `systemk run`: leaves a manifest for the agent and, unless detached, stays with its pods to their end. Where no agent
//! runs it is one itself for that long.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use plan::fields::downward::DEFAULT_NAMESPACE;

use super::install::require_root;
use super::manifest_file::{self, Checked, PodName, pod_name};
use super::output::{Style, print, tell};
use super::reports::{Agent, key};
use crate::config::{AgentDirectories, Config, RunArguments, read_for};
use crate::files::{Lock, make_dirs, write_atomic, write_volatile};

mod ending;
mod follow;
mod progress;
mod said;
mod seen;

/// A manifest that was left for the agent.
#[derive(Debug)]
pub(super) struct Left {
    path: PathBuf,
    /// Shows other runs that somebody stays with it.
    lock: Option<Lock>,
    /// When it was not yet there.
    since: jiff::Timestamp,
    pods: Vec<PodName>,
}

pub(super) fn main(arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    let style = Style::of_stderr();
    let config = config(&arguments.directories)?;
    let checked = match manifest_file::read(&arguments.file, &config.node.name)? {
        Ok(checked) => checked,
        Err(problems) => {
            for line in &problems.0 {
                tell(&format!("{} {line}", style.error("error:")));
            }
            tell("nothing was started");
            return Ok(ExitCode::from(2));
        }
    };
    for warning in &checked.manifest.warnings {
        tell(&format!("{} {warning}", style.warning("warning:")));
    }
    require_root("run")?;
    let agent = Agent::at(&config.directories.run.display().to_string());
    let running = agent.is_running()?;
    match (arguments.detach, running) {
        (true, false) => bail!(
            "--detach leaves pods to the agent and {}; or leave --detach away to run them for as long as this command",
            agent.no_agent()
        ),
        (true, true) => detach(&agent, &config, &checked),
        (false, _) => stay(&agent, config, &checked, running),
    }
}

/// The agent that runs has found its addresses already; one that has to be made needs them.
fn config(directories: &AgentDirectories) -> anyhow::Result<Config> {
    let refused = match read_for(directories, &[]) {
        Ok(config) => return Ok(config),
        Err(refused) => anyhow::anyhow!("{}", refused.problems()),
    };
    match read_for(directories, &["--node-ip", "127.0.0.1"]) {
        Ok(config) if Agent::at(&config.directories.run.display().to_string()).is_running()? => Ok(config),
        Ok(_) | Err(_) => Err(refused),
    }
}

fn detach(agent: &Agent, config: &Config, checked: &Checked) -> anyhow::Result<ExitCode> {
    let path = target(&config.directories.state, checked)?;
    refuse_namesakes(agent, checked, &path, false)?;
    let before = match std::fs::read(&path) {
        Ok(before) => Some(before),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let known = before.is_some();
    write_atomic(&path, checked.text().as_bytes(), 0o600)?;
    let runtime = crate::app::runtime()?;
    if let Err(error) = runtime.block_on(seen::until_seen(agent, checked)) {
        // As with a manifest that cannot be read: all of it or nothing.
        if let Some(before) = before {
            write_atomic(&path, &before, 0o600)?;
            return Err(error.context("the manifest is again what it was before"));
        }
        std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        runtime.block_on(seen::until_gone(agent, &path))?;
        return Err(error);
    }
    let mut text = String::new();
    for pod in &checked.manifest.pods {
        let (namespace, name) = pod_name(pod);
        let option = if namespace == DEFAULT_NAMESPACE { String::new() } else { format!(" -n {namespace}") };
        let said = if known { "is what the manifest says now" } else { "is the agent's now" };
        text.push_str(&format!(
            "pod {name} {said}; 'systemk logs -f{option} {name}' follows it, 'systemk rm{option} {name}' stops it\n"
        ));
    }
    print(&text)
}

/// The file below `root` for this manifest, its directory made.
fn target(root: &Path, checked: &Checked) -> anyhow::Result<PathBuf> {
    let dir = root.join("manifests");
    // It holds Secrets.
    make_dirs(&dir, 0o700, None)?;
    Ok(dir.join(checked.file_name()))
}

/// Two pods of one name cannot be on a node; which of them stays is not this command's to decide.
fn refuse_namesakes(agent: &Agent, checked: &Checked, path: &Path, stays: bool) -> anyhow::Result<()> {
    let reports = agent.reports()?;
    for pod in &checked.manifest.pods {
        let (namespace, name) = pod_name(pod);
        let same = |report: &&crate::reconcile::report::Report| key(report) == (namespace.as_str(), name.as_str());
        let Some(other) = reports.iter().filter(same).find(|report| !report.stopping) else { continue };
        if Path::new(&other.source) != path {
            let shown = &other.source;
            bail!(
                "a pod {namespace}/{name} runs already, from {shown}: remove that first, or give this one another name"
            );
        }
        if stays && !Lock::is_abandoned(path) {
            bail!(
                "another 'systemk run' has the pod {namespace}/{name} running: end that first, or give this one another name"
            );
        }
    }
    Ok(())
}

fn stay(agent: &Agent, mut config: Config, checked: &Checked, running: bool) -> anyhow::Result<ExitCode> {
    let path = target(&config.directories.run, checked)?;
    if running {
        refuse_namesakes(agent, checked, &path, true)?;
    } else {
        refuse_to_replace(agent, &config)?;
    }
    let mut left = Left::new(&path, checked.manifest.pods.iter().map(pod_name).collect());
    write_volatile(&path, checked.text().as_bytes(), 0o600)?;
    left.hold()?;
    let runtime = crate::app::runtime()?;
    if running {
        return runtime.block_on(follow::to_the_end(agent, left));
    }
    config.directories.manifests.clear();
    crate::app::log("error");
    let code = runtime.block_on(async {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serve = crate::app::serve(config, async move {
            // Dropped is as good as sent.
            drop(stopped.await);
        });
        tokio::pin!(serve);
        let code = tokio::select! {
            ended = &mut serve => Err(match ended {
                Ok(()) => anyhow::anyhow!("the agent ended before its pods"),
                Err(error) => error.context("cannot be the agent for these pods"),
            }),
            code = follow::to_the_end(agent, left) => {
                drop(stop);
                serve.await.and(code)
            }
        };
        if code.is_err() {
            // There is no agent any more that would.
            ending::stop_without_agent(agent, &path)?;
        }
        code
    });
    // Whatever still waits belongs to the agent that has just ended.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

/// An agent stops pods that its directories do not name. Without its own directories this one must not meet another's pods.
fn refuse_to_replace(agent: &Agent, config: &Config) -> anyhow::Result<()> {
    let own = config.directories.run.join("manifests");
    let mut theirs: Vec<String> = agent
        .reports()?
        .iter()
        .filter(|report| Path::new(&report.source).parent() != Some(&own))
        .map(|report| key(report).1.to_owned())
        .collect();
    let detached = std::fs::read_dir(config.directories.state.join("manifests")).into_iter().flatten().flatten();
    theirs.extend(
        detached.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| !name.starts_with('.')),
    );
    if !theirs.is_empty() {
        bail!(
            "no agent runs here, but one has left its pods to go on without it ({}): start it again ('systemctl start systemk')",
            theirs.join(", ")
        );
    }
    // Left by runs that were killed; what still runs of them is stopped by the agent that begins now.
    for entry in std::fs::read_dir(&own).into_iter().flatten().flatten() {
        if Lock::is_abandoned(&entry.path()) {
            std::fs::remove_file(entry.path()).with_context(|| format!("remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}
