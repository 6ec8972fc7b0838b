//! What ADD gives: interfaces, addresses, routes; and what VERSION gives.
//!
//! Source: specification 0.4.0, 1.0.0 and 1.1.0, "Result Types"; libcni's `types/040`, `types/100` and their
//! conversions. 0.3.0 and 0.3.1 are read as 0.4.0, which has the same form: plugins older than their configuration
//! answer so.

use std::net::IpAddr;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::cidr::{Cidr, optional_address, optional_text, texts};
use super::failure::PluginError;
use super::{PluginType, Version, shortened, shown};

mod write;

/// The largest result that is read, in bytes.
pub const MAX_RESULT: usize = 1 << 20;
/// The most interfaces, addresses or routes of a result.
pub const MAX_ENTRIES: usize = 1000;

/// A successful ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddResult {
    /// The version that it was given in.
    pub version: Version,
    /// On the host and in the sandbox, in the plugins' order.
    pub interfaces: Vec<Interface>,
    /// In the plugins' order.
    pub ips: Vec<Ip>,
    /// In the plugins' order.
    pub routes: Vec<Route>,
    /// Empty if no plugin has any.
    pub dns: Dns,
}

/// An interface of the attachment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// What it is called where it is.
    pub name: String,
    /// Its hardware address.
    #[serde(default, deserialize_with = "optional_text")]
    pub mac: Option<String>,
    /// From 1.1.0.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// The network namespace; None: the host's.
    #[serde(default, deserialize_with = "optional_text")]
    pub sandbox: Option<String>,
    /// From 1.1.0: of vhost-user and its like.
    #[serde(default, deserialize_with = "optional_text")]
    pub socket_path: Option<String>,
    /// From 1.1.0.
    #[serde(default, rename = "pciID", deserialize_with = "optional_text")]
    pub pci_id: Option<String>,
}

impl Interface {
    /// Whether it is in a sandbox and not on the host.
    pub fn is_sandboxed(&self) -> bool {
        self.sandbox.is_some()
    }
}

/// An address that was assigned.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Ip {
    /// With its network's prefix.
    pub address: Cidr,
    /// The network's gateway.
    #[serde(default, deserialize_with = "optional_address")]
    pub gateway: Option<IpAddr>,
    /// Which of the result's interfaces has it; there is one of that number.
    #[serde(default)]
    pub interface: Option<usize>,
}

/// A route that was made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// Its destination.
    pub dst: Cidr,
    /// The next hop.
    #[serde(default, deserialize_with = "optional_address")]
    pub gw: Option<IpAddr>,
    /// From 1.1.0, as all that follow.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// The segment size to advertise.
    #[serde(default)]
    pub advmss: Option<u32>,
    /// Lower comes first.
    #[serde(default)]
    pub priority: Option<u32>,
    /// The routing table.
    #[serde(default)]
    pub table: Option<u32>,
    /// 0 global, 253 link, 254 host.
    #[serde(default)]
    pub scope: Option<u32>,
}

/// The network's resolver. Kubernetes makes no use of it: a pod's comes from its `dnsPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Dns {
    /// Addresses, the first choice first.
    #[serde(default, deserialize_with = "texts")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(default, deserialize_with = "optional_text")]
    pub domain: Option<String>,
    /// Search domains.
    #[serde(default, deserialize_with = "texts")]
    pub search: Vec<String>,
    /// resolv.conf's.
    #[serde(default, deserialize_with = "texts")]
    pub options: Vec<String>,
}

/// What a plugin wrote is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the result of the CNI plugin {plugin}: {problem}")]
pub struct ResultError {
    /// Which one.
    pub plugin: PluginType,
    /// What is wrong.
    pub problem: Problem,
}

/// What can be wrong with a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No output.
    #[error("it wrote nothing, though the specification wants a result from every plugin of the chain")]
    Nothing,
    /// More than [`MAX_RESULT`].
    #[error("it has {0} bytes, more than the {MAX_RESULT} that are read")]
    TooLarge(usize),
    /// Not an object of JSON.
    #[error("it is not a JSON object: {0}")]
    Json(String),
    /// A version that is not supported.
    #[error("its cniVersion {0} is not supported (0.3.0 to 1.1.0 are)")]
    Version(String),
    /// A field that cannot be read.
    #[error("{field}: {reason}")]
    Field {
        /// Which one.
        field: &'static str,
        /// The parser's words, or ours.
        reason: String,
    },
    /// An error object, from a plugin that ended as if all were well.
    #[error("it ended with success and an error: {0}")]
    Failed(PluginError),
}

impl AddResult {
    /// What `plugin` wrote for ADD. `wanted` is its configuration's version, and the result's own if it names none
    /// (libcni: `fixupResultVersion`). No output is an error for every plugin of a chain, as it is for libcni.
    ///
    /// # Errors
    /// [`ResultError`]: the plugin and what is wrong.
    pub fn parse(plugin: &PluginType, wanted: Version, stdout: &[u8]) -> Result<Self, ResultError> {
        let read = || {
            let object = object_of(stdout)?;
            let code = object.get("code").and_then(Value::as_u64).unwrap_or(0);
            if code != 0 && object.contains_key("msg") && !object.contains_key("ips") {
                return Err(Problem::Failed(PluginError::of_object(plugin, &object)));
            }
            Self::of_object(object, wanted)
        };
        read().map_err(|problem| ResultError { plugin: plugin.clone(), problem })
    }

