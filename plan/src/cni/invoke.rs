//! How plugins are called: program, environment and standard input, plugin by plugin.
//!
//! Source: specification 1.1, sections 2 and 3; libcni's `api.go`.
//! The caller keeps what the specification asks of runtimes: no two operations at once for one container, GC alone.

use serde_json::{Map, Value, json};

use super::attachment::{Attachment, InvokeError, PluginPath};
use super::cache::CacheEntry;
use super::conflist::{Conflist, Plugin};
use super::result::AddResult;
use super::{ContainerId, InterfaceName, PluginType, Version};

/// The most attachments that a GC can name.
pub const MAX_ATTACHMENTS: usize = 10_000;

/// `CNI_COMMAND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Connect a sandbox.
    Add,
    /// Disconnect it.
    Del,
    /// See that it is still connected.
    Check,
    /// Forget all attachments but those that are named.
    Gc,
    /// Ask whether ADD would succeed.
    Status,
    /// Ask for the supported versions.
    Version,
}

impl Operation {
    /// As the environment has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }
}

/// One call of one plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Whose program; where it is, [`PluginPath::candidates`] says.
    pub plugin: PluginType,
    /// To set over what the program inherits: always the same six, empty where the operation has no use for them, so
    /// that nothing of that name is inherited (libcni does the same).
    pub env: [(&'static str, String); 6],
    /// JSON.
    pub stdin: Vec<u8>,
}

fn invocation(
    operation: Operation,
    plugin: &Plugin,
    path: &PluginPath,
    attachment: Option<&Attachment>,
    request: Map<String, Value>,
) -> Invocation {
    let of = |text: fn(&Attachment) -> String| attachment.map(text).unwrap_or_default();
    let pairs = |attachment: &Attachment| {
        let pairs: Vec<String> = attachment.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(";")
    };
    let env = [
        ("CNI_COMMAND", operation.as_str().to_owned()),
        ("CNI_CONTAINERID", of(|attachment| attachment.container.to_string())),
        ("CNI_NETNS", of(|attachment| attachment.netns.clone())),
        ("CNI_IFNAME", of(|attachment| attachment.interface.to_string())),
        ("CNI_ARGS", of(pairs)),
        ("CNI_PATH", path.joined()),
    ];
    Invocation { plugin: plugin.kind.clone(), env, stdin: Value::Object(request).to_string().into_bytes() }
}

/// The plugin's own object with the list's name and version, without what the runtime answers for (specification,
/// "Deriving request configuration"); `prevResult` in a file would be taken for a real one.
fn request(list: &Conflist, plugin: &Plugin) -> Map<String, Value> {
    let mut request = plugin.config.clone();
    request.remove("capabilities");
    request.remove("prevResult");
    request.insert("name".to_owned(), list.name.as_str().into());
    request.insert("cniVersion".to_owned(), list.version.as_str().into());
    request
}

/// [`request`] with `runtimeConfig`, of which a plugin sees what it has the capabilities for, and `prevResult`.
fn attached(
    list: &Conflist,
    plugin: &Plugin,
    attachment: &Attachment,
    previous: Option<&AddResult>,
) -> Map<String, Value> {
    let mut request = request(list, plugin);
    let wanted = attachment.capability_args.iter().filter(|(key, _)| plugin.capabilities.contains(*key));
    let config: Map<String, Value> = wanted.map(|(key, value)| (key.clone(), value.clone())).collect();
    if !config.is_empty() {
        request.insert("runtimeConfig".to_owned(), config.into());
    }
    if let Some(previous) = previous {
        request.insert("prevResult".to_owned(), previous.to_object(list.version).into());
    }
    request
}

/// ADD of the plugin number `at` (from 0) of `list`; `previous` is the result of the one before it. The last one's
/// result is the network's, and goes into the cache before anything else is done.
///
/// # Errors
/// [`InvokeError`]: no such plugin, no namespace, or `previous` where none belongs.
pub fn add(
    list: &Conflist,
    at: usize,
    attachment: &Attachment,
    path: &PluginPath,
    previous: Option<&AddResult>,
) -> Result<Invocation, InvokeError> {
    let Some(plugin) = list.plugins.get(at) else {
        return Err(InvokeError::NoPlugin { network: list.name.clone(), at });
    };
    attachment.with_namespace()?;
    if previous.is_some() != (at > 0) {
        return Err(InvokeError::Previous(plugin.kind.clone()));
    }
    let request = attached(list, plugin, attachment, previous);
    Ok(invocation(Operation::Add, plugin, path, Some(attachment), request))
}

/// DEL of all plugins, the last one first. `cached` is the result of ADD if the cache has it: a DEL goes on without,
/// as it must also after an ADD that failed (specification, "Lifecycle & Ordering"). libcni ends
/// at the first failure and leaves the cache as it is; plugins accept another DEL later.
pub fn del(list: &Conflist, attachment: &Attachment, path: &PluginPath, cached: Option<&AddResult>) -> Vec<Invocation> {
    let call = |plugin| {
        let request = attached(list, plugin, attachment, cached);
        invocation(Operation::Del, plugin, path, Some(attachment), request)
    };
    list.plugins.iter().rev().map(call).collect()
}

/// CHECK of all plugins in the order of ADD, each with the whole ADD's result; none if the network has `disableCheck`.
///
/// # Errors
/// [`InvokeError::NoNamespace`].
pub fn check(
    list: &Conflist,
    attachment: &Attachment,
    path: &PluginPath,
    cached: &AddResult,
) -> Result<Vec<Invocation>, InvokeError> {
    if list.disable_check {
        return Ok(Vec::new());
    }
    attachment.with_namespace()?;
    let call = |plugin| {
        let request = attached(list, plugin, attachment, Some(cached));
        invocation(Operation::Check, plugin, path, Some(attachment), request)
    };
    Ok(list.plugins.iter().map(call).collect())
}

/// GC of all plugins, `valid` being all attachments of the network that there still are; none before 1.1.0 or with
/// `disableGC`. All are run, and their errors collected. Before it belongs a DEL of those that [`stale`] names.
///
/// # Errors
/// [`InvokeError::TooMany`]: a part of them would have the others' resources taken away.
pub fn gc(
    list: &Conflist,
    valid: &[(ContainerId, InterfaceName)],
    path: &PluginPath,
) -> Result<Vec<Invocation>, InvokeError> {
    if list.disable_gc || !list.version.has_gc_and_status() {
        return Ok(Vec::new());
    }
    if valid.len() > MAX_ATTACHMENTS {
        return Err(InvokeError::TooMany { what: "attachments", count: valid.len(), most: MAX_ATTACHMENTS });
    }
    let valid = valid.iter().map(|(id, interface)| json!({"containerID": id.as_str(), "ifname": interface.as_str()}));
    let valid: Value = valid.collect();
    let call = |plugin| {
        let mut request = request(list, plugin);
        request.insert("cni.dev/valid-attachments".to_owned(), valid.clone());
        // The first text of the specification 1.1 had this name (containernetworking/cni#1101), and plugins follow it.
        request.insert("cni.dev/attachments".to_owned(), valid.clone());
        invocation(Operation::Gc, plugin, path, None, request)
    };
    Ok(list.plugins.iter().map(call).collect())
}

/// The attachments of the network `list` in the cache that are none of the `valid` ones: each wants a DEL before GC,
/// with [`CacheEntry::attachment`] (libcni: `GCNetworkList`). None with `disableGC`.
pub fn stale<'a>(
    list: &Conflist,
    cached: &'a [CacheEntry],
    valid: &[(ContainerId, InterfaceName)],
) -> Vec<&'a CacheEntry> {
    let is_valid = |entry: &CacheEntry| {
        let same = |(id, interface): &(ContainerId, InterfaceName)| {
            id.as_str() == entry.container_id && interface.as_str() == entry.if_name
        };
        valid.iter().any(same)
    };
    let own = |entry: &&CacheEntry| entry.network_name == list.name.as_str() && !list.disable_gc;
    cached.iter().filter(own).filter(|entry| !is_valid(entry)).collect()
}

/// STATUS of all plugins in the order of ADD, to be ended at the first error; none before 1.1.0.
pub fn status(list: &Conflist, path: &PluginPath) -> Vec<Invocation> {
    if !list.version.has_gc_and_status() {
        return Vec::new();
    }
    let call = |plugin| invocation(Operation::Status, plugin, path, None, request(list, plugin));
    list.plugins.iter().map(call).collect()
}

/// VERSION of one plugin; [`super::result::supported`] reads the answer.
pub fn version(plugin: &Plugin, path: &PluginPath) -> Invocation {
    let newest = Version::ALL[Version::ALL.len() - 1];
    let request = Map::from_iter([("cniVersion".to_owned(), newest.as_str().into())]);
    invocation(Operation::Version, plugin, path, None, request)
}

#[cfg(test)]
mod tests;
