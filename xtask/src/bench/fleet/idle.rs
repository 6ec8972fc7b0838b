//! Nodes of which nothing is wanted: what they take.

use std::time::{Duration, Instant};

use anyhow::Result;
use e2e::fleet::Fleet;

use super::super::figures::{Figure, Peer, Samples};
use super::super::node::during_window;
use super::log::{self, Log};
use super::tcp::Sockets;
use super::{count, tell};

/// How long they are looked at: six heartbeats of each.
const WINDOW: Duration = Duration::from_secs(60);

/// One fleet. Samples are the nodes'.
pub(super) struct Idle {
    pss: Samples,
    rss: Samples,
    cpu: Samples,
    sent: Samples,
    received: Samples,
    connections: Samples,
    watches: f64,
    /// Of all nodes, per second.
    pub(super) requests: f64,
    leases: f64,
    lease_p99: f64,
    longest: f64,
    missed: f64,
    nodes: f64,
}

impl Idle {
    /// Looks at a fleet.
    pub(super) fn of(fleet: &Fleet) -> Result<Self> {
        let port = fleet.cluster.record().port;
        let before = fleet.nodes.iter().map(|node| node.usage()).collect::<Result<Vec<_>>>()?;
        let sockets_before = Sockets::to(port)?;
        let (from, begun) = (log::now(), Instant::now());
        during_window(WINDOW);
        let (to, seconds) = (log::now(), begun.elapsed().as_secs_f64());
        let sockets = Sockets::to(port)?;
        let (mut pss, mut rss, mut cpu) = <(Samples, Samples, Samples)>::default();
        let (mut sent, mut received, mut connections) = <(Samples, Samples, Samples)>::default();
        for (node, before) in fleet.nodes.iter().zip(before) {
            let usage = node.usage()?;
            pss.0.push(usage.pss / 1e6);
            rss.0.push(usage.rss / 1e6);
            cpu.0.push((usage.cpu_ns - before.cpu_ns) / 1e9 / seconds * 100.0);
            let traffic = sockets.since(&sockets_before, node.pid());
            sent.0.push(traffic.0 / seconds);
            received.0.push(traffic.1 / seconds);
            connections.0.push(count(traffic.2));
        }
        let log = Log::read(&fleet.cluster, from, to)?;
        tell(&log.kinds());
        let nodes = count(fleet.nodes.len());
        let leases: usize = log.beats().values().map(Vec::len).sum();
        let (longest, missed) = log.gaps();
        // A node without any is one whose heartbeats are all missed.
        let silent = fleet.nodes.len() - log.beats().len();
        Ok(Self {
            pss,
            rss,
            cpu,
            sent,
            received,
            connections,
            watches: count(log.watches()) / nodes,
            requests: count(log.requests().count()) / log.seconds(),
            leases: count(leases) / log.seconds() / nodes,
            lease_p99: log.lease_p99(),
            longest,
            missed: count(missed + silent),
            nodes,
        })
    }

    /// The figures of this fleet beside those of smaller ones.
    pub(super) fn figures(&self, smaller: &[(&'static str, Self)]) -> Vec<Figure> {
        let figure = |name: &'static str, unit: &'static str, target: &'static str, of: &dyn Fn(&Self) -> Samples| {
            let peers = smaller.iter().map(|(name, idle)| (*name, Peer::Measured(of(idle)))).collect();
            Figure { name, unit, ours: of(self), peers, target }
        };
        let one = |value: f64| Samples(vec![value]);
        vec![
            figure("fleet: PSS of an agent", "MB", "<= 15 MB", &|idle| idle.pss.clone()),
            figure("fleet: RSS of an agent", "MB", "", &|idle| idle.rss.clone()),
            figure("fleet: processor time of an agent", "% of a core", "<= 0.1 %", &|idle| idle.cpu.clone()),
            figure("fleet: requests of a node", "per s", "<= 0.113 per s (a kubelet)", &|idle| {
                one(idle.requests / idle.nodes)
            }),
            figure("fleet: renewals of its Lease", "per s", "0.1 per s (a kubelet)", &|idle| one(idle.leases)),
            figure("fleet: watches of a node", "count", "<= 5 (a kubelet)", &|idle| one(idle.watches)),
            figure("fleet: connections of a node", "count", "<= 4", &|idle| idle.connections.clone()),
            figure("fleet: bytes that a node sends", "B per s", "<= 56 B per s (a kubelet)", &|idle| idle.sent.clone()),
            figure("fleet: bytes that a node receives", "B per s", "<= 85 B per s (a kubelet)", &|idle| {
                idle.received.clone()
            }),
            figure("fleet: 99 of 100 Leases are renewed within", "ms", "", &|idle| one(idle.lease_p99)),
            figure("fleet: longest time between two heartbeats of a node", "s", "<= 20 s", &|idle| one(idle.longest)),
            figure("fleet: heartbeats that were left out", "count", "0", &|idle| one(idle.missed)),
        ]
    }
}
