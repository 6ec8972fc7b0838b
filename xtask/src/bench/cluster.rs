//! A node behind a real API server: one pod, a hundred pods, what it weighs, and how soon it is back; seen by a watcher at
//! the API server, who has nothing to do with the node.

mod pods;
mod requests;
mod server;
mod times;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::control_plane::{ControlPlane, ControlPlaneSpec};
use e2e::member::Member;
use e2e::progress;
use e2e::release;
use e2e::sandbox::Systemd;

use self::pods::{Pods, pod};
use self::requests::{Shares, Since};
use self::server::{Kind, Server, is_ready};
use super::ROUNDS;
use super::figures::{Figure, Peer, Samples};
use super::node::{Agent, during_window};
use super::podman::Podman;
use super::started::Started;

const PODS: usize = 100;

/// Pods of it are nobody's: what the API server takes by itself.
const NOWHERE: &str = "nowhere";

/// A namespace for them: who watches the node's sees none of these.
const ELSEWHERE: &str = "elsewhere";

/// `agent`: a binary; without one that of the release is built.
pub(super) fn measure(systemd: Systemd, agent: Option<&Path>) -> Result<Vec<Figure>> {
    e2e::kubernetes::directory()?;
    let binary = agent.map_or_else(release::binary, |path| Ok(path.to_owned()))?;
    let spec = ControlPlaneSpec::for_test("bench").audited();
    let cluster = progress::during("starting a control plane", || ControlPlane::start(spec))?;
    let member = progress::during(&format!("booting a node with systemd {}", systemd.version()), || {
        Member::prepare_with(&binary, Arc::new(cluster), systemd, "bench", "")
    })?;
    let server = Server::connect(&member.cluster.admin_kubeconfig())?;
    let mut figures = vec![ready(&member, &server)?];
    let started = Started::new()?;
    figures.push(one_pod(&member, &server, &started)?);
    figures.push(weight(&member, "cluster: idle, 0 pods: PSS", "<= 15 MB")?);
    figures.extend(many(&member, &server)?);
    Ok(figures)
}

fn figure(name: &'static str, unit: &'static str, ours: Samples, target: &'static str) -> Figure {
    Figure { name, unit, ours, peers: Vec::new(), target }
}

fn count(value: usize) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}

/// From the agent's start to a Node that says Ready, by the API server's word.
fn ready(member: &Member, server: &Server) -> Result<Figure> {
    let mut samples = Samples::default();
    for _ in 0..ROUNDS {
        member.sandbox.run(&["systemctl", "stop", "systemk"])?;
        server.delete_node(&member.name)?;
        let mut watch = server.watch(Kind::Nodes, None, &format!("metadata.name={}", member.name))?;
        member.sandbox.run(&["systemctl", "start", "--no-block", "systemk"])?;
        let at = watch.wait("the node to be ready", is_ready)?;
        samples.0.push(times::since_start(member, at)?);
    }
    Ok(figure("cluster: agent started -> Node Ready at a watcher", "s", samples, "<= 0.25 s"))
}

fn one_pod(member: &Member, server: &Server, started: &Started) -> Result<Figure> {
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    let mut podman = progress::during("preparing podman", || Podman::start(started));
    for round in 0..ROUNDS * 2 {
        let name = format!("one-{round}");
        let mut pods = Pods::watch(server, &member.name)?;
        let (asked, _) = server.create(&member.name, vec![pod(&member.name, &member.name, &name)])?;
        ours.0.push((pods.wait_running(&name, 1)? - asked).as_secs_f64() * 1000.0);
        server.delete_pods(&member.name, None)?;
        pods.wait_gone(&name)?;
        if let Ok(podman) = &mut podman {
            theirs.0.push(podman.round(started)?.1);
        }
    }
    let peer = match &podman {
        Ok(_) => Peer::Measured(theirs),
        Err(error) => Peer::Missing(format!("{error:#}").lines().next().unwrap_or_default().to_owned()),
    };
    let name = "cluster: one pod, asked for -> Running at a watcher";
    Ok(Figure { name, unit: "ms", ours, peers: vec![("podman kube play", peer)], target: "<= 0.25x podman" })
}

#[derive(Default)]
struct Rounds {
    start: Samples,
    rate: Samples,
    /// The same pods, which nobody runs.
    made: Samples,
    gone: Samples,
    /// The same pods, of which nobody has to be told.
    removed: Samples,
    beat: Samples,
    requests: Samples,
}

