//! What a pod wants of its network beyond a connection: `runtimeConfig`, of which each plugin gets the part that it
//! has a capability for.
//!
//! Source: the CNI conventions, "Well-known Capabilities"; containerd's `cniNamespaceOpts`; Kubernetes' `bandwidth`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::cidr::Cidr;
use super::shown;

/// The annotation with the limit of what the pod receives.
pub const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
/// The annotation with the limit of what the pod sends.
pub const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// The least limit, in bits per second (Kubernetes: `validateBandwidthIsReasonable`).
pub const MIN_RATE: u64 = 1_000;
/// The greatest limit, in bits per second.
pub const MAX_RATE: u64 = 1_000_000_000_000_000;
/// The burst, in bits, which no annotation sets (containerd: `toCNIBandWidth`; the plugin takes no more).
pub const BURST: u64 = u32::MAX as u64;
/// The most entries of each list.
pub const MAX_LIST: usize = 1000;
/// The most bytes of all annotations (Kubernetes: `TotalAnnotationSizeLimitB`).
pub const MAX_ANNOTATIONS: usize = 256 << 10;
/// The longest text of any other kind, in bytes.
const MAX_TEXT: usize = 4095;

/// A protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP, Kubernetes' default.
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// Kubernetes' `TCP`, `UDP`, `SCTP`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|one| one.as_str().eq_ignore_ascii_case(text))
    }

    /// As plugins have it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port of the host that leads to one of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// 0: none is wanted.
    pub host_port: u16,
    /// Not 0.
    pub container_port: u16,
    /// Of both.
    pub protocol: Protocol,
    /// None: every address of the host.
    pub host_ip: Option<IpAddr>,
}

/// A pool of addresses, as host-local's `ranges` have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpRange {
    /// The network.
    pub subnet: Cidr,
    /// The first address.
    pub start: Option<IpAddr>,
    /// The last address.
    pub end: Option<IpAddr>,
    /// The gateway.
    pub gateway: Option<IpAddr>,
}

/// The resolver of the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// resolv.conf's.
    pub options: Vec<String>,
}

/// All that a pod can want. What is empty or None is not passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// `portMappings`
    pub ports: Vec<PortMapping>,
    /// `bandwidth`: what the pod receives, in bits per second ([`INGRESS`]).
    pub ingress: Option<u64>,
    /// `bandwidth`: what the pod sends, in bits per second ([`EGRESS`]).
    pub egress: Option<u64>,
    /// `dns`
    pub dns: Dns,
    /// `ipRanges`: for each address that is wanted the pools that it may be from.
    pub ip_ranges: Vec<Vec<IpRange>>,
    /// `mac`
    pub mac: Option<String>,
    /// `ips`: addresses, with or without a prefix.
    pub ips: Vec<String>,
    /// `aliases`
    pub aliases: Vec<String>,
    /// `cgroupPath`
    pub cgroup_path: Option<String>,
    /// `io.kubernetes.cri.pod-annotations`, which containerd gives to plugins that ask for it.
    pub annotations: BTreeMap<String, String>,
}

