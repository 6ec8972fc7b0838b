//! `cargo xtask demo`: real pods under a real systemd, from their manifests to nothing left.

mod cluster;
mod place;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use e2e::eventually::wait_until;
use e2e::progress;
use e2e::sandbox::Systemd;

use crate::cargo;
use crate::node::Version;
use place::Place;

const AFTER_HELP: &str = "\
A systemd of its own boots in namespaces: the machine's is left alone, and all of it
is removed at the end, also after Ctrl-C. The first run builds and makes a root file
system (minutes); later ones take a minute. Needs root and the distribution's archive.";

/// A package has to be found, fetched and installed, whatever the mirror's mood.
const INSTALLED: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(30);

const PODS: [&str; 2] = ["uptimed", "while"];

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Demo {
    /// The systemd to boot: 252 is Debian 12's, 257 Debian 13's
    #[arg(long, value_enum, default_value = "257", conflicts_with = "host")]
    systemd: Version,
    /// On the machine's own systemd: installs the agent and a package there; the package stays
    #[arg(long)]
    host: bool,
    /// Through a real API server and kubectl; builds Kubernetes the first time (10 to 20 minutes)
    #[arg(long, conflicts_with = "host")]
    cluster: bool,
}

pub(crate) fn main(arguments: &Demo) -> Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        bail!("the demo boots a systemd and installs packages in it: run it as root");
    }
    place::catch_interrupts()?;
    if arguments.host {
        Place::check_host()?;
    }
    progress::line("the agent is built as it is developed: quick to build; `cargo xtask release` is what one installs");
    let binary = cargo::build_agent()?;
    if arguments.cluster {
        cluster::main(arguments.systemd.into())?;
        return Ok(ExitCode::SUCCESS);
    }
    let place = if arguments.host { Place::host(&binary)? } else { sandbox(arguments.systemd, binary)? };
    let shown = show(&place);
    // Also when something failed or was interrupted: nothing of it stays.
    let removed = place.remove();
    shown.and(removed)?;
    Ok(ExitCode::SUCCESS)
}

fn sandbox(systemd: Version, binary: std::path::PathBuf) -> Result<Place> {
    let systemd = Systemd::from(systemd);
    progress::during(&format!("booting a node with systemd {}", systemd.version()), || Place::sandbox(systemd, binary))
}

fn show(place: &Place) -> Result<()> {
    say("A node: one binary, installed as a service.")?;
    place.shell("systemctl --version | head -1")?;
    place.shell("systemk install")?;

    say("A pod whose image is a package of the distribution.")?;
    place.shell("cat uptimed.yaml")?;
    place.shell("systemk run --detach uptimed.yaml")?;

    say("And one of two shells with an emptyDir and a ConfigMap. What would become of it?")?;
    place.shell("cat while.yaml")?;
    place.shell("systemk plan while.yaml | head -45")?;
    place.shell("systemk run --detach while.yaml")?;
    progress::during("the package is fetched and installed, the pods start", || await_running(place))?;

    say("Both run: containers are services, pods are slices.")?;
    place.shell("systemk ps")?;
    place.shell("systemctl status --no-pager --lines 3 'systemk.default.uptimed.*'")?;
    place.shell("systemctl list-units --no-pager --no-legend 'systemk.*' 'kubepods*'")?;

    say("Logs are the journal.")?;
    wait_until("lines of the pod `while`", SOON, || {
        let log = place.output("systemk logs while -c reader").ok()?;
        (log.lines().count() >= 3 || place::interrupted()).then_some(())
    })?;
    place.shell("systemk logs while -c reader --tail 3")?;

    say("Killing the agent stops no pod.")?;
    place.shell("systemctl show -p MainPID 'systemk.default.uptimed.*' && systemctl kill -s KILL systemk")?;
    wait_until("the agent to be back", SOON, || {
        let active = place.output("systemctl is-active systemk").is_ok_and(|text| text.trim() == "active");
        (active && running(place) || place::interrupted()).then_some(())
    })?;
    place.shell("systemctl show -p MainPID 'systemk.default.uptimed.*' && systemk ps")?;

    say("Away with them: nothing is left.")?;
    place.shell("systemk rm uptimed while")?;
    wait_until("the pods to be gone", SOON, || {
        let list = place.output("systemk ps").ok()?;
        (!PODS.iter().any(|pod| list.contains(pod)) || place::interrupted()).then_some(())
    })?;
    place.shell("systemk ps")?;
    place.shell("systemctl list-units --all --no-pager --no-legend 'systemk.*.*' 'kubepods*-pod*' | wc -l")?;
    place.shell("ls /run/systemd/system | grep -c '^systemk[.]' || true")?;
    place.shell("ls -A /run/systemk/pods /var/lib/systemk/pods")?;
    let left = "systemctl list-units --all --no-legend 'systemk.*.*' 'kubepods*-pod*'; \
                ls -A /run/systemd/system | grep '^systemk[.]' || true; find /var/lib/systemk/pods -mindepth 1";
    let left = place.output(left)?;
    if !left.trim().is_empty() {
        bail!("something is left:\n{left}");
    }
    place.shell("systemk uninstall")
}

/// Waits until all pods run, showing what they wait for as it changes.
fn await_running(place: &Place) -> Result<()> {
    let mut last = String::new();
    wait_until("the pods to run", INSTALLED, || {
        let now = states(&place.output("systemk ps").unwrap_or_default());
        if now != last {
            progress::line(&format!("  {now}"));
            last = now;
        }
        (running(place) || place::interrupted()).then_some(())
    })
    .with_context(|| place.output("systemk ps; journalctl -u systemk -n 20 --no-pager -o cat").unwrap_or_default())?;
    place::check_interrupts()
}

fn running(place: &Place) -> bool {
    let states = place.output("systemk ps").map(|list| states(&list)).unwrap_or_default();
    PODS.iter().all(|pod| states.split(", ").any(|state| state.starts_with(pod) && state.ends_with(" Running")))
}

/// Name and status of each pod in what `systemk ps` printed: NAMESPACE NAME READY STATUS ...
fn states(list: &str) -> String {
    let words = list.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let states = words.filter_map(|words| Some(format!("{} {}", words.get(1)?, words.get(3)?)));
    states.collect::<Vec<_>>().join(", ")
}

fn say(text: &str) -> Result<()> {
    place::check_interrupts()?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "\n# {text}").and_then(|()| stdout.flush()).context("write to stdout")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_from_the_list() {
        let list = "NAMESPACE   NAME      READY   STATUS    RESTARTS   AGE\n\
                    default     uptimed   0/1     ContainerCreating   0          1s\n\
                    default     while     2/2     Running   0          5m\n";
        assert_eq!(states(list), "uptimed ContainerCreating, while Running");
        assert_eq!(states(""), "");
    }
}
