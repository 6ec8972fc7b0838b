//! What an API server would refuse in the ports of a pod.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Container;

use super::names;
use super::pod::one_of;
use crate::note::Refusal;

pub(super) fn ports(container: &Container, path: &str, problems: &mut Vec<Refusal>) {
    let mut seen = BTreeSet::new();
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let path = format!("{path}.ports[{index}]");
        if !(1..=65535).contains(&port.container_port) {
            problems.push(Refusal::new(format!("{path}.containerPort"), "must be between 1 and 65535"));
        }
        if port.host_port.is_some_and(|port| !(0..=65535).contains(&port)) {
            problems.push(Refusal::new(format!("{path}.hostPort"), "must be between 1 and 65535"));
        }
        one_of(port.protocol.as_deref(), &["TCP", "UDP", "SCTP"], &format!("{path}.protocol"), problems);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            if !names::is_port_name(name) {
                let text = "must be 1 to 15 lower-case letters, digits and single -, with at least one letter";
                problems.push(Refusal::new(format!("{path}.name"), text));
            } else if !seen.insert(name) {
                problems.push(Refusal::new(format!("{path}.name"), format!("{name} is there twice")));
            }
        }
    }
}

/// Ports of the host: `taken` has those of the containers before this one.
pub(super) fn host_ports(
    container: &Container,
    host_network: bool,
    path: &str,
    taken: &mut BTreeSet<(String, String, i32)>,
    problems: &mut Vec<Refusal>,
) {
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let path = format!("{path}.ports[{index}]");
        let host_ip = port.host_ip.clone().unwrap_or_default();
        if !host_ip.is_empty() && host_ip.parse::<IpAddr>().is_err() {
            problems.push(Refusal::new(format!("{path}.hostIP"), "must be an IP address"));
        }
        let Some(host_port) = port.host_port.filter(|port| *port != 0) else { continue };
        if host_network && host_port != port.container_port {
            let text = "must be the containerPort, or left out, with hostNetwork: true";
            problems.push(Refusal::new(format!("{path}.hostPort"), text));
        }
        let protocol = port.protocol.clone().unwrap_or_default();
        if !taken.insert((protocol, host_ip, host_port)) {
            let text = format!("{host_port} is there twice: a port of the host is for one container");
            problems.push(Refusal::new(format!("{path}.hostPort"), text));
        }
    }
}
