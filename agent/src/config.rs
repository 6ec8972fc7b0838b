//! Flags, environment and config file to one validated [`Config`], or to every problem at once. Has no effect beside reading
//! the config file and /proc/net and looking up the symlinks in the run and state directories' paths; everything it is given (arguments, environment) comes in as values.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use plan::inputs::NativeRoot;

mod addresses;
mod check;
mod cli;
mod file;
mod settings;

#[cfg(test)]
pub(crate) use addresses::{InterfaceText, discover};
pub(crate) use cli::{
    AgentDirectories, Command, DataFormat, InstallArguments, LogsArguments, OutputFormat, PlanArguments, PodArgument,
    PsArguments, RunArguments, UninstallArguments, command,
};
pub(crate) use file::distance;

/// Where the config file is looked for when `--config` does not say.
pub(crate) const DEFAULT_FILE: &str = "/etc/systemk/config.yaml";

/// What an `image:` without a prefix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnqualifiedImages {
    /// A package of the distribution.
    Package,
    /// An OCI image.
    Oci,
}

/// The serving certificate of the node's HTTPS endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServingPair {
    /// PEM file of the certificate.
    pub(crate) certificate: PathBuf,
    /// PEM file of its key.
    pub(crate) key: PathBuf,
}

/// Where the agent keeps and finds things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directories {
    /// What lives until reboot.
    pub(crate) run: PathBuf,
    /// What survives a reboot.
    pub(crate) state: PathBuf,
    /// Where manifests are read from, in this order.
    pub(crate) manifests: Vec<PathBuf>,
    /// hostPath sources and native writable mounts must lie below one of these; empty: no restriction.
    pub(crate) allowed: Vec<PathBuf>,
}

/// Who the node is and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeIdentity {
    /// Its name.
    pub(crate) name: String,
    /// Internal addresses, first one first used; never empty.
    pub(crate) internal_ips: Vec<IpAddr>,
    /// External addresses, first one first used; never empty.
    pub(crate) external_ips: Vec<IpAddr>,
}

/// The cluster that the node belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterConfig {
    /// Where the API server is, and who the node is to it.
    pub(crate) kubeconfig: PathBuf,
    /// Who vouches for the clients of the kubelet API; None: the CA of the kubeconfig.
    pub(crate) client_ca_file: Option<PathBuf>,
    /// Keep pods away that do not tolerate a node of this kind.
    pub(crate) taint: bool,
}

/// Everything the daemon is told; nothing of it is checked again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// Name and addresses.
    pub(crate) node: NodeIdentity,
    /// Directories.
    pub(crate) directories: Directories,
    /// The cluster to join; None: pods come from manifests alone.
    pub(crate) cluster: Option<ClusterConfig>,
    /// Where the kubelet API listens.
    pub(crate) listen: SocketAddr,
    /// Its certificate; None: one that the agent makes itself.
    pub(crate) serving: Option<ServingPair>,
    /// What an image without a prefix is.
    pub(crate) unqualified_images: UnqualifiedImages,
    /// What a native pod sees of the host.
    pub(crate) native_root: NativeRoot,
    /// The root of the pods' slices, without `.slice`.
    pub(crate) cgroup_root: String,
    /// For the log: a tracing filter.
    pub(crate) log_level: String,
    /// For the log: settings that have no effect, one sentence each.
    pub(crate) remarks: Vec<String>,
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Be the agent.
    Agent(Box<Config>),
    /// One of the other commands.
    Command(Command),
}

/// Why nothing is started: what to print, where, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The whole text, with its line end.
    pub(crate) text: String,
    /// 0 for `--help` and `--version` (to stdout), 2 for a usage error, 1 if the machine is the problem.
    pub(crate) code: u8,
}

