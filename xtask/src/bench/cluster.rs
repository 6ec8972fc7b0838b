//! A node behind a real API server: one pod, a hundred pods, what it weighs, and how soon it is back; seen by a watcher at
//! the API server, who has nothing to do with the node.

use std::collections::HashMap;
use std::fs;
use std::io::BufReader;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use e2e::control_plane::{ControlPlane, ControlPlaneSpec};
use e2e::eventually::wait_until;
use e2e::member::Member;
use e2e::progress;
use e2e::release;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::ROUNDS;
use super::figures::{Figure, Peer, Samples};
use super::node::{Agent, LONG, during_window};
use super::podman::Podman;
use super::started::Started;

const PODS: usize = 100;

/// The pod by which a watch is known to have begun.
const MARKER: &str = "marker";

pub(super) fn measure(systemd: Systemd) -> Result<Vec<Figure>> {
    e2e::kubernetes::directory()?;
    let cluster =
        progress::during("starting a control plane", || ControlPlane::start(ControlPlaneSpec::for_test("bench")))?;
    let binary = release::binary()?;
    let member = progress::during(&format!("booting a node with systemd {}", systemd.version()), || {
        Member::prepare_with(&binary, Arc::new(cluster), systemd, "bench", "")
    })?;
    let mut figures = vec![ready(&member)?];
    let started = Started::new()?;
    figures.push(one_pod(&member, &started)?);
    figures.push(weight(&member, "cluster: idle, 0 pods: PSS", "<= 15 MB")?);
    figures.extend(many(&member)?);
    Ok(figures)
}

fn figure(name: &'static str, unit: &'static str, ours: Samples, target: &'static str) -> Figure {
    Figure { name, unit, ours, peers: Vec::new(), target }
}

/// From `systemctl start` to a Node that says Ready, by the API server's word.
fn ready(member: &Member) -> Result<Figure> {
    let mut samples = Samples::default();
    let kubectl = member.kubectl();
    for _ in 0..ROUNDS {
        member.sandbox.run(&["systemctl", "stop", "systemk"])?;
        kubectl.run(&["delete", "node", &member.name, "--ignore-not-found"])?;
        let mut watch =
            Stream::start(member, &["nodes", "--field-selector", &format!("metadata.name={}", member.name)])?;
        let begun = Instant::now();
        member.sandbox.run(&["systemctl", "start", "--no-block", "systemk"])?;
        let at = watch.wait("the node to be ready", |event| {
            let conditions = event["object"]["status"]["conditions"].as_array();
            conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
        })?;
        samples.0.push((at - begun).as_secs_f64());
    }
    Ok(figure("cluster: agent started -> Node Ready", "s", samples, "<= 0.25 s"))
}

fn pod(member: &Member, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": member.name},
        "spec": {
            "nodeName": member.name, "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "main", "image": "/bin/bash", "command": ["/bin/bash", "-c", "exec sleep infinity"]}],
        },
    })
}

fn one_pod(member: &Member, started: &Started) -> Result<Figure> {
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    let mut podman = progress::during("preparing podman", || Podman::start(started));
    for round in 0..ROUNDS * 2 {
        let name = format!("one-{round}");
        let mut watch = Watch::start(member)?;
        member.kubectl().apply(&pod(member, &name).to_string())?;
        let (created, running) = watch.running(&name, 1)?;
        ours.0.push((running - created).as_secs_f64() * 1000.0);
        member.kubectl().run(&["delete", "pod", &name, "-n", &member.name, "--wait=false"])?;
        watch.gone(&name)?;
        if let Ok(podman) = &mut podman {
            theirs.0.push(podman.round(started)?.1);
        }
    }
    let peer = match &podman {
        Ok(_) => Peer::Measured(theirs),
        Err(error) => Peer::Missing(format!("{error:#}").lines().next().unwrap_or_default().to_owned()),
    };
    let peers = vec![("podman kube play", peer)];
    let name = "cluster: one pod, created -> Running at a watcher";
    Ok(Figure { name, unit: "ms", ours, peers, target: "<= 0.25x podman" })
}

