//! `cargo xtask node`: sandbox nodes for trying things by hand and for scripts.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use e2e::agent::SOON;
use e2e::control_plane::ControlPlane;
use e2e::member::{KUBECONFIG, own_address};
use e2e::progress;
use e2e::sandbox::{Process, Sandbox, SandboxSpec, Systemd};
use serde::Serialize;

use crate::cargo;

/// Where the agent is inside a node.
const AGENT: &str = "/usr/local/bin/systemk";

const AFTER_HELP: &str = "\
Examples:
  cargo xtask node up                                  a node of a cluster with systemd 257, named `node`
  cargo xtask node exec -- systemctl status            a command in it
  cargo xtask node up --systemd 252 --name old         another one of the same cluster
  cargo xtask node exec --name old -- bash             a shell in it
  cargo xtask node down --name old
  cargo xtask node up --standalone --name alone        one without a cluster

`up` prints the kubectl to use. Nodes share one control plane, which goes with the
last of them; the first one ever is built from source (10 to 20 minutes). The
node's address is a loopback address of this machine. The first node of each systemd version makes a Debian root file system (about
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
    /// Without a cluster: the node takes its pods from files
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
        Node::Down { which } => down(&which.name)?,
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
    let name = &arguments.which.name;
    let systemd = Systemd::from(arguments.systemd);
    let mut spec = SandboxSpec::new(systemd, name).bind_ro(cargo::build_agent()?, AGENT);
    spec.netns = arguments.netns;
    if !arguments.standalone {
        // By itself first: its progress has lines of its own.
        e2e::kubernetes::directory()?;
    }
    let sandbox = progress::during(&format!("booting node {name}"), || Sandbox::start_to_stay(spec))?;
    let started = if arguments.standalone { start_agent(&sandbox).map(|()| None) } else { join(&sandbox).map(Some) };
    let control_plane = match started {
        Ok(control_plane) => control_plane,
        Err(error) => {
            sandbox.stop()?;
            ControlPlane::shared().leave(name)?;
            return Err(error);
        }
    };

    eprintln!("node {name} is up: cargo xtask node exec --name {name} -- systemctl status");
    if let Some(admin) = control_plane.as_ref().map(ControlPlane::admin) {
        let (kubectl, kubeconfig) = (admin.program().display(), admin.kubeconfig().display());
        eprintln!("its cluster: {kubectl} --kubeconfig {kubeconfig} get nodes -o wide");
    }
    if arguments.json {
        let report = report(&sandbox, control_plane.as_ref())?;
        println!("{}", serde_json::to_string(&report).context("encode the report")?);
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the sandbox a node of the shared control plane, and waits until it is ready there.
fn join(sandbox: &Sandbox) -> Result<ControlPlane> {
    let name = sandbox.name();
    let control_plane = progress::during("starting a control plane", || ControlPlane::shared().join(name))?;
    sandbox.write_secret(KUBECONFIG, control_plane.node_kubeconfig(name)?)?;
    let address = own_address();
    let config = format!("kubeconfig: {KUBECONFIG}\nnodename: {name}\nnodeIp: [{address}]\naddr: {address}:10250\n");
    sandbox.write_file("/etc/systemk/config.yaml", config)?;
    start_agent(sandbox)?;
    let admin = control_plane.admin();
    let ready = |node: &serde_json::Value| {
        let conditions = node["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
    };
    admin.wait_for("the node to be ready", SOON, &["node", name], ready).with_context(|| {
        let log = sandbox.sh("journalctl -u systemk -n 20 --no-pager -o cat").unwrap_or_default();
        format!("the agent said:\n{log}")
    })?;
    // A node may not say its role itself.
    admin.run(&["label", "node", name, "node-role.kubernetes.io/agent=", "--overwrite"])?;
    Ok(control_plane)
}

fn down(name: &str) -> Result<()> {
    let shared = ControlPlane::shared();
    let control_plane = shared.used_by(name)?;
    Sandbox::attach(name)?.stop()?;
    println!("node {name} is gone");
    if shared.leave(name)? {
        println!("so is the control plane, as no other node uses it");
    } else if let Some(control_plane) = control_plane {
        control_plane.admin().run(&["delete", "node", name, "--ignore-not-found"])?;
    }
    Ok(())
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
