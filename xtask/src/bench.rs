//! `cargo xtask bench`: how long it takes, what it weighs, and what the same costs elsewhere, in the same run.

mod cluster;
mod figures;
mod fleet;
mod hundred;
mod init;
mod manifests;
mod mounts;
mod node;
mod one_pod;
mod page;
mod podman;
mod started;
mod watch;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use e2e::release;
use e2e::sandbox::Systemd;

use crate::cargo;
use crate::node::Version;
use figures::{Figure, Samples};

/// Fewer say nothing about the spread.
const ROUNDS: usize = 5;

#[derive(Args)]
pub(crate) struct Bench {
    /// Only this one; without a name all run, and docs/benchmarks.md is written
    name: Option<Name>,
    /// With `cluster` or `fleet`: write its part of docs/benchmarks.md
    #[arg(long, requires = "name")]
    page: bool,
    /// The version of systemd: 252 is Debian 12's, 257 Debian 13's
    #[arg(long, value_enum, default_value = "252")]
    systemd: Version,
    /// How many nodes `fleet` has
    #[arg(long, default_value_t = 200)]
    nodes: usize,
    /// The agent that `cluster` and `fleet` have, such as one from before a change [default: the release binary]
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Print a list of {"name","unit","ours","peers":{name:value},"ratio":{name:value}} on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// One pod: manifest to program, and to Running; against a bare unit and podman
    OnePod,
    /// 100 pods with volumes: start, idle, agent killed, delete; and an idle agent without pods
    HundredPods,
    /// A node behind a real API server: one pod, 100 pods, memory, heartbeat
    Cluster,
    /// Many nodes behind one API server: idle, pods, and after the API server was away (12 minutes)
    Fleet,
    /// What the launcher before every program costs
    Init,
    /// What foreign mounts of the host cost a start
    Mounts,
    /// The release binary
    Size,
}

impl Name {
    /// The title of its own part of the page, and a sentence on it; None: it is in the one table.
    fn part(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Cluster => Some((
                "A node of a cluster",
                "Behind an unmodified control plane with an audit log, all on this machine; times are those at which a watcher at the API server \
                 sees it. An agent's start is the moment at which its systemd executed it.",
            )),
            Self::Fleet => Some((
                "A fleet",
                "Each node is a release agent of its own over a fake systemd, which starts units without programs; the control plane is unmodified, \
                 with controllers and scheduler. Requests are counted by the audit log, a watch once when it is answered; bytes by TCP's account, with TLS. \
                 A kubelet's figures are those of one measured idle (1.36).",
            )),
            Self::OnePod | Self::HundredPods | Self::Init | Self::Mounts | Self::Size => None,
        }
    }
}

pub(crate) fn main(arguments: &Bench) -> Result<ExitCode> {
    let systemd = Systemd::from(arguments.systemd);
    let (mut figures, mut parts) = (Vec::new(), Vec::new());
    for name in Name::value_variants() {
        if arguments.name.is_none_or(|chosen| chosen == *name) {
            let measured = measure(*name, systemd, arguments)?;
            match name.part() {
                Some(part) => parts.push((part, measured)),
                None => figures.extend(measured),
            }
        }
    }
    if arguments.name.is_none() || arguments.page {
        let path = cargo::workspace().join("docs/benchmarks.md");
        let text = match arguments.name {
            None => page::page(&figures, systemd),
            Some(_) => fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?,
        };
        let with =
            |text: String, part: &((&str, &str), Vec<Figure>)| page::with_section(&text, part.0.0, part.0.1, &part.1);
        fs::create_dir_all(cargo::workspace().join("docs"))
            .and_then(|()| fs::write(&path, parts.iter().fold(text, with)))
            .with_context(|| format!("write {}", path.display()))?;
        eprintln!("docs/benchmarks.md is written");
    }
    figures.extend(parts.into_iter().flat_map(|(_, figures)| figures));
    if arguments.json {
        let list: Vec<_> = figures.iter().map(Figure::json).collect();
        println!("{}", serde_json::to_string_pretty(&list).context("encode the figures")?);
    } else {
        print!("{}", page::table(&figures));
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(name: Name, systemd: Systemd, arguments: &Bench) -> Result<Vec<Figure>> {
    match name {
        Name::OnePod => one_pod::measure(systemd).context("one pod"),
        Name::HundredPods => hundred::measure(systemd).context("100 pods"),
        Name::Cluster => cluster::measure(systemd, arguments.agent.as_deref()).context("a node of a cluster"),
        Name::Fleet => fleet::measure(arguments.nodes, arguments.agent.as_deref()).context("a fleet"),
        Name::Init => init::measure().context("init"),
        Name::Mounts => mounts::measure(systemd).context("foreign mounts"),
        Name::Size => {
            let bytes = release::binary()?.metadata().context("look at the release binary")?.len();
            // Megabytes with one digit behind the point.
            let megabytes = f64::from(u32::try_from(bytes / 100_000).unwrap_or(u32::MAX)) / 10.0;
            let ours = Samples(vec![megabytes]);
            Ok(vec![Figure { name: "release binary", unit: "MB", ours, peers: Vec::new(), target: "<= 16 MB" }])
        }
    }
}