fn many(member: &Member) -> Result<Vec<Figure>> {
    let (mut start, mut gone, mut beat) = <(Samples, Samples, Samples)>::default();
    let mut figures = Vec::new();
    for round in 0..ROUNDS {
        let name = format!("many-{round}-");
        let mut watch = Watch::start(member)?;
        let pods: Vec<Value> = (0..PODS).map(|number| pod(member, &format!("{name}{number}"))).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string();
        member.kubectl().output_with(LONG, &["create", "-f", "-"], &list)?.ok()?;
        let (created, running) = watch.running(&name, PODS)?;
        start.0.push((running - created).as_secs_f64());
        if round == 0 {
            figures.push(weight(member, "cluster: idle, 100 pods: PSS", "<= 40 MB")?);
            figures.push(connections(member)?);
        }
        beat.0.push(heartbeat(member)?);
        let begun = Instant::now();
        // One request; kubectl would ask for each pod's deletion by itself.
        let path = format!("/api/v1/namespaces/{}/pods", member.name);
        member.kubectl().run(&["delete", "--raw", &path])?;
        gone.0.push((watch.gone(&name)? - begun).as_secs_f64());
        progress::line(&format!("100 pods of a cluster: round {} of {ROUNDS}", round + 1));
    }
    figures.insert(0, figure("cluster: 100 pods, first created -> all Running at a watcher", "s", start, "<= 2.5 s"));
    figures.push(figure("cluster: delete 100 pods -> all gone at a watcher", "s", gone, "<= 2 s"));
    figures.push(figure(
        "cluster: agent killed at 100 pods -> fresh heartbeat (100 ms of it RestartSec=)",
        "s",
        beat,
        "<= 0.3 s",
    ));
    Ok(figures)
}

fn agent(member: &Member) -> Result<Agent> {
    Agent::of(&member.sandbox)
}

fn weight(member: &Member, name: &'static str, target: &'static str) -> Result<Figure> {
    let agent = agent(member)?;
    let mut samples = Samples::default();
    for _ in 0..ROUNDS {
        during_window(Duration::from_secs(2));
        samples.0.push(agent.pss_mb()?);
    }
    Ok(figure(name, "MB", samples, target))
}

/// TCP connections of the agent that are established with the API server.
fn connections(member: &Member) -> Result<Figure> {
    let agent = agent(member)?;
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
    let count = f64::from(u32::try_from(own).unwrap_or(u32::MAX));
    Ok(figure("cluster: connections to the API server at 100 pods", "count", Samples(vec![count]), "<= 4"))
}

/// Seconds from the agent's death to the next renewal of its lease.
fn heartbeat(member: &Member) -> Result<f64> {
    let lease = ["leases", "-n", "kube-node-lease", "--field-selector", &format!("metadata.name={}", member.name)];
    let mut watch = Stream::start(member, &lease)?;
    let time = |event: &Value| event["object"]["spec"]["renewTime"].as_str().map(str::to_owned);
    let mut last = None;
    watch.wait("the lease", |event| {
        last = time(event);
        last.is_some()
    })?;
    agent(member)?.kill()?;
    let killed = Instant::now();
    let at = watch.wait("a fresh heartbeat", |event| time(event).is_some_and(|now| Some(now) != last))?;
    wait_until("the agent to be up", LONG, || member.sandbox.run(&["systemctl", "is-active", "systemk"]).ok())?;
    Ok((at - killed).as_secs_f64())
}

/// `kubectl get --watch`, its events with the time at which each came.
struct Stream {
    kubectl: Child,
    events: Receiver<(Instant, serde_json::Result<Value>)>,
}

