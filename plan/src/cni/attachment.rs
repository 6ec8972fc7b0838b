//! What a plugin is called for: a sandbox, its interface, the arguments, and where plugins are.
//!
//! Source: specification 1.1, "Parameters"; containerd's `toCNILabels` for `CNI_ARGS`.

use serde_json::{Map, Value};

use super::{ContainerId, InterfaceName, NameError, NetworkName, PluginType, shown};

/// The most directories of plugins.
pub const MAX_DIRECTORIES: usize = 16;
/// The longest path, in bytes (Linux: PATH_MAX, less the NUL).
pub const MAX_PATH: usize = 4095;
/// The most pairs of `CNI_ARGS`.
pub const MAX_ARGS: usize = 64;
/// The longest key or value of `CNI_ARGS`, in bytes.
pub const MAX_ARG: usize = 1024;

/// A call that would not be valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// A name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A path that is not absolute, or that has what may not be in one.
    #[error("{what} \"{path}\" must be an absolute path without control characters{}", .colon)]
    Path {
        /// Which one.
        what: &'static str,
        /// Shortened.
        path: String,
        /// More rules.
        colon: &'static str,
    },
    /// ADD and CHECK without a network namespace.
    #[error("CNI_NETNS is empty, which only DEL allows")]
    NoNamespace,
    /// A pair that would be read as others, or not at all.
    #[error(
        "CNI_ARGS: {key}=\"{value}\" may not have ';', '=' or control characters, and no more than {MAX_ARG} bytes"
    )]
    Arg {
        /// Shortened.
        key: String,
        /// Shortened.
        value: String,
    },
    /// Over a limit.
    #[error("there are {count} {what}, more than the {most} that are supported")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        most: usize,
    },
    /// No plugin of that number.
    #[error("the network {network} has no plugin number {at}")]
    NoPlugin {
        /// Which one.
        network: NetworkName,
        /// From 0.
        at: usize,
    },
    /// The first plugin has no predecessor; all others have.
    #[error("the plugin {0} must have a prevResult exactly if it is not the first")]
    Previous(PluginType),
}

/// The directories of plugins: `CNI_PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginPath(Vec<String>);

impl PluginPath {
    /// `directories` in the order of search, such as `/opt/cni/bin` and `/usr/lib/cni`.
    ///
    /// # Errors
    /// [`InvokeError`]: none or too many, or one that is relative or has a `:`.
    pub fn new<T: AsRef<str>>(directories: &[T]) -> Result<Self, InvokeError> {
        if directories.is_empty() || directories.len() > MAX_DIRECTORIES {
            let (what, most) = ("directories of plugins", MAX_DIRECTORIES);
            return Err(InvokeError::TooMany { what, count: directories.len(), most });
        }
        let checked = directories.iter().map(|directory| match directory.as_ref() {
            path if path.contains(':') || !is_path(path) => {
                let (what, colon) = ("the plugin directory", " and without ':'");
                Err(InvokeError::Path { what, path: shown(path), colon })
            }
            path => match path.trim_end_matches('/') {
                "" => Ok("/".to_owned()),
                path => Ok(path.to_owned()),
            },
        });
        checked.collect::<Result<_, _>>().map(Self)
    }

    /// Where the program of `plugin` may be; the first that is there counts (libcni: `FindInPath`).
    pub fn candidates(&self, plugin: &PluginType) -> Vec<String> {
        self.0.iter().map(|directory| format!("{directory}/{plugin}")).collect()
    }

    pub(super) fn joined(&self) -> String {
        self.0.join(":")
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= MAX_PATH && !path.chars().any(char::is_control)
}

/// One sandbox on one network.
#[derive(Clone, Debug, PartialEq)]
pub struct Attachment {
    pub(super) container: ContainerId,
    pub(super) netns: String,
    pub(super) interface: InterfaceName,
    pub(super) args: Vec<(String, String)>,
    pub(super) capability_args: Map<String, Value>,
}

impl Attachment {
    /// The sandbox `container` with the namespace at `netns` (empty for a DEL after the namespace is gone), its
    /// interface, the pairs of `CNI_ARGS` ([`pod_args`]) and what capabilities may ask for
    /// ([`super::runtime_config::RuntimeConfig::capability_args`]).
    ///
    /// # Errors
    /// [`InvokeError`]: a path or a pair that is not valid.
    pub fn new(
        container: ContainerId,
        netns: &str,
        interface: InterfaceName,
        args: Vec<(String, String)>,
        capability_args: Map<String, Value>,
    ) -> Result<Self, InvokeError> {
        if !netns.is_empty() && !is_path(netns) {
            return Err(InvokeError::Path { what: "CNI_NETNS", path: shown(netns), colon: "" });
        }
        check_args(&args)?;
        Ok(Self { container, netns: netns.to_owned(), interface, args, capability_args })
    }

    /// The sandbox's ID.
    pub fn container(&self) -> &ContainerId {
        &self.container
    }

    /// The interface in the sandbox.
    pub fn interface(&self) -> &InterfaceName {
        &self.interface
    }

    pub(super) fn with_namespace(&self) -> Result<(), InvokeError> {
        if self.netns.is_empty() { Err(InvokeError::NoNamespace) } else { Ok(()) }
    }
}

/// What Kubernetes' runtimes tell plugins of a pod, in containerd's words (`toCNILabels`); `sandbox` is the infra
/// container's ID.
///
/// # Errors
/// [`InvokeError::Arg`]: a value with `;` or `=`, with which it could pass for another pod's.
pub fn pod_args(
    namespace: &str,
    name: &str,
    uid: &str,
    sandbox: &ContainerId,
) -> Result<Vec<(String, String)>, InvokeError> {
    let args = [
        // Plugins of old refuse keys that they do not know.
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", namespace),
        ("K8S_POD_NAME", name),
        ("K8S_POD_INFRA_CONTAINER_ID", sandbox.as_str()),
        ("K8S_POD_UID", uid),
    ];
    let args = args.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    check_args(&args).map(|()| args)
}

fn check_args(args: &[(String, String)]) -> Result<(), InvokeError> {
    if args.len() > MAX_ARGS {
        return Err(InvokeError::TooMany { what: "CNI_ARGS", count: args.len(), most: MAX_ARGS });
    }
    let good = |text: &str| text.len() <= MAX_ARG && !text.chars().any(|c| c.is_control() || ";=".contains(c));
    match args.iter().find(|(key, value)| key.is_empty() || !good(key) || !good(value)) {
        Some((key, value)) => Err(InvokeError::Arg { key: shown(key), value: shown(value) }),
        None => Ok(()),
    }
}
