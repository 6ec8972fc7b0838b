//! The variables that tell of services, as the kubelet's `getServiceEnvVarMap` and `pkg/kubelet/envvars` make them, and of
//! the API server.
//!
//! `KUBERNETES_SERVICE_HOST` is the one that programs cannot do without. The cluster IP of the service `kubernetes` leads
//! nowhere from a machine without a kube-proxy, and a pod here is on such a machine's own network: so the values are those
//! of the API server as the node itself reaches it, whose certificate is therefore valid for them. The names stay those that
//! the service gives everywhere (its port is 443 in every cluster).

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::fields::downward::{DEFAULT_NAMESPACE, namespace};
use crate::inputs::{ApiServer, ClusterFacts, ServiceAddress, ServicePort};
use crate::launch::EnvVar;

/// The API server's service, in the namespace `default` (`masterServices` of the kubelet).
const API_SERVER: &str = "kubernetes";
const API_SERVER_PORT: i32 = 443;

/// Whether the services of its namespace are in the pod's environment; the API server is in any case.
pub(crate) fn linked(spec: &PodSpec) -> bool {
    spec.enable_service_links != Some(false)
}

/// Every variable; of two of one name the later is meant. Two services may claim the same one (`x` with its port 80 and
/// `x-port-80-tcp`): the kubelet leaves that to chance, here the later name wins, and the API server against them all.
pub(super) fn variables(pod: &Pod, cluster: &ClusterFacts) -> Vec<EnvVar> {
    let linked = pod.spec.as_ref().is_some_and(linked);
    let in_default = namespace(pod) == DEFAULT_NAMESPACE;
    let services = cluster.services.iter().filter(|_| linked).filter(|(name, _)| !in_default || *name != API_SERVER);
    let mut vars = Vec::new();
    // A service of that name in the pod's own namespace takes the place of the API server's, as in the kubelet.
    let mut replaced = false;
    for (name, service) in services {
        replaced |= name == API_SERVER;
        of_service(name, service, None, &mut vars);
    }
    if !replaced {
        let port = ServicePort { name: "https".to_owned(), protocol: "TCP".to_owned(), port: API_SERVER_PORT };
        let service = ServiceAddress { cluster_ip: String::new(), ports: vec![port] };
        of_service(API_SERVER, &service, Some(&cluster.server), &mut vars);
    }
    vars
}

/// `reached`: where it is to be found in place of its cluster IP and ports.
fn of_service(name: &str, service: &ServiceAddress, reached: Option<&ApiServer>, vars: &mut Vec<EnvVar>) {
    let prefix = upper(name);
    let host = reached.map_or(service.cluster_ip.as_str(), |server| &server.host);
    let number = |port: &ServicePort| reached.map_or(port.port.to_string(), |server| server.port.to_string());
    let mut set = |suffix: &str, value: &str| vars.push(EnvVar::new(format!("{prefix}_{suffix}"), value));
    set("SERVICE_HOST", host);
    if let Some(first) = service.ports.first() {
        set("SERVICE_PORT", &number(first));
    }
    for port in service.ports.iter().filter(|port| !port.name.is_empty()) {
        set(&format!("SERVICE_PORT_{}", upper(&port.name)), &number(port));
    }
    // Docker's links.
    for (index, port) in service.ports.iter().enumerate() {
        let protocol = port.protocol.to_ascii_lowercase();
        let url = format!("{protocol}://{}:{}", bracketed(host), number(port));
        if index == 0 {
            set("PORT", &url);
        }
        let link = format!("PORT_{}_{}", port.port, port.protocol.to_ascii_uppercase());
        set(&link, &url);
        set(&format!("{link}_PROTO"), &protocol);
        set(&format!("{link}_PORT"), &number(port));
        set(&format!("{link}_ADDR"), host);
    }
}

/// `makeEnvVariableName`.
fn upper(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}

/// `net.JoinHostPort`'s host.
fn bracketed(host: &str) -> String {
    if host.contains([':', '%']) { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests;
