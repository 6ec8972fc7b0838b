//! The command line as clap sees it. Values of the agent stay text here: flags, environment and config file are checked by
//! the same code, so that all of their problems come in one message.

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

/// Turn this machine into a Kubernetes node whose container runtime is systemd.
#[derive(Debug, Parser)]
#[command(
    name = "systemk",
    version,
    long_about = "Turn this machine into a Kubernetes node whose container runtime is systemd.\n\n\
        A container is a service unit, a pod is a slice, logs are the journal and limits are unit properties. \
        Without a command, systemk is the agent: it runs the pods of the manifest directory and keeps them running. \
        The other commands talk to a running agent.",
    after_long_help = "Examples:\n  \
        systemk run pod.yaml                 run a pod\n  \
        systemk ps                           what runs\n  \
        systemk logs -f web                  follow its output\n  \
        systemk rm web                       stop and remove it\n  \
        systemk plan pod.yaml                show the units a pod would become, and change nothing\n  \
        systemk --manifests /srv/pods        be the agent for the pods in /srv/pods\n\n\
        The agent's flags are listed by 'systemk agent --help'.",
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    max_term_width = 110
)]
pub(crate) struct Cli {
    /// What to do; nothing said: be the agent.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// The agent's flags also stand without a command, as they always have.
    #[command(flatten)]
    pub(crate) agent: AgentFlags,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Be the agent: run the pods of the manifest directories (what systemk does without a command)
    #[command(after_long_help = AGENT_HELP)]
    Agent(Box<AgentFlags>),
    /// Run the pods of a manifest
    #[command(after_long_help = RUN_HELP)]
    Run(RunArguments),
    /// List the pods of this node
    Ps(PsArguments),
    /// Print the output of a container
    #[command(after_long_help = "Examples:\n  systemk logs -f web\n  systemk logs --previous --tail 20 web -c nginx")]
    Logs(LogsArguments),
    /// Stop pods and remove them
    Rm(PodArgument),
    /// Show what a manifest would become, and change nothing
    Plan(PlanArguments),
    /// Install this binary as a service of the machine
    #[command(after_long_help = INSTALL_HELP)]
    Install(InstallArguments),
    /// Remove the service and all that it made; pods are stopped
    Uninstall(UninstallArguments),
    /// Print the version
    Version,
}

const AGENT_HELP: &str = "Each flag can also be given by the environment (SYSTEMK_NODE_IP=10.0.0.5; several values are \
separated by commas) and by the config file, which has the same names in camelCase:\n\n  \
    nodename: edge-7\n  nodeIp: [10.0.0.5]\n  dir: [/srv, /var/lib/data]\n\n\
A flag wins over the environment, the environment over the file, the file over the default.";

const RUN_HELP: &str = "The output of the containers comes on standard output, all else on standard error. It ends by \
itself when every pod has ended, with the exit code of the container that failed first; Ctrl-C stops and removes the pods, \
once more kills them at once. A manifest that is not all right ends it with 2 before anything is started, a pod that \
cannot run here with 1. Where no agent runs, this command is one for as long as its pods.\n\n\
Examples:\n  \
systemk run pod.yaml\n  \
systemk run --detach pod.yaml\n  \
generate-pod | systemk run -";

const INSTALL_HELP: &str = "The service runs this binary where it lies now, reads /etc/systemk/config.yaml and runs the \
pods of /etc/systemk/manifests. Doing it again changes only what differs, for example after an upgrade.";

