//! `cargo xtask control-plane`: the control plane that nodes share, by itself.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use e2e::control_plane::ControlPlane as Fixture;
use e2e::progress;
use serde::Serialize;

const AFTER_HELP: &str = "\
Examples:
  cargo xtask control-plane up
  kubectl --kubeconfig FILE get namespaces     with the paths that `up` prints
  cargo xtask control-plane down

etcd, API server, controller manager and scheduler of Kubernetes v1.37 on the
loopback address of this machine. The first one is built from source (10 to 20
minutes, once; Go is installed if there is none); SYSTEMK_KUBERNETES names a
directory of ready programs instead. Later ones are up in five seconds.

A node that has the machine's network reaches it. One with a network namespace of
its own (`node up --netns`) does not: those are standalone.";

#[derive(Subcommand)]
#[command(after_help = AFTER_HELP)]
pub(crate) enum ControlPlane {
    /// Start the shared control plane, unless it is up; it stays until `down`
    #[command(after_help = AFTER_HELP)]
    Up {
        /// Print {"server","kubeconfig","kubectl"} as the last line of stdout
        #[arg(long)]
        json: bool,
    },
    /// Remove the shared control plane and all that it stored, whichever nodes use it
    Down,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    server: String,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
}

pub(crate) fn main(control_plane: &ControlPlane) -> Result<ExitCode> {
    match control_plane {
        ControlPlane::Up { json } => up(*json)?,
        ControlPlane::Down if Fixture::shared().down()? => println!("the control plane is gone"),
        ControlPlane::Down => println!("there is no shared control plane"),
    }
    Ok(ExitCode::SUCCESS)
}

fn up(json: bool) -> Result<()> {
    // By itself first: its progress has lines of its own.
    e2e::kubernetes::directory()?;
    let shared = progress::during("starting a control plane", || Fixture::shared().join_by_hand())?;
    let admin = shared.admin();
    let (kubeconfig, kubectl) = (admin.kubeconfig().to_owned(), admin.program().to_owned());
    eprintln!("the control plane is up: {} --kubeconfig {} get all -A", kubectl.display(), kubeconfig.display());
    if json {
        let report = Report { server: shared.server(), kubeconfig, kubectl };
        println!("{}", serde_json::to_string(&report).context("encode the report")?);
    }
    Ok(())
}
