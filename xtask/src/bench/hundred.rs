//! A hundred pods with three volumes each: all at once, idle, after the agent was killed, and away again.

use std::time::{Duration, Instant};

use anyhow::Result;
use e2e::progress;
use e2e::sandbox::Systemd;

use super::figures::{Figure, Peer, Samples};
use super::node::{LONG, Node, during_window};
use super::podman::Podman;
use super::started::{Started, now};
use super::{ROUNDS, manifests};

const PODS: usize = 100;

/// One of podman's takes minutes.
const PODMAN_ROUNDS: usize = 2;

/// Windows of an idle agent; together the 20 s that the figure is over.
const IDLE: (usize, Duration) = (5, Duration::from_secs(4));

#[derive(Default)]
struct Rounds {
    running: Samples,
    rate: Samples,
    gone: Samples,
    current: Samples,
    bare_start: Samples,
    bare_rate: Samples,
    bare_stop: Samples,
    podman_start: Samples,
    podman_rate: Samples,
    podman_stop: Samples,
    /// Why there is no podman.
    podman: Option<String>,
}

pub(super) fn measure(systemd: Systemd) -> Result<Vec<Figure>> {
    let node = Node::start(systemd, "hundred")?;
    let started = Started::new()?;
    let mut watch = node.watch()?;
    node.apply("objects.yaml", &manifests::OBJECTS.join("---\n"))?;
    let script = started.script("bare-")?.replace('$', "$$");
    node.sandbox
        .write_file("/etc/systemd/system/bare@.service", format!("[Service]\nExecStart=/bin/bash -c '{script}'\n"))?;
    node.sandbox.run(&["systemctl", "daemon-reload"])?;

    let mut figures = idle(&node, "idle, 0 pods: PSS", "idle, 0 pods: CPU", "<= 12 MB")?;
    let mut podman = progress::during("preparing podman", || Podman::start(&started));
    let missing = podman.as_ref().err().map(|error| format!("{error:#}").lines().next().unwrap_or_default().to_owned());
    let mut rounds = Rounds { podman: missing, ..Rounds::default() };
    for round in 0..ROUNDS {
        let name = format!("many-{round}-");
        let texts: Vec<String> = (0..PODS)
            .map(|number| Ok(manifests::with_volumes(&format!("{name}{number}"), &started.script(&name)?)))
            .collect::<Result<_>>()?;
        let begun = Instant::now();
        for (number, text) in texts.iter().enumerate() {
            node.apply(&format!("many-{number}.yaml"), text)?;
        }
        let took = (watch.running(&name, PODS, LONG)? - begun).as_secs_f64();
        rounds.running.0.push(took);
        rounds.rate.0.push(PODS as f64 / took);
        started.wait(&name, PODS, LONG)?;
        if round == 0 {
            figures.extend(idle(&node, "idle, 100 pods: PSS", "idle, 100 pods: CPU", "<= 30 MB")?);
        }

        node.kill_agent()?;
        let killed = Instant::now();
        let late = format!("late-{round}-");
        node.apply("late.yaml", &manifests::native(&format!("{late}pod"), &started.script(&late)?))?;
        rounds.current.0.push((watch.running(&late, 1, LONG)? - killed).as_secs_f64() * 1000.0);
        started.wait(&late, 1, LONG)?;
        node.remove("late.yaml")?;
        watch.gone(&late, LONG)?;

        let begun = Instant::now();
        for number in 0..PODS {
            node.remove(&format!("many-{number}.yaml"))?;
        }
        rounds.gone.0.push((watch.gone(&name, LONG)? - begun).as_secs_f64());
        bare(&node, &started, &mut rounds)?;
        if let (Ok(podman), true) = (&mut podman, round < PODMAN_ROUNDS) {
            let played = progress::during("100 pods: podman", || podman.many(&started, PODS))?;
            rounds.podman_start.0.push(played.0);
            rounds.podman_rate.0.push(PODS as f64 / played.0);
            rounds.podman_stop.0.push(played.1);
        }
        progress::line(&format!("100 pods: round {} of {ROUNDS}", round + 1));
    }
    figures.extend(rounds.figures());
    Ok(figures)
}

impl Rounds {
    fn figures(self) -> [Figure; 4] {
        let podman = |samples| match &self.podman {
            None => ("podman kube play", Peer::Measured(samples)),
            Some(reason) => ("podman kube play", Peer::Missing(reason.clone())),
        };
        [
            Figure {
                name: "100 pods at once, 3 volumes each -> all Running",
                unit: "s",
                ours: self.running,
                peers: vec![("100 bare units", Peer::Measured(self.bare_start)), podman(self.podman_start)],
                target: "<= 2 s",
            },
            Figure {
                name: "100 pods at once: rate",
                unit: "pods per s",
                ours: self.rate,
                peers: vec![("100 bare units", Peer::Measured(self.bare_rate)), podman(self.podman_rate)],
                target: ">= 50 per s",
            },
            Figure {
                name: "delete 100 pods -> all gone",
                unit: "s",
                ours: self.gone,
                peers: vec![("stop of 100 bare units", Peer::Measured(self.bare_stop)), podman(self.podman_stop)],
                target: "<= 1.5 s",
            },
            Figure {
                name: "agent killed at 100 pods -> a new pod Running (100 ms of it RestartSec=)",
                unit: "ms",
                ours: self.current,
                peers: Vec::new(),
                target: "",
            },
        ]
    }
}

/// The same programs as units without anything around them.
fn bare(node: &Node, started: &Started, rounds: &mut Rounds) -> Result<()> {
    let units = format!("bare@{{1..{PODS}}}.service");
    let clock = now();
    node.sandbox.sh(&format!("systemctl start --no-block {units}"))?;
    let took = started.wait("bare-", PODS, LONG)? - clock;
    rounds.bare_start.0.push(took);
    rounds.bare_rate.0.push(PODS as f64 / took);
    let begun = Instant::now();
    node.sandbox.sh(&format!("systemctl stop {units}"))?;
    rounds.bare_stop.0.push(begun.elapsed().as_secs_f64());
    Ok(())
}

/// Memory and processor time of an agent that has nothing to do.
fn idle(node: &Node, memory: &'static str, processor: &'static str, target: &'static str) -> Result<Vec<Figure>> {
    let agent = node.agent()?;
    let (windows, window) = IDLE;
    let (mut pss, mut cpu) = (Samples::default(), Samples::default());
    progress::during(&format!("an idle agent for {} s", window.as_secs() * windows as u64), || {
        // Work that was begun may end first.
        during_window(window);
        for _ in 0..windows {
            let (before, begun) = (agent.cpu_ns()?, Instant::now());
            during_window(window);
            let spent = agent.cpu_ns()? - before;
            cpu.0.push(spent / 1e9 / begun.elapsed().as_secs_f64() * 100.0);
            pss.0.push(agent.pss_mb()?);
        }
        Ok(())
    })?;
    Ok(vec![
        Figure { name: memory, unit: "MB", ours: pss, peers: Vec::new(), target },
        Figure { name: processor, unit: "% of a core", ours: cpu, peers: Vec::new(), target: "" },
    ])
}