impl Refused {
    /// The problems alone, for a command that has its own way to say them.
    pub(crate) fn problems(&self) -> String {
        let lines = self.text.lines().filter(|line| !line.starts_with("Try '"));
        lines.map(|line| line.strip_prefix("systemk: ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
    }
}

/// What the configuration is made from, apart from the arguments.
pub(crate) struct Surroundings<'a> {
    /// The environment.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Reads a whole file; None if it is not there.
    pub(crate) read: &'a dyn Fn(&std::path::Path) -> Result<Option<String>, String>,
    /// The machine's host name.
    pub(crate) host_name: String,
}

impl Surroundings<'_> {
    /// Those of this process.
    pub(crate) fn of_process() -> Surroundings<'static> {
        Surroundings {
            variable: &|name| std::env::var(name).ok(),
            read: &|path| match crate::files::read_bounded(path, 1024 * 1024) {
                Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| "it is not UTF-8".to_owned()),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string)),
            },
            host_name: rustix::system::uname().nodename().to_string_lossy().to_lowercase(),
        }
    }
}

/// Reads the command line.
///
/// # Errors
/// What to print instead of starting, with all problems of flags, environment and file together.
pub(crate) fn read<I, T>(arguments: I, surroundings: &Surroundings<'_>) -> Result<Invocation, Refused>
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    use clap::FromArgMatches as _;
    let from_clap =
        |error: clap::Error| Refused { text: error.render().to_string(), code: if error.use_stderr() { 2 } else { 0 } };
    let matches = command().try_get_matches_from(arguments).map_err(from_clap)?;
    let cli = cli::Cli::from_arg_matches(&matches).map_err(from_clap)?;
    let agent_matches = match cli.command {
        None => &matches,
        Some(Command::Agent(_)) => matches.subcommand().map_or(&matches, |(_, matches)| matches),
        Some(command) => return Ok(Invocation::Command(command)),
    };
    let mut problems = Vec::new();
    let settings = settings::gather(agent_matches, surroundings, &mut problems);
    let config = check::check(&settings, surroundings, &mut problems);
    match config {
        Some(config) if problems.is_empty() => Ok(Invocation::Agent(Box::new(config))),
        _ => {
            let mut text = String::new();
            for problem in problems {
                text.push_str(&format!("systemk: {problem}\n"));
            }
            text.push_str("Try 'systemk agent --help'.\n");
            Err(Refused { text, code: 2 })
        }
    }
}

/// The agent's configuration as the other commands need it: what a service started without flags would use, with these
/// directories where they are not the defaults.
///
/// # Errors
/// Every problem of the configuration.
pub(crate) fn read_for(directories: &AgentDirectories, more: &[&str]) -> Result<Config, Refused> {
    read_with(directories, more, &Surroundings::of_process())
}

/// As [`read_for`] where the file cannot be used: what would be without it.
///
/// # Errors
/// The environment cannot be used either.
pub(crate) fn read_without_file(directories: &AgentDirectories) -> Result<Config, Refused> {
    let surroundings = Surroundings { read: &|_| Ok(None), ..Surroundings::of_process() };
    read_with(directories, &["--node-ip", "127.0.0.1"], &surroundings)
}

/// What is wrong with [`DEFAULT_FILE`]; None: nothing.
pub(crate) fn file_problems() -> Option<String> {
    problems_of_file(&Surroundings { variable: &|_| None, ..Surroundings::of_process() })
}

fn problems_of_file(surroundings: &Surroundings<'_>) -> Option<String> {
    let refused = read(["systemk", "agent"], surroundings).err()?.problems();
    // A machine without a network is not the file's fault.
    let lines: Vec<&str> = refused.lines().filter(|line| line.contains(DEFAULT_FILE)).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn read_with(
    directories: &AgentDirectories,
    more: &[&str],
    surroundings: &Surroundings<'_>,
) -> Result<Config, Refused> {
    let mut arguments = vec!["systemk", "agent"];
    if directories.agent.run_dir != "/run/systemk" {
        arguments.extend(["--run-dir", &directories.agent.run_dir]);
    }
    if directories.state_dir != "/var/lib/systemk" {
        arguments.extend(["--state-dir", &directories.state_dir]);
    }
    arguments.extend(more);
    match read(arguments, surroundings)? {
        Invocation::Agent(config) => Ok(*config),
        Invocation::Command(_) => Err(Refused { text: "the agent has no configuration\n".to_owned(), code: 1 }),
    }
}

#[cfg(test)]
mod tests;
