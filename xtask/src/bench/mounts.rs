//! What mounts of the host, which are none of a pod's, cost its start.

use anyhow::Result;
use e2e::progress;
use e2e::sandbox::Systemd;

use super::figures::{Figure, Peer, Samples};
use super::node::{LONG, Node};
use super::started::{Started, now};
use super::{ROUNDS, manifests};

/// How many there are.
const COUNTS: [usize; 3] = [0, 100, 300];

pub(super) fn measure(systemd: Systemd) -> Result<Vec<Figure>> {
    let node = Node::start(systemd, "mounts")?;
    let started = Started::new()?;
    let mut watch = node.watch()?;
    let mut samples = [(); 3].map(|()| Samples::default());
    node.sandbox.sh("mkdir -p /mnt/source; mkdir -p /mnt/{1..300}")?;
    for round in 0..ROUNDS {
        for (count, samples) in COUNTS.iter().zip(&mut samples) {
            let change = format!(
                "for n in $(seq 1 300); do if [ $n -le {count} ]; then mount --bind /mnt/source /mnt/$n; fi; done"
            );
            node.sandbox.sh(&change)?;
            for again in 0..3 {
                let name = format!("mounts-{round}-{count}-{again}-");
                let manifest = manifests::native(&format!("{name}pod"), &started.script(&name)?);
                let clock = now();
                node.apply("one.yaml", &manifest)?;
                watch.running(&name, 1, LONG)?;
                samples.0.push((started.wait(&name, 1, LONG)? - clock) * 1000.0);
                node.remove("one.yaml")?;
                watch.gone(&name, LONG)?;
            }
            node.sandbox.sh("for n in $(seq 1 300); do if mountpoint -q /mnt/$n; then umount /mnt/$n; fi; done")?;
        }
        progress::line(&format!("foreign mounts: round {} of {ROUNDS}", round + 1));
    }
    let [none, hundred, more] = samples;
    let figure = |name, ours, target| Figure {
        name,
        unit: "ms",
        ours,
        peers: vec![("no foreign mounts", Peer::Measured(none.clone()))],
        target,
    };
    Ok(vec![
        figure("one pod started with 100 foreign mounts of the host", hundred, ""),
        figure("one pod started with 300 foreign mounts of the host", more, "<= 1.6x"),
    ])
}
