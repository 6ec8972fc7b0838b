//! What `systemk init`, which stands before every program, adds to a bare exec of it.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use e2e::release;
use serde_json::json;

use super::ROUNDS;
use super::figures::{Figure, Peer, Samples};

/// Starts in one sample: one start is shorter than the scheduler's moods.
const STARTS: usize = 40;

const PROGRAM: &str = "/bin/true";

pub(super) fn measure() -> Result<Vec<Figure>> {
    let binary = release::binary()?;
    let scratch = tempfile::tempdir().context("make a temporary directory")?;
    let (launch, failure) = (scratch.path().join("launch.json"), scratch.path().join("failure"));
    let capabilities = ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_BIND_SERVICE"];
    let content = json!({
        "version": 1,
        "lines": {"start.0": {"argv": [PROGRAM], "expand": false, "full_privileges": false}},
        "env": [{"name": "A", "value": "1"}, {"name": "PATH", "value": "/usr/bin:/bin"}],
        "inherit": {"only": ["PATH"]},
        "cwd": "/",
        "identity": {"uid": 65534, "gid": 65534, "groups": []},
        "chown": [],
        "capabilities": capabilities,
        "no_new_privileges": true,
        "failure_file": failure,
    });
    fs::write(&launch, content.to_string()).and_then(|()| fs::write(&failure, "")).context("write the Launch")?;
    // Whether it does what is measured, before it is measured.
    once(&binary, &launch)?;

    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS * 2 {
        let begun = Instant::now();
        for _ in 0..STARTS {
            once(&binary, &launch)?;
        }
        ours.0.push(begun.elapsed().as_secs_f64() * 1000.0 / STARTS as f64);
        let begun = Instant::now();
        for _ in 0..STARTS {
            end(Command::new(PROGRAM).stdin(open(&launch)?))?;
        }
        bare.0.push(begun.elapsed().as_secs_f64() * 1000.0 / STARTS as f64);
    }
    let added = Samples(ours.0.iter().zip(&bare.0).map(|(ours, bare)| ours - bare).collect());
    Ok(vec![
        Figure {
            name: "systemk init and /bin/true",
            unit: "ms",
            ours,
            peers: vec![("bare exec", Peer::Measured(bare))],
            target: "",
        },
        Figure { name: "what systemk init adds", unit: "ms", ours: added, peers: Vec::new(), target: "<= 2 ms" },
    ])
}

fn once(binary: &Path, launch: &Path) -> Result<()> {
    end(Command::new(binary).args(["init", "start.0"]).stdin(open(launch)?))
}

fn open(launch: &Path) -> Result<File> {
    File::open(launch).with_context(|| format!("open {}", launch.display()))
}

fn end(command: &mut Command) -> Result<()> {
    let status = command.status().context("start the program")?;
    if !status.success() {
        bail!("the measured program failed: {status}");
    }
    Ok(())
}