/// Something that cannot be asked of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeConfigError {
    /// A limit that is a typing error.
    #[error("{annotation}: {rate} bit/s is not within {MIN_RATE} and {MAX_RATE}")]
    Rate {
        /// Which one.
        annotation: &'static str,
        /// In bits per second.
        rate: u64,
    },
    /// A port 0 of the pod.
    #[error("the host port {0} leads to the container port 0")]
    ContainerPort(u16),
    /// A text that is none of its kind.
    #[error("{capability}: \"{text}\" is not {wanted}")]
    Invalid {
        /// Which one.
        capability: &'static str,
        /// Shortened.
        text: String,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// Over [`MAX_LIST`], or [`MAX_ANNOTATIONS`].
    #[error("{0} is larger than what is supported")]
    TooMany(&'static str),
}

impl RuntimeConfig {
    /// By capability what a plugin gets that has it (libcni: `CapabilityArgs`).
    ///
    /// # Errors
    /// [`RuntimeConfigError`]: a value that plugins would misunderstand.
    pub fn capability_args(&self) -> Result<Map<String, Value>, RuntimeConfigError> {
        self.check_sizes()?;
        let mut args = Map::new();
        let mut put = |capability: &str, value: Option<Value>| {
            if let Some(value) = value {
                args.insert(capability.to_owned(), value);
            }
        };
        put("portMappings", self.port_mappings()?);
        put("bandwidth", self.bandwidth()?);
        put("dns", self.dns_value());
        put("ipRanges", self.ranges());
        put("mac", self.mac_value()?);
        put("ips", self.addresses()?);
        put("aliases", texts("aliases", &self.aliases)?);
        put("cgroupPath", self.cgroup_value()?);
        put("io.kubernetes.cri.pod-annotations", (!self.annotations.is_empty()).then(|| json!(self.annotations)));
        Ok(args)
    }

    fn check_sizes(&self) -> Result<(), RuntimeConfigError> {
        let lists = [
            ("portMappings", self.ports.len()),
            ("dns", self.dns.servers.len() + self.dns.searches.len() + self.dns.options.len()),
            ("ipRanges", self.ip_ranges.iter().map(|pools| pools.len() + 1).sum()),
            ("ips", self.ips.len()),
            ("aliases", self.aliases.len()),
        ];
        if let Some((list, _)) = lists.iter().find(|(_, count)| *count > MAX_LIST) {
            return Err(RuntimeConfigError::TooMany(list));
        }
        let bytes: usize = self.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > MAX_ANNOTATIONS {
            return Err(RuntimeConfigError::TooMany("the pod's annotations"));
        }
        for dns in [&self.dns.servers, &self.dns.searches, &self.dns.options] {
            texts("dns", dns)?;
        }
        Ok(())
    }

    /// Those without a host port are no mappings (containerd: `toCNIPortMappings`).
    fn port_mappings(&self) -> Result<Option<Value>, RuntimeConfigError> {
        let mut mappings: Vec<Value> = Vec::new();
        for port in self.ports.iter().filter(|port| port.host_port != 0) {
            if port.container_port == 0 {
                return Err(RuntimeConfigError::ContainerPort(port.host_port));
            }
            let mut mapping = json!({
                "hostPort": port.host_port,
                "containerPort": port.container_port,
                "protocol": port.protocol.as_str(),
            });
            if let Some(address) = port.host_ip {
                mapping["hostIP"] = address.to_string().into();
            }
            mappings.push(mapping);
        }
        Ok((!mappings.is_empty()).then(|| mappings.into()))
    }

    /// A side without a limit is left out: to the plugin a rate of 0 is none as well.
    fn bandwidth(&self) -> Result<Option<Value>, RuntimeConfigError> {
        let mut limits = Map::new();
        for (annotation, side, rate) in [(INGRESS, "ingress", self.ingress), (EGRESS, "egress", self.egress)] {
            let Some(rate) = rate else { continue };
            if !(MIN_RATE..=MAX_RATE).contains(&rate) {
                return Err(RuntimeConfigError::Rate { annotation, rate });
            }
            limits.insert(format!("{side}Rate"), rate.into());
            limits.insert(format!("{side}Burst"), BURST.into());
        }
        Ok((!limits.is_empty()).then(|| limits.into()))
    }

    fn dns_value(&self) -> Option<Value> {
        let lists = [("servers", &self.dns.servers), ("searches", &self.dns.searches), ("options", &self.dns.options)];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
        let dns: Map<String, Value> = lists.map(|(name, list)| (name.to_owned(), json!(list))).collect();
        (!dns.is_empty()).then(|| dns.into())
    }

    fn ranges(&self) -> Option<Value> {
        let range = |range: &IpRange| {
            let mut value = json!({"subnet": range.subnet.to_string()});
            for (name, address) in [("rangeStart", range.start), ("rangeEnd", range.end), ("gateway", range.gateway)] {
                if let Some(address) = address {
                    value[name] = address.to_string().into();
                }
            }
            value
        };
        let ranges = self.ip_ranges.iter().map(|pools| pools.iter().map(range).collect::<Value>());
        (!self.ip_ranges.is_empty()).then(|| ranges.collect())
    }

    fn mac_value(&self) -> Result<Option<Value>, RuntimeConfigError> {
        let Some(mac) = &self.mac else { return Ok(None) };
        let octet = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if mac.split(':').count() == 6 && mac.split(':').all(octet) {
            return Ok(Some(mac.as_str().into()));
        }
        Err(invalid("mac", mac, "six octets such as c2:11:22:33:44:55"))
    }

    fn addresses(&self) -> Result<Option<Value>, RuntimeConfigError> {
        let good = |text: &&String| text.parse::<IpAddr>().is_ok() || text.parse::<Cidr>().is_ok();
        match self.ips.iter().find(|text| !good(text)) {
            Some(text) => Err(invalid("ips", text, "an address")),
            None => Ok((!self.ips.is_empty()).then(|| json!(self.ips))),
        }
    }

    fn cgroup_value(&self) -> Result<Option<Value>, RuntimeConfigError> {
        let Some(path) = &self.cgroup_path else { return Ok(None) };
        if !path.starts_with('/') {
            return Err(invalid("cgroupPath", path, "an absolute path"));
        }
        texts("cgroupPath", std::slice::from_ref(path))?;
        Ok(Some(path.as_str().into()))
    }
}

fn invalid(capability: &'static str, text: &str, wanted: &'static str) -> RuntimeConfigError {
    RuntimeConfigError::Invalid { capability, text: shown(text), wanted }
}

/// A list of texts that some plugin may write into a file or onto a command line.
fn texts(capability: &'static str, list: &[String]) -> Result<Option<Value>, RuntimeConfigError> {
    let good = |text: &&String| !text.is_empty() && text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
    match list.iter().find(|text| !good(text)) {
        Some(text) => Err(invalid(capability, text, "a text of one line")),
        None => Ok((!list.is_empty()).then(|| json!(list))),
    }
}

#[cfg(test)]
mod tests;