    /// `wanted` as in [`Self::parse`].
    pub(super) fn of_object(mut object: Map<String, Value>, wanted: Version) -> Result<Self, Problem> {
        let version = match object.get("cniVersion") {
            None | Some(Value::Null) => wanted,
            Some(Value::String(text)) => version_of(text, wanted)?,
            Some(_) => return Err(field("cniVersion", "not a string")),
        };
        let interfaces: Vec<Interface> = entries(&mut object, "interfaces")?;
        let ips: Vec<Ip> = entries(&mut object, "ips")?;
        if let Some(index) = ips.iter().filter_map(|ip| ip.interface).find(|index| *index >= interfaces.len()) {
            let count = interfaces.len();
            return Err(field("ips", &format!("interface {index} is none of the {count} in interfaces")));
        }
        let routes = entries(&mut object, "routes")?;
        let dns: Option<Dns> = taken(&mut object, "dns")?;
        Ok(Self { version, interfaces, ips, routes, dns: dns.unwrap_or_default() })
    }

    /// The same in the version `version`, for a plugin or a reader that needs it so.
    #[must_use]
    pub fn converted(mut self, version: Version) -> Self {
        self.version = version;
        if version == Version::V0_4 {
            for one in &mut self.interfaces {
                (one.mtu, one.socket_path, one.pci_id) = (None, None, None);
            }
        }
        self
    }

    /// The sandbox's interface `name`. A plugin that does not say where its interfaces are is believed by the name
    /// alone, as by go-cni; but never while another of that name is known to be in the sandbox: the host has an `eth0`
    /// too.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.position(name).map(|at| &self.interfaces[at])
    }

    fn position(&self, name: &str) -> Option<usize> {
        let mut named = self.interfaces.iter().enumerate().filter(|(_, one)| one.name == name);
        let sandboxed = named.clone().find(|(_, one)| one.is_sandboxed());
        sandboxed.or_else(|| named.next()).map(|(at, _)| at)
    }

    /// The pod's addresses: those of its interface `name` and those that belong to no interface (calico and others list
    /// none), each once, in the plugins' order. That order is kept, so the first one is `podIP`: containerd would
    /// put the first IPv4 before it (`ip_pref`), which a caller can do.
    pub fn pod_ips(&self, name: &str) -> Vec<IpAddr> {
        let position = self.position(name);
        let mut all: Vec<IpAddr> = Vec::new();
        for ip in &self.ips {
            let own = ip.interface.is_none() || ip.interface == position;
            if own && !all.contains(&ip.address.address) {
                all.push(ip.address.address);
            }
        }
        all
    }
}

/// The versions that `plugin` said for VERSION it supports, less those that we do not.
///
/// # Errors
/// [`ResultError`]: it is no answer to VERSION.
pub fn supported(plugin: &PluginType, stdout: &[u8]) -> Result<Vec<Version>, ResultError> {
    let read = || {
        let mut object = object_of(stdout)?;
        let all: Option<Vec<String>> = taken(&mut object, "supportedVersions")?;
        let all = all.ok_or_else(|| field("supportedVersions", "it is missing"))?;
        Ok(Version::ALL.into_iter().filter(|version| all.iter().any(|text| text == version.as_str())).collect())
    };
    read().map_err(|problem| ResultError { plugin: plugin.clone(), problem })
}

fn field(field: &'static str, reason: &str) -> Problem {
    Problem::Field { field, reason: shown(reason) }
}

fn object_of(stdout: &[u8]) -> Result<Map<String, Value>, Problem> {
    if stdout.len() > MAX_RESULT {
        return Err(Problem::TooLarge(stdout.len()));
    }
    if stdout.trim_ascii().is_empty() {
        return Err(Problem::Nothing);
    }
    match serde_json::from_slice(stdout) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Problem::Json("it is another value".to_owned())),
        Err(error) => Err(Problem::Json(shown(&error.to_string()))),
    }
}

fn version_of(text: &str, wanted: Version) -> Result<Version, Problem> {
    match text {
        "" => Ok(wanted),
        "0.3.0" | "0.3.1" => Ok(Version::V0_4),
        text => Version::parse(text).ok_or_else(|| Problem::Version(shortened(text, 20))),
    }
}

fn taken<T: DeserializeOwned>(object: &mut Map<String, Value>, name: &'static str) -> Result<Option<T>, Problem> {
    let value = object.remove(name).unwrap_or_default();
    serde_json::from_value(value).map_err(|error| field(name, &error.to_string()))
}

fn entries<T: DeserializeOwned>(object: &mut Map<String, Value>, name: &'static str) -> Result<Vec<T>, Problem> {
    if object.get(name).and_then(Value::as_array).is_some_and(|all| all.len() > MAX_ENTRIES) {
        return Err(field(name, &format!("more than the {MAX_ENTRIES} entries that are supported")));
    }
    Ok(taken(object, name)?.unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod tests;
