//! One pod of one host binary: from its manifest to its program, and to the report that it runs.

use std::time::Instant;

use anyhow::{Context, Result};
use e2e::progress;
use e2e::sandbox::Systemd;

use super::figures::{Figure, Peer, Samples};
use super::node::{LONG, Node};
use super::podman::Podman;
use super::started::{Started, now};
use super::{ROUNDS, manifests};

/// A service that systemd starts when a file appears: the same request, with nothing between it and systemd.
const PATH_UNIT: &str = "[Path]\nPathExists=/run/floor/%i\n";

pub(super) fn measure(systemd: Systemd) -> Result<Vec<Figure>> {
    let node = Node::start(systemd, "one")?;
    let started = Started::new()?;
    let mut watch = node.watch()?;
    let podman = progress::during("preparing podman", || Podman::start(&started));
    let mut podman = podman.map_err(|error| format!("{error:#}").lines().next().unwrap_or_default().to_owned());
    prepare_bare(&node, &started)?;

    let (mut to_start, mut to_running) = (Samples::default(), Samples::default());
    let (mut bare, mut podman_start, mut podman_running) = <(Samples, Samples, Samples)>::default();
    for round in 0..ROUNDS * 2 {
        let name = format!("one-{round}-");
        let manifest = manifests::native(&format!("{name}pod"), &started.script(&name)?);
        let (begun, clock) = (Instant::now(), now());
        node.apply("one.yaml", &manifest)?;
        let running = watch.running(&name, 1, LONG)?;
        to_start.0.push((started.wait(&name, 1, LONG)? - clock) * 1000.0);
        to_running.0.push((running - begun).as_secs_f64() * 1000.0);
        node.remove("one.yaml")?;
        watch.gone(&name, LONG)?;

        bare.0.push(bare_round(&node, &started, round)?);

        if let Ok(podman) = &mut podman {
            let (start, running) = podman.round(&started)?;
            podman_start.0.push(start);
            podman_running.0.push(running);
        }
        progress::line(&format!("one pod: round {} of {}", round + 1, ROUNDS * 2));
    }
    let against = |samples: Samples| match &podman {
        Ok(_) => Peer::Measured(samples),
        Err(reason) => Peer::Missing(reason.clone()),
    };
    Ok(vec![
        Figure {
            name: "one pod: manifest written -> program started",
            unit: "ms",
            ours: to_start,
            peers: vec![("bare path unit", Peer::Measured(bare)), ("podman kube play", against(podman_start))],
            target: "<= 0.25x podman",
        },
        Figure {
            name: "one pod: manifest written -> reported Running",
            unit: "ms",
            ours: to_running,
            peers: vec![("podman kube play", against(podman_running))],
            target: "<= 0.25x podman",
        },
    ])
}

/// Puts the units of [`bare_round`] in place.
fn prepare_bare(node: &Node, started: &Started) -> Result<()> {
    let script = started.script("floor-%i-")?.replace('$', "$$");
    let service = format!("[Service]\nExecStart=/bin/bash -c '{script}'\n");
    node.sandbox.write_file("/etc/systemd/system/floor@.path", PATH_UNIT)?;
    node.sandbox.write_file("/etc/systemd/system/floor@.service", service)?;
    node.sandbox.sh("mkdir -p /run/floor; systemctl daemon-reload").map(drop)
}

/// Milliseconds from the file to the program that systemd starts for it.
fn bare_round(node: &Node, started: &Started, round: usize) -> Result<f64> {
    node.sandbox.run(&["systemctl", "start", &format!("floor@{round}.path")])?;
    let clock = now();
    node.sandbox.write_file(format!("/run/floor/{round}"), "")?;
    let at = started.wait(&format!("floor-{round}-"), 1, LONG).context("the bare unit")?;
    node.sandbox.sh(&format!(
        "systemctl stop floor@{round}.path; rm /run/floor/{round}; systemctl stop floor@{round}.service"
    ))?;
    Ok((at - clock) * 1000.0)
}
