//! Many nodes behind one API server: what each takes of it and of the machine while nothing happens, what a pod costs, and what
//! all of them do at once when the API server was away.

mod idle;
mod log;
mod outage;
mod tcp;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use e2e::control_plane::{ControlPlane, ControlPlaneSpec};
use e2e::fleet::Fleet;
use e2e::{progress, release};

use self::idle::Idle;
use self::log::Log;
use super::figures::{Figure, Samples};
use super::node::{LONG, during_window};

/// Pods of each node.
const PODS: usize = 3;

/// So many nodes are measured before all of them are there: what grows with the fleet is seen by it.
const SMALLER: [(usize, &str); 2] = [(1, "1 node"), (50, "50 nodes")];

fn count(value: usize) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}

fn figure(name: &'static str, unit: &'static str, ours: f64, target: &'static str) -> Figure {
    Figure { name, unit, ours: Samples(vec![ours]), peers: Vec::new(), target }
}

/// `agent`: a binary; without one that of the release is built.
pub(super) fn measure(nodes: usize, agent: Option<&Path>) -> Result<Vec<Figure>> {
    e2e::kubernetes::directory()?;
    let binary = agent.map_or_else(release::binary, |path| Ok(path.to_owned()))?;
    let spec = ControlPlaneSpec::for_test("fleet").audited();
    let cluster = progress::during("starting a control plane", || ControlPlane::start(spec))?;
    let mut fleet = Fleet::new(cluster, &binary)?;
    let mut smaller = Vec::new();
    for (size, name) in SMALLER.into_iter().filter(|(size, _)| *size < nodes) {
        smaller.push((name, grown(&mut fleet, size)?));
    }
    let idle = grown(&mut fleet, nodes)?;
    let mut figures = idle.figures(&smaller);
    figures.push(pods(&fleet)?);
    figures.extend(outage::measure(&mut fleet, idle.requests)?);
    Ok(figures)
}

/// Makes the fleet that large, and looks at it when nothing happens any more.
fn grown(fleet: &mut Fleet, nodes: usize) -> Result<Idle> {
    progress::during(&format!("starting {nodes} nodes"), || {
        fleet.grow(nodes)?;
        fleet.wait_ready(LONG)
    })?;
    // Every agent has made its Lease and begun all of its watches by then.
    during_window(Duration::from_secs(15));
    progress::during(&format!("{nodes} nodes, nothing happens"), || Idle::of(fleet))
}

/// Requests of the nodes for each pod that starts, without heartbeats.
fn pods(fleet: &Fleet) -> Result<Figure> {
    let all = fleet.nodes.len() * PODS;
    let from = log::now();
    progress::during(&format!("starting {all} pods"), || {
        fleet.run_pods("pod", PODS)?;
        fleet.wait_running(all, LONG)
    })?;
    // Their events are the last that is said of them.
    during_window(Duration::from_secs(10));
    let log = Log::read(&fleet.cluster, from, log::now())?;
    let kinds = log.kinds();
    tell(&kinds);
    let once = fleet.starts().len();
    if once != all {
        bail!("{once} units were started for {all} pods");
    }
    let heartbeats: usize = kinds.iter().filter(|(kind, _)| kind.ends_with(" leases")).map(|(_, count)| count).sum();
    let requests = count(log.requests().count() - heartbeats) / count(all);
    let name = "fleet: requests of a node for each pod that starts, 3 at once on every node";
    Ok(figure(name, "count", requests, "<= 5 (0.4x a kubelet's 12.5)"))
}

fn tell(kinds: &std::collections::BTreeMap<String, usize>) {
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    progress::line(&format!("  {}", kinds.join(", ")));
}
