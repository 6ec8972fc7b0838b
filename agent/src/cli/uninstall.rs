//! `systemk uninstall`: nothing of systemk is left but what the user wrote. Pods are stopped as a removed manifest stops
//! them, with their grace, by an agent that has no directory to read any more.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::Instant;

use super::install::{MANIFESTS, SERVICE, UNIT_FILE, require_root, succeeds, systemctl};
use super::output::{print, tell};
use super::reports::Agent;
use crate::config::{Config, UninstallArguments, read_for};
use crate::facts::{HOST_VIEWS, UNIT_DIR};
use crate::files::{release_read_only, remove_tree};
use crate::reconcile::orphans::of_run_directory;

/// Of `systemctl edit systemk` and `systemctl set-property systemk`.
const DROP_INS: [&str; 2] = ["/etc/systemd/system/systemk.service.d", "/etc/systemd/system.control/systemk.service.d"];

/// Beyond the pods' own grace: units are removed and directories emptied.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn main(arguments: &UninstallArguments) -> anyhow::Result<ExitCode> {
    let dry = arguments.dry_run;
    // Without a network there is no address to be found, and none is needed.
    let config = read_for(&arguments.directories, &[])
        .or_else(|_| read_for(&arguments.directories, &["--node-ip", "127.0.0.1"]))
        .map_err(|refused| anyhow::anyhow!("{}", refused.problems()))?;
    if !dry {
        require_root("uninstall")?;
    }
    let mut removal = Removal { dry, done: 0 };
    let agent = Agent::at(&config.directories.run.display().to_string());
    let installed = Path::new(UNIT_FILE).exists();
    if installed {
        removal
            .step("stopped and disabled systemk.service", || systemctl(&["disable", "--now", "--quiet", SERVICE]))?;
    }
    if !dry && agent.is_running()? {
        bail!("an agent still runs that is not {SERVICE} (see {}): end it first", agent.lock().display());
    }
    removal.pods(&agent, config.clone())?;
    if installed {
        removal.step(&format!("removed {UNIT_FILE}"), || std::fs::remove_file(UNIT_FILE).context("remove the unit"))?;
        if !dry {
            systemctl(&["daemon-reload"])?;
            succeeds(&["reset-failed", SERVICE]);
        }
    }
    removal.slices(&config)?;
    if !dry {
        release_read_only(&config.directories.run.join(HOST_VIEWS))?;
    }
    for dir in [&config.directories.run, &config.directories.state] {
        if dir.exists() {
            removal.step(&format!("removed {}", dir.display()), || Ok(remove_tree(dir)?))?;
        }
    }
    for dir in DROP_INS {
        removal.if_empty(Path::new(dir))?;
    }
    removal.if_empty(Path::new(MANIFESTS))?;
    removal.if_empty(Path::new("/etc/systemk"))?;
    if removal.done == 0 {
        return print("systemk is not installed and has left nothing here\n");
    }
    print("packages that pods have installed stay, as does this program itself\n")
}

struct Removal {
    dry: bool,
    done: usize,
}

impl Removal {
    fn step(&mut self, done: &str, act: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.done += 1;
        if self.dry {
            print(&format!("would have {done}\n"))?;
            return Ok(());
        }
        act()?;
        print(&format!("{done}\n"))?;
        Ok(())
    }