/// The agent's flags.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AgentFlags {
    /// Read further settings from this file [default: /etc/systemk/config.yaml if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<String>,

    /// Run the pods in this directory; can be repeated [default: /etc/systemk/manifests]
    ///
    /// Files named *.yaml, *.yml and *.json are read, with Pods, ConfigMaps and Secrets in them. The directory is
    /// watched: a changed file is a changed pod, a removed file a removed pod.
    #[arg(long, value_name = "DIR", help_heading = "Pods")]
    pub(crate) manifests: Vec<String>,
    /// Run without a cluster: pods come from manifests alone [default unless there is a kubeconfig]
    #[arg(long, help_heading = "Pods")]
    pub(crate) standalone: bool,
    /// What an image without a prefix is: a package of the distribution or an OCI image [default: package]
    #[arg(long, value_name = "package|oci", help_heading = "Pods")]
    pub(crate) unqualified_images: Option<String>,
    /// Also show this top-level directory of the host to pods made from packages, or 'all' of them; can be repeated
    #[arg(long, value_name = "all|DIR", help_heading = "Pods")]
    pub(crate) native_root: Vec<String>,
    /// Allow host paths in volumes only below this directory; can be repeated [default: no restriction]
    #[arg(short = 'd', long, value_name = "DIR", help_heading = "Pods")]
    pub(crate) dir: Vec<String>,
    /// The network that pods are on [default: host]
    #[arg(long, value_name = "host", help_heading = "Pods")]
    pub(crate) pod_network: Option<String>,

    /// The node's name [default: the host name]
    #[arg(long, value_name = "NAME", help_heading = "Node")]
    pub(crate) nodename: Option<String>,
    /// The node's internal address, IPv4 or IPv6; can be repeated [default: the first private one of the interfaces]
    ///
    /// If there is no internal or no external address, the other one is used for both.
    #[arg(short = 'i', long, value_name = "ADDRESS", help_heading = "Node")]
    pub(crate) node_ip: Vec<String>,
    /// The node's external address, which is the pods'; can be repeated [default: the first public one]
    #[arg(long, value_name = "ADDRESS", help_heading = "Node")]
    pub(crate) node_external_ip: Vec<String>,
    /// Join the cluster of this file, as user system:node:NAME of the group system:nodes
    #[arg(long, value_name = "FILE", help_heading = "Node")]
    pub(crate) kubeconfig: Option<String>,
    /// Do not taint the node with virtual-kubelet.io/provider=systemk:NoSchedule when it registers
    #[arg(long, help_heading = "Node")]
    pub(crate) disable_taint: bool,

    /// Where the kubelet API listens [default: :10250]
    #[arg(long, value_name = "[ADDRESS]:PORT", help_heading = "Kubelet API")]
    pub(crate) addr: Option<String>,
    /// Its certificate [default: one of its own, signed by itself]
    #[arg(long, value_name = "FILE", help_heading = "Kubelet API")]
    pub(crate) certfile: Option<String>,
    /// The certificate's key
    #[arg(long, value_name = "FILE", help_heading = "Kubelet API")]
    pub(crate) keyfile: Option<String>,
    /// Take clients' certificates of this authority [default: the certificate-authority of the kubeconfig]
    #[arg(long, value_name = "FILE", help_heading = "Kubelet API")]
    pub(crate) client_ca_file: Option<String>,

    /// Keep here what lives until reboot [default: /run/systemk]
    #[arg(long, value_name = "DIR", help_heading = "Machine")]
    pub(crate) run_dir: Option<String>,
    /// Keep here what survives a reboot [default: /var/lib/systemk]
    #[arg(long, value_name = "DIR", help_heading = "Machine")]
    pub(crate) state_dir: Option<String>,
    /// The slice below which pods run, without .slice [default: kubepods]
    #[arg(long, value_name = "NAME", help_heading = "Machine")]
    pub(crate) cgroup_root: Option<String>,
    /// error, warn, info, debug or trace, or a filter such as info,systemk::images=debug [default: info]
    #[arg(long, value_name = "LEVEL", help_heading = "Machine")]
    pub(crate) log_level: Option<String>,
    /// Run as an ordinary user (not in this version)
    #[arg(short = 'u', long, help_heading = "Machine")]
    pub(crate) user: bool,
}

/// How to find the agent.
#[derive(Clone, Debug, Args)]
pub(crate) struct AgentLocation {
    /// The run directory of the agent to talk to
    #[arg(long, value_name = "DIR", default_value = "/run/systemk", env = "SYSTEMK_RUN_DIR", hide_env_values = true)]
    pub(crate) run_dir: String,
}

/// How to find the agent and what `run` has left to it.
#[derive(Clone, Debug, Args)]
pub(crate) struct AgentDirectories {
    #[allow(missing_docs)]
    #[command(flatten)]
    pub(crate) agent: AgentLocation,
    /// The state directory of the agent to talk to
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/systemk",
        env = "SYSTEMK_STATE_DIR",
        hide_env_values = true
    )]
    pub(crate) state_dir: String,
}

/// `systemk run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArguments {
    /// The manifest; - is standard input
    #[arg(value_name = "FILE|-")]
    pub(crate) file: String,
    /// Leave the pods to the agent, also after a reboot, until 'systemk rm'
    #[arg(long)]
    pub(crate) detach: bool,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub(crate) directories: AgentDirectories,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DataFormat {
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// More columns.
    Wide,
}

/// `systemk ps`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PsArguments {
    /// Only this namespace [default: all]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Print in another form than a table
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<OutputFormat>,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub(crate) agent: AgentLocation,
}

/// `systemk logs`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LogsArguments {
    /// The pod
    #[arg(value_name = "POD")]
    pub(crate) pod: String,
    /// Its namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,
    /// The container [default: the only or the first one]
    #[arg(short, long, value_name = "CONTAINER")]
    pub(crate) container: Option<String>,
    /// Go on printing what comes
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The output of the attempt before this one
    #[arg(long)]
    pub(crate) previous: bool,
    /// Only what is younger than this (90s, 5m, 2h) or than this time (RFC 3339)
    #[arg(long, value_name = "AGE|TIME")]
    pub(crate) since: Option<String>,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<u64>,
    /// The time before each line
    #[arg(long)]
    pub(crate) timestamps: bool,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub(crate) agent: AgentLocation,
}

/// `systemk rm`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PodArgument {
    /// The pods
    #[arg(value_name = "POD", required = true)]
    pub(crate) pods: Vec<String>,
    /// Their namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub(crate) directories: AgentDirectories,
}

/// `systemk plan`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlanArguments {
    /// The manifest; - is standard input
    #[arg(value_name = "FILE|-")]
    pub(crate) file: String,
    /// Print the plan as JSON or YAML instead of unit files
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<DataFormat>,
    /// Print values that come from Secrets as they are instead of hiding them
    #[arg(long)]
    pub(crate) show_secrets: bool,
    /// The agent's config file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<String>,
}

/// `systemk install`.
#[derive(Clone, Debug, Args)]
pub(crate) struct InstallArguments {
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `systemk uninstall`.
#[derive(Clone, Debug, Args)]
pub(crate) struct UninstallArguments {
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub(crate) directories: AgentDirectories,
}

/// The whole command line, for help texts and completion.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}
