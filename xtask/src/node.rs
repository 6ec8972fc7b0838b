//! `cargo xtask node`: sandbox nodes for trying things by hand and for scripts.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use e2e::control_plane::ControlPlane;
use e2e::progress;
use e2e::sandbox::{Process, Sandbox, SandboxSpec, Systemd};
use serde::Serialize;

use crate::cargo;

/// Where the agent is inside a node.
const AGENT: &str = "/usr/local/bin/systemk";

const AFTER_HELP: &str = "\
Examples:
  cargo xtask node up --standalone                     a node with systemd 257, named `node`
  cargo xtask node exec -- systemctl status            a command in it
  cargo xtask node up --standalone --systemd 252 --name old
  cargo xtask node exec --name old -- bash             a shell in another one
  cargo xtask node down --name old

The first node of each systemd version makes a Debian root file system (about
20 s); later ones are up in a second. /etc and /var are the node's own and go
away with it. Needs root.";

#[derive(Subcommand)]
#[command(after_help = AFTER_HELP)]
pub(crate) enum Node {
    /// Boot a node that stays until `node down`
    #[command(after_help = AFTER_HELP)]
    Up(Up),
    /// Stop a node and remove all that it had
    Down {
        #[command(flatten)]
        which: Which,
    },
    /// Run a command in a node; its exit code is this command's
    Exec {
        #[command(flatten)]
        which: Which,
        /// The command and its arguments
        #[arg(required = true, last = true, value_name = "CMD")]
        command: Vec<String>,
    },
    /// List the nodes that there are
    List,
}

#[derive(Args)]
pub(crate) struct Which {
    /// The node's name
    #[arg(long, default_value = "node")]
    name: String,
}

#[derive(Args)]
pub(crate) struct Up {
    #[command(flatten)]
    which: Which,
    /// The version of systemd: 252 is Debian 12's, 257 Debian 13's
    #[arg(long, value_enum, default_value = "257")]
    systemd: Version,
    /// Without a control plane: the node takes its pods from files
    #[arg(long)]
    standalone: bool,
    /// A network namespace of its own (loopback only, no package archive, no control plane) instead of the machine's network
    #[arg(long, requires = "standalone")]
    netns: bool,
    /// Print {"node","kubeconfig","kubectl","systemd","enter"} as the last line of stdout
    #[arg(long)]
    json: bool,
}

/// A systemd that there is a root file system with.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Version {
    #[value(name = "252")]
    V252,
    #[value(name = "257")]
    V257,
}

impl From<Version> for Systemd {
    fn from(version: Version) -> Self {
        match version {
            Version::V252 => Self::V252,
            Version::V257 => Self::V257,
        }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct NodeReport {
    node: String,
    kubeconfig: Option<PathBuf>,
    kubectl: Option<PathBuf>,
    systemd: u32,
    enter: Vec<String>,
}

pub(crate) fn main(node: Node) -> Result<ExitCode> {
    match node {
        Node::Up(arguments) => return up(&arguments),
        Node::Down { which } => {
            Sandbox::attach(&which.name)?.stop()?;
            println!("node {} is gone", which.name);
            if ControlPlane::shared().leave(&which.name)? {
                println!("so is the control plane, as no other node uses it");
            }
        }
        Node::Exec { which, command } => return exec(&which.name, &command),
        Node::List => {
            for record in Sandbox::list()? {
                let state = if record.init.is_some_and(Process::alive) { "up" } else { "down" };
                let kind = if record.stays { "node" } else { "test" };
                println!("{}\tsystemd {}\t{state}\t{kind}", record.spec.name, record.spec.systemd.version());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn up(arguments: &Up) -> Result<ExitCode> {
    if !arguments.standalone {
        eprintln!("error: joining a control plane comes with the cluster mode and is not here yet: use --standalone");
        return Ok(ExitCode::from(2));
    }
    let systemd = Systemd::from(arguments.systemd);
    let mut spec = SandboxSpec::new(systemd, &arguments.which.name).bind_ro(cargo::build_agent()?, AGENT);
    spec.netns = arguments.netns;
    let sandbox = progress::during(&format!("booting node {}", arguments.which.name), || Sandbox::start_to_stay(spec))?;
    if let Err(error) = start_agent(&sandbox) {
        sandbox.stop()?;
        return Err(error);
    }

    eprintln!("node {} is up: cargo xtask node exec --name {0} -- systemctl status", sandbox.name());
    if arguments.json {
        let report = report(&sandbox, None)?;
        println!("{}", serde_json::to_string(&report).context("encode the report")?);
    }
    Ok(ExitCode::SUCCESS)
}

/// What `--json` prints of a node, and of the control plane that it joined (`ControlPlane::shared`, which `down` leaves).
fn report(sandbox: &Sandbox, control_plane: Option<&ControlPlane>) -> Result<NodeReport> {
    let admin = control_plane.map(ControlPlane::admin);
    Ok(NodeReport {
        node: sandbox.name().to_owned(),
        kubeconfig: admin.as_ref().map(|admin| admin.kubeconfig().to_owned()),
        kubectl: admin.as_ref().map(|admin| admin.program().to_owned()),
        systemd: sandbox.record().spec.systemd.version(),
        enter: sandbox.enter_argv()?,
    })
}

/// Turns the sandbox into a node: `systemk install`, where the agent already has that subcommand.
fn start_agent(sandbox: &Sandbox) -> Result<()> {
    let help = sandbox.exec(&[AGENT, "--help"])?;
    if help.stdout.lines().any(|line| line.trim_start().starts_with("install ")) {
        progress::during("starting systemk", || sandbox.run(&[AGENT, "install"]).map(drop))?;
    }
    Ok(())
}

/// Becomes the command inside, with this process's terminal and exit code.
fn exec(name: &str, command: &[String]) -> Result<ExitCode> {
    let enter = Sandbox::attach(name)?.enter_argv()?;
    let error = Command::new(&enter[0]).args(&enter[1..]).args(command).exec();
    Err(error).with_context(|| format!("start `{}`", enter[0]))
}