    fn pods(&mut self, agent: &Agent, mut config: Config) -> anyhow::Result<()> {
        let names: Vec<String> = left(&config);
        if names.is_empty() {
            return Ok(());
        }
        let pods: Vec<String> =
            agent.reports()?.iter().map(|report| super::reports::key(report).1.to_owned()).collect();
        let shown =
            if pods.is_empty() { "what pods have left".to_owned() } else { format!("the pods {}", pods.join(", ")) };
        let grace = agent.reports()?.iter().filter_map(|r| r.pod.spec.as_ref()?.termination_grace_period_seconds).max();
        self.step(&format!("stopped and removed {shown}"), || {
            tell(&format!("stopping {shown} ..."));
            for root in [&config.directories.run, &config.directories.state] {
                let dir = root.join("manifests");
                if dir.exists() {
                    remove_tree(&dir)?;
                }
            }
            config.directories.manifests.clear();
            let patience = PATIENCE + Duration::from_secs(u64::try_from(grace.unwrap_or(30)).unwrap_or(30));
            let runtime = crate::app::runtime()?;
            crate::app::log("error");
            let node = config.clone();
            runtime.block_on(async {
                let until_gone = async {
                    let begun = Instant::now();
                    while !left(&node).is_empty() && begun.elapsed() < patience {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                };
                crate::app::serve(config, until_gone).await
            })?;
            runtime.shutdown_timeout(Duration::from_millis(100));
            force(&node)
        })
    }

    /// The slices above the pods' own, which systemd made: gone unless somebody else's pods are in them.
    fn slices(&mut self, config: &Config) -> anyhow::Result<()> {
        let root = &config.cgroup_root;
        let pattern = format!("{root}*.slice");
        let output =
            Command::new("systemctl").args(["list-units", "--plain", "--no-legend", "--all", &pattern]).output();
        let listed = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        // In a dry run the pods' own are still there.
        let pods = units(config);
        let names = listed.lines().filter_map(|line| line.split_whitespace().next());
        let names: Vec<&str> = names.filter(|name| !pods.iter().any(|pod| pod == name)).collect();
        let ours = [format!("{root}.slice"), format!("{root}-burstable.slice"), format!("{root}-besteffort.slice")];
        if names.is_empty() || !names.iter().all(|name| ours.iter().any(|own| own == name)) {
            return Ok(());
        }
        let mut stop = vec!["stop"];
        stop.extend(&names);
        self.step(&format!("removed {}", names.join(", ")), || systemctl(&stop))
    }

    fn if_empty(&mut self, dir: &Path) -> anyhow::Result<()> {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("read {}", dir.display())),
        };
        let names: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        // In a dry run the directory below is still there.
        if names.iter().all(|path| self.dry && path == Path::new(MANIFESTS) && is_empty(path)) {
            let shown = dir.display();
            return self.step(&format!("removed {shown}"), || {
                std::fs::remove_dir(dir).with_context(|| format!("remove {shown}"))
            });
        }
        for path in names.iter().filter(|path| path.as_path() != Path::new(MANIFESTS)) {
            print(&format!("{} is yours and stays\n", path.display()))?;
        }
        Ok(())
    }
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

/// What there still is of pods: unit files of this run directory's, whatever the node's name was, and pods' directories.
fn left(config: &Config) -> Vec<String> {
    let mut names = units(config);
    for root in [&config.directories.run, &config.directories.state] {
        let entries = std::fs::read_dir(root.join("pods")).into_iter().flatten().flatten();
        names.extend(entries.filter_map(|entry| entry.file_name().into_string().ok()));
    }
    names
}

fn units(config: &Config) -> Vec<String> {
    let entries = std::fs::read_dir(UNIT_DIR).into_iter().flatten().flatten();
    let run = config.directories.run.display().to_string();
    let ours = |name: &String| of_run_directory(UNIT_DIR, &run, name).is_some();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(ours).collect()
}

/// What would not go in its time.
fn force(config: &Config) -> anyhow::Result<()> {
    let units = units(config);
    if units.is_empty() {
        return Ok(());
    }
    tell(&format!("killing what did not stop: {}", units.join(", ")));
    let with = |verb: &[&'static str]| -> Vec<String> {
        verb.iter().map(|word| (*word).to_owned()).chain(units.iter().cloned()).collect()
    };
    for arguments in [with(&["kill", "--signal=SIGKILL"]), with(&["stop"]), with(&["reset-failed"])] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        // A unit that is not loaded is what is wanted.
        succeeds(&arguments);
    }
    for unit in &units {
        let path = Path::new(UNIT_DIR).join(unit);
        std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    systemctl(&["daemon-reload"])
}