fn many(member: &Member, server: &Server) -> Result<Vec<Figure>> {
    let mut rounds = Rounds::default();
    let mut idle = Vec::new();
    let namespace = &member.name;
    member.kubectl().run(&["create", "namespace", ELSEWHERE])?;
    member.kubectl().wait_for(
        "its account",
        super::node::LONG,
        &["serviceaccount", "default", "-n", ELSEWHERE],
        |_| true,
    )?;
    for round in 0..ROUNDS {
        let name = format!("many-{round}-");
        let all = |namespace: &str, node: &str| -> Vec<_> {
            (0..PODS).map(|number| pod(namespace, node, &format!("{name}{number}"))).collect()
        };
        rounds.floor(server, &name, all(ELSEWHERE, NOWHERE))?;

        let mut pods = Pods::watch(server, namespace)?;
        let (since, shares) = (Since::now(), Shares::now(member)?);
        let (asked, _) = server.create(namespace, all(namespace, namespace))?;
        let took = (pods.wait_running(&name, PODS)? - asked).as_secs_f64();
        shares.tell("100 pods that start", member)?;
        rounds.start.0.push(took);
        rounds.rate.0.push(count(PODS) / took);
        let requests = since.settled(member)?;
        rounds.requests.0.push(count(requests.len()) / count(PODS));
        requests::tell(&requests);
        if round == 0 {
            idle.push(weight(member, "cluster: idle, 100 pods: PSS", "<= 40 MB")?);
            idle.push(connections(member)?);
        }
        let restarted = Since::now();
        rounds.beat.0.push(heartbeat(member, server)?);
        // A new agent asks for the tokens of all pods.
        restarted.settled(member)?;
        let (since, shares) = (Since::now(), Shares::now(member)?);
        let begun = server.delete_pods(namespace, None)?;
        rounds.gone.0.push((pods.wait_gone(&name)? - begun).as_secs_f64());
        shares.tell("100 pods that are deleted", member)?;
        requests::tell(&since.settled(member)?);
        progress::line(&format!("100 pods of a cluster: round {} of {ROUNDS}", round + 1));
    }
    let mut figures = rounds.figures();
    figures.splice(2..2, idle);
    Ok(figures)
}

impl Rounds {
    /// What the API server takes for as many pods of which no node hears: to make them, and to delete them.
    fn floor(&mut self, server: &Server, name: &str, all: Vec<serde_json::Value>) -> Result<()> {
        let mut pods = Pods::watch(server, ELSEWHERE)?;
        let (asked, made) = server.create(ELSEWHERE, all)?;
        self.made.0.push((made - asked).as_secs_f64());
        pods.wait_seen(name, PODS)?;
        let begun = server.delete_pods(ELSEWHERE, Some(0))?;
        self.removed.0.push((pods.wait_gone(name)? - begun).as_secs_f64());
        Ok(())
    }

    fn figures(self) -> Vec<Figure> {
        vec![
            Figure {
                name: "cluster: 100 pods, first asked for -> all Running at a watcher",
                unit: "s",
                ours: self.start,
                peers: vec![("the API server alone makes them", Peer::Measured(self.made))],
                target: "<= 2.5 s",
            },
            figure("cluster: 100 pods at once: rate", "pods per s", self.rate, ">= 40 per s"),
            figure("cluster: requests of the node for each pod that starts", "count", self.requests, "<= 6"),
            figure(
                "cluster: agent killed at 100 pods, started again -> fresh heartbeat at a watcher",
                "s",
                self.beat,
                "<= 0.3 s",
            ),
            Figure {
                name: "cluster: delete 100 pods -> all gone at a watcher",
                unit: "s",
                ours: self.gone,
                peers: vec![("the API server alone deletes them", Peer::Measured(self.removed))],
                target: "<= 2 s",
            },
        ]
    }
}

fn weight(member: &Member, name: &'static str, target: &'static str) -> Result<Figure> {
    let agent = Agent::of(&member.sandbox)?;
    let mut samples = Samples::default();
    for _ in 0..ROUNDS {
        during_window(Duration::from_secs(2));
        samples.0.push(agent.pss_mb()?);
    }
    Ok(figure(name, "MB", samples, target))
}

/// TCP connections of the agent that are established with the API server.
fn connections(member: &Member) -> Result<Figure> {
    let agent = Agent::of(&member.sandbox)?;
    let port = member.cluster.record().port;
    let table = fs::read_to_string("/proc/net/tcp").context("read the TCP sockets")?;
    // Remote address, state 01 (established) and inode are the third, fourth and tenth word.
    let suffix = format!(":{port:04X}");
    let sockets: Vec<&str> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.get(2).is_some_and(|w| w.ends_with(&suffix)) && words.get(3) == Some(&"01"))
        .filter_map(|words| words.get(9).copied())
        .collect();
    let own = agent.sockets()?.into_iter().filter(|inode| sockets.contains(&inode.as_str())).count();
    Ok(figure("cluster: connections to the API server at 100 pods", "count", Samples(vec![count(own)]), "<= 4"))
}

/// Seconds from the start of the agent that follows a killed one to the next renewal of its lease.
fn heartbeat(member: &Member, server: &Server) -> Result<f64> {
    let mut watch = server.watch(Kind::Leases, Some("kube-node-lease"), &format!("metadata.name={}", member.name))?;
    let mut last = None;
    watch.wait("the lease", |lease| {
        last.clone_from(&lease.spec.renew_time);
        last.is_some()
    })?;
    Agent::of(&member.sandbox)?.kill()?;
    let killed = Instant::now();
    let at =
        watch.wait("a fresh heartbeat", |lease| lease.spec.renew_time.is_some() && lease.spec.renew_time != last)?;
    progress::line(&format!("  killed -> fresh heartbeat: {:.2} s", (at - killed).as_secs_f64()));
    times::since_start(member, at)
}
