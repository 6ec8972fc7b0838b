//! `cargo xtask bench`: how long it takes, what it weighs, and what the same costs elsewhere, in the same run.

mod figures;
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
    /// The version of systemd: 252 is Debian 12's, 257 Debian 13's
    #[arg(long, value_enum, default_value = "252")]
    systemd: Version,
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
    /// What the launcher before every program costs
    Init,
    /// What foreign mounts of the host cost a start
    Mounts,
    /// The release binary
    Size,
}

pub(crate) fn main(arguments: &Bench) -> Result<ExitCode> {
    let systemd = Systemd::from(arguments.systemd);
    let mut figures = Vec::new();
    for name in Name::value_variants() {
        if arguments.name.is_none_or(|chosen| chosen == *name) {
            figures.extend(measure(*name, systemd)?);
        }
    }
    if arguments.name.is_none() {
        let path = cargo::workspace().join("docs/benchmarks.md");
        fs::create_dir_all(cargo::workspace().join("docs"))
            .and_then(|()| fs::write(&path, page::page(&figures, systemd)))
            .with_context(|| format!("write {}", path.display()))?;
        eprintln!("docs/benchmarks.md is written");
    }
    if arguments.json {
        let list: Vec<_> = figures.iter().map(Figure::json).collect();
        println!("{}", serde_json::to_string_pretty(&list).context("encode the figures")?);
    } else {
        print!("{}", page::table(&figures));
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(name: Name, systemd: Systemd) -> Result<Vec<Figure>> {
    match name {
        Name::OnePod => one_pod::measure(systemd).context("one pod"),
        Name::HundredPods => hundred::measure(systemd).context("100 pods"),
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
