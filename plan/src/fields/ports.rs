//! `ports`: what a pod claims of the host's network.
//!
//! Every native pod is on it, so the port that a program is said to listen on (`containerPort`) is the host's. Those that
//! the scheduler knows of as well (`hostPort`, and any with `hostNetwork: true`) follow its NodePorts plugin to the letter:
//! what it lets onto a node together is no clash here either.
//!
//! Upstream: `pkg/scheduler/framework/plugins/nodeports`, `HostPortInfo` of `pkg/scheduler/framework/types.go`.

use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec};
use serde::{Deserialize, Serialize};

use super::{Findings, container_path};
use crate::note::{Note, NoteKind};

/// NodePorts' word for every address. (It takes `::` for an address like any other, and so must we.)
const EVERY_ADDRESS: &str = "0.0.0.0";

/// One port that a pod wants to itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortClaim {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// On the host.
    pub port: u16,
    /// The address; `0.0.0.0` for all.
    pub host_ip: String,
    /// The scheduler sees it too, and does not bring pods together that claim the same.
    pub scheduled: bool,
}

impl PortClaim {
    /// Whether two pods cannot have both.
    pub fn clashes(&self, other: &Self) -> bool {
        let every = |claim: &Self| claim.host_ip == EVERY_ADDRESS;
        let same_address = self.host_ip == other.host_ip || every(self) || every(other);
        self.port == other.port && self.protocol == other.protocol && same_address
    }
}

impl fmt::Display for PortClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip.as_str() {
            EVERY_ADDRESS => {}
            v6 if v6.contains(':') => write!(f, "[{v6}]:")?,
            v4 => write!(f, "{v4}:")?,
        }
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// The containers that run for as long as their pod does: an ordinary init container is over before the others start, so
/// NodePorts leaves it out.
fn lasting(spec: &PodSpec) -> impl Iterator<Item = (String, &Container)> {
    let init = spec.init_containers.iter().flatten().enumerate();
    let sidecars = init.filter(|(_, c)| c.restart_policy.as_deref() == Some("Always"));
    let app = spec.containers.iter().enumerate();
    sidecars.map(|(i, c)| (container_path(true, i), c)).chain(app.map(|(i, c)| (container_path(false, i), c)))
}

/// Everything that a pod claims, in its own order. A port that two of its containers name is no clash: they share one
/// network in any Kubernetes, and how they get along there is theirs to settle.
pub fn claims(spec: &PodSpec) -> Vec<PortClaim> {
    let host_network = spec.host_network.unwrap_or_default();
    let mut claims: Vec<PortClaim> = Vec::new();
    for (_, container) in lasting(spec) {
        for claim in container.ports.iter().flatten().flat_map(|port| of_port(port, host_network)) {
            if !claims.contains(&claim) {
                claims.push(claim);
            }
        }
    }
    claims
}

fn of_port(port: &ContainerPort, host_network: bool) -> impl Iterator<Item = PortClaim> {
    let own = u16::try_from(port.container_port).unwrap_or(0);
    let asked = u16::try_from(port.host_port.unwrap_or_default()).unwrap_or(0);
    // An API server fills it in so.
    let host = if host_network && asked == 0 { own } else { asked };
    let protocol = port.protocol.as_deref().filter(|p| !p.is_empty()).unwrap_or("TCP");
    let claim = |port, host_ip, scheduled| PortClaim { protocol: protocol.to_owned(), port, host_ip, scheduled };
    let scheduled = (host != 0).then(|| claim(host, address(port.host_ip.as_deref()), true));
    // Nothing maps hostPort to containerPort on the host's own network: the program listens where it listens.
    let listens = (own != 0 && own != host).then(|| claim(own, EVERY_ADDRESS.to_owned(), false));
    scheduled.into_iter().chain(listens)
}

/// An address in its one way of writing.
fn address(host_ip: Option<&str>) -> String {
    let text = host_ip.filter(|ip| !ip.is_empty()).unwrap_or(EVERY_ADDRESS);
    text.parse::<IpAddr>().map_or_else(|_| text.to_owned(), |ip| ip.to_string())
}

/// What the person who wrote the ports should know.
pub(super) fn findings(spec: &PodSpec, found: &mut Findings) {
    let host_network = spec.host_network.unwrap_or_default();
    let mut seen: Vec<(PortClaim, &str)> = Vec::new();
    for (path, container) in lasting(spec) {
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let path = format!("{path}.ports[{index}]");
            let mut warn = |path: String, text: String| found.notes.push(Note::new(NoteKind::Warned, path, text));
            let host = port.host_port.unwrap_or_default();
            if host != 0 && host != port.container_port && !host_network {
                let own = port.container_port;
                warn(
                    format!("{path}.hostPort"),
                    format!(
                        "nothing forwards {host} to {own}: the pod is on the host's network, let the program listen on {host} itself"
                    ),
                );
            }
            for claim in of_port(port, host_network) {
                let other = seen.iter().find(|(known, of)| *of != container.name && known.clashes(&claim));
                if let Some((_, other)) = other {
                    warn(path.clone(), format!("{claim} is also a port of container {other}, on the same network"));
                }
                seen.push((claim, &container.name));
            }
        }
    }
}

#[cfg(test)]
mod tests;