impl Stream {
    fn start(member: &Member, what: &[&str]) -> Result<Self> {
        let kubectl = member.kubectl();
        let mut command = Command::new(kubectl.program());
        command.arg("--kubeconfig").arg(kubectl.kubeconfig()).arg("get").args(what);
        command.args(["--watch", "--output-watch-events", "-o", "json"]).stdout(Stdio::piped());
        let mut kubectl = command.spawn().context("start kubectl")?;
        let output = kubectl.stdout.take().context("take kubectl's output")?;
        let (sender, events) = channel();
        thread::spawn(move || {
            let values = serde_json::Deserializer::from_reader(BufReader::new(output)).into_iter::<Value>();
            for value in values {
                if sender.send((Instant::now(), value)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { kubectl, events })
    }

    fn next(&self, what: &str, deadline: Instant) -> Result<(Instant, Value)> {
        let left = deadline.saturating_duration_since(Instant::now());
        let (at, event) = self.events.recv_timeout(left).with_context(|| format!("{what}: kubectl says no more"))?;
        Ok((at, event.with_context(|| format!("{what}: read what kubectl says"))?))
    }

    /// Waits for an event; gives when it came.
    fn wait(&mut self, what: &str, mut is: impl FnMut(&Value) -> bool) -> Result<Instant> {
        let deadline = Instant::now() + LONG;
        loop {
            let (at, event) = self.next(what, deadline)?;
            if is(&event) {
                return Ok(at);
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.kubectl.kill().and_then(|()| self.kubectl.wait()).ok();
    }
}

/// The pods of the node as a watcher at the API server sees them. For one measurement: the API server ends each watch after
/// a while, and kubectl with it.
struct Watch {
    stream: Stream,
    /// By name: when it was first seen, and since when it runs.
    pods: HashMap<String, (Instant, Option<Instant>)>,
}

impl Watch {
    fn start(member: &Member) -> Result<Self> {
        let stream = Stream::start(member, &["pods", "-n", &member.name])?;
        // kubectl has begun to watch when it shows what is there: a pod that nobody runs.
        let marker = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": MARKER, "namespace": member.name},
            "spec": {"nodeName": "nowhere", "containers": [{"name": "main", "image": "none"}]},
        });
        member.kubectl().apply(&marker.to_string())?;
        let mut watch = Self { stream, pods: HashMap::new() };
        let deadline = Instant::now() + LONG;
        while !watch.pods.contains_key(MARKER) {
            watch.take(deadline)?;
        }
        Ok(watch)
    }

    /// Waits until `count` pods of that prefix run and are ready; gives when the first was created and the last ran.
    fn running(&mut self, prefix: &str, count: usize) -> Result<(Instant, Instant)> {
        let deadline = Instant::now() + LONG;
        loop {
            let of_prefix: Vec<_> = self.pods.iter().filter(|(name, _)| name.starts_with(prefix)).collect();
            let running: Vec<Instant> = of_prefix.iter().filter_map(|(_, (_, running))| *running).collect();
            if running.len() >= count {
                let created = of_prefix.iter().map(|(_, (created, _))| *created).min().context("a pod")?;
                return Ok((created, running.into_iter().max().context("a pod that runs")?));
            }
            self.take(deadline).with_context(|| format!("{} of {count} pods {prefix}* run", running.len()))?;
        }
    }

    /// Waits until no pod of that prefix is left; gives when the last was deleted.
    fn gone(&mut self, prefix: &str) -> Result<Instant> {
        let deadline = Instant::now() + LONG;
        let mut at = Instant::now();
        while self.pods.keys().any(|name| name.starts_with(prefix)) {
            at = self.take(deadline)?;
        }
        Ok(at)
    }

    fn take(&mut self, deadline: Instant) -> Result<Instant> {
        let (at, event) = self.stream.next("the watch of pods", deadline)?;
        let object = &event["object"];
        let Some(name) = object["metadata"]["name"].as_str() else { bail!("no pod: {event}") };
        if event["type"] == "DELETED" {
            self.pods.remove(name);
            return Ok(at);
        }
        let ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
        let conditions = object["status"]["conditions"].as_array();
        let runs = object["status"]["phase"] == "Running" && conditions.is_some_and(|all| all.iter().any(ready));
        let entry = self.pods.entry(name.to_owned()).or_insert((at, None));
        if runs && entry.1.is_none() {
            entry.1 = Some(at);
        }
        Ok(at)
    }
}
