//! The API server goes away, for a minute and for a moment: what all nodes ask for when it is back.

use std::time::Duration;

use anyhow::Result;
use e2e::fleet::Fleet;
use e2e::progress;

use super::super::figures::{Figure, Peer, Samples};
use super::super::node::{LONG, during_window};
use super::log::{self, Log};
use super::{count, figure, tell};

/// How long it is away.
const AWAY: Duration = Duration::from_secs(60);

/// How long the nodes are looked at when it is back: longer than any of them waits for anything.
const AFTER: Duration = Duration::from_secs(75);

/// What happened after the API server was back.
struct Back {
    log: Log,
    /// When it first answered.
    up: f64,
}

fn back(fleet: &mut Fleet, away: Duration) -> Result<Back> {
    fleet.cluster.kill_api_server()?;
    during_window(away);
    let from = log::now();
    fleet.cluster.start_api_server()?;
    progress::during("watching the nodes come back", || {
        during_window(AFTER);
        fleet.wait_ready(LONG)
    })?;
    let log = Log::read(&fleet.cluster, from, log::now())?;
    let up = log.first_answer();
    tell(&log.kinds());
    progress::line("  of these within the worst 10 s, and their answers:");
    tell(&log.worst_kinds());
    Ok(Back { log, up })
}

/// `steady`: requests per second of the whole fleet when nothing happens.
pub(super) fn measure(fleet: &mut Fleet, steady: f64) -> Result<Vec<Figure>> {
    progress::line("the API server is away for a minute");
    let minute = back(fleet, AWAY)?;
    let (last, beat) = minute.log.all_beat();
    let (given_up, put_right) = minute.log.given_up();
    let mut figures = vec![
        Figure {
            name: "fleet: API server back after 60 s: requests of all nodes in the worst 10 s",
            unit: "per s",
            ours: Samples(vec![minute.log.peak()]),
            peers: vec![("nothing happens", Peer::Measured(Samples(vec![steady])))],
            target: "<= 3x",
        },
        figure("fleet: the same: until the last node's Lease is renewed", "s", last - minute.up, "<= 20 s"),
        figure("fleet: the same: nodes without a heartbeat", "count", count(fleet.nodes.len() - beat), "0"),
        figure(
            "fleet: the same: lists that the API server does not answer from memory",
            "count",
            count(minute.log.plain_lists()),
            "0",
        ),
        figure("fleet: the same: nodes that a controller gave up", "count", count(given_up), ""),
    ];
    if given_up > 0 {
        let name = "fleet: the same: until the last of these has said otherwise";
        figures.push(figure(name, "s", put_right - minute.up, ""));
    }
    progress::line(
        "the API server is away for a moment: what it remembered of changes is gone, and every watch ends with 410",
    );
    let before = fleet.starts();
    let moment = back(fleet, Duration::ZERO)?;
    let relists = moment.log.relists();
    let most = relists.values().copied().max().unwrap_or(0);
    let nodes = relists.keys().map(|(node, _)| node).collect::<std::collections::BTreeSet<_>>().len();
    let more: usize = fleet.starts().values().sum::<usize>() - before.values().sum::<usize>();
    figures.push(figure(
        "fleet: all watches end at once with 410: nodes that ask for all there is",
        "count",
        count(nodes),
        "",
    ));
    figures.push(figure("fleet: the same: how often a node does, for one kind, at most", "count", count(most), "<= 1"));
    figures.push(figure("fleet: the same: units that are started again", "count", count(more), "0"));
    figures.push(Figure {
        name: "fleet: the same: requests of all nodes in the worst 10 s",
        unit: "per s",
        ours: Samples(vec![moment.log.peak()]),
        peers: vec![("nothing happens", Peer::Measured(Samples(vec![steady])))],
        target: "<= 3x",
    });
    Ok(figures)
}
