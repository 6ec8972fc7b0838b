//! The Node object: what this machine is and how it is, in a kubelet's words (v1.37, `pkg/kubelet/nodestatus`).
//!
//! Everything in it is measured by the agent; here it only gets its form. What the node may not write is left out:
//! NodeRestriction refuses labels of `node-restriction.kubernetes.io/`, `node-role.kubernetes.io/` and taints after the
//! object was made.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeDaemonEndpoints, NodeSpec, NodeStatus, NodeSwapStatus,
    NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::inputs::NodeFacts;

mod claim;
mod conditions;
mod lease;
mod patch;
mod report;

pub use claim::{Claim, Silence, claim};
pub use conditions::{Available, Pressures, measured};
pub use lease::{LEASE_DURATION_MS, LEASE_NAMESPACE, RENEW_MS, lease, renewal};
pub use patch::patch;
pub use report::{REPORT_MS, must_report, written_ms};

/// The key of the taint that keeps pods away that do not ask for a node of this kind: the founding program's.
pub const TAINT: &str = "virtual-kubelet.io/provider";

/// Kubernetes' version whose node this is one of; what follows the dash is ours. It has to lie within three minor versions
/// below the API server's, and no higher.
pub const KUBELET_VERSION: &str = concat!("v1.37.0-systemk.", env!("CARGO_PKG_VERSION"));

/// At most so many images are listed, the largest first (`nodeStatusMaxImages`).
const MOST_IMAGES: usize = 50;

/// What the machine is; does not change while it runs, but for `boot_id` over a reboot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The firmware's name for it; the machine id where there is none.
    pub system_uuid: String,
    /// The kernel's name for this boot.
    pub boot_id: String,
    /// `uname -r`.
    pub kernel_version: String,
    /// `PRETTY_NAME` of os-release.
    pub os_image: String,
    /// What the running systemd says of itself: `252.39-1~deb12u2`.
    pub systemd: String,
    /// As Go calls it: `amd64`, `arm64`.
    pub architecture: String,
    /// Millicores.
    pub cpu_milli: i64,
    /// Bytes.
    pub memory_bytes: i64,
    /// Bytes of the file system that holds the pods' directories.
    pub storage_bytes: i64,
    /// Bytes.
    pub swap_bytes: i64,
    /// Bytes by page size: `2Mi`.
    pub huge_pages: BTreeMap<String, i64>,
    /// How many pods the node takes.
    pub pods: i64,
}

/// All that a Node object is made of.
#[derive(Clone, Copy, Debug)]
pub struct NodeInput<'a> {
    /// The node's name and addresses.
    pub facts: &'a NodeFacts,
    /// The machine.
    pub machine: &'a Machine,
    /// Where the node's own server of logs and exec listens.
    pub port: u16,
    /// Since when it is short of what.
    pub pressures: &'a Pressures,
    /// Names and sizes in bytes, where known, of the images on the node.
    pub images: &'a [(Vec<String>, Option<i64>)],
    /// Why the node is not ready; None: it is.
    pub not_ready: Option<&'a str>,
    /// The status last seen: transitions are counted from it.
    pub previous: Option<&'a NodeStatus>,
    /// Milliseconds since the epoch.
    pub now_ms: i64,
}

/// The object to register. Its taint is only taken when the object is made.
pub fn node(input: &NodeInput<'_>, taint: bool) -> Node {
    let taint = taint.then(|| Taint {
        key: TAINT.to_owned(),
        value: Some("systemk".to_owned()),
        effect: "NoSchedule".to_owned(),
        time_added: None,
    });
    Node {
        metadata: ObjectMeta {
            name: Some(input.facts.node_name.clone()),
            labels: Some(labels(input.facts, input.machine)),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec { taints: taint.map(|taint| vec![taint]), ..NodeSpec::default() }),
        status: Some(status(input)),
    }
}

/// The labels that a kubelet gives its node.
pub fn labels(facts: &NodeFacts, machine: &Machine) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for domain in ["kubernetes.io", "beta.kubernetes.io"] {
        labels.insert(format!("{domain}/os"), "linux".to_owned());
        labels.insert(format!("{domain}/arch"), machine.architecture.clone());
    }
    labels.insert("kubernetes.io/hostname".to_owned(), facts.node_name.clone());
    labels
}

/// The node's status.
pub fn status(input: &NodeInput<'_>) -> NodeStatus {
    NodeStatus {
        addresses: Some(addresses(input.facts)),
        allocatable: Some(allocatable(input.machine)),
        capacity: Some(capacity(input.machine)),
        conditions: Some(conditions::conditions(input)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(input.port) }),
        }),
        images: Some(images(input)),
        node_info: Some(node_info(input.machine)),
        ..NodeStatus::default()
    }
}

fn addresses(facts: &NodeFacts) -> Vec<NodeAddress> {
    let of =
        |kind: &'static str| move |address: &String| NodeAddress { address: address.clone(), type_: kind.to_owned() };
    let internal = facts.internal_ips.iter().map(of("InternalIP"));
    let external = facts.external_ips.iter().map(of("ExternalIP"));
    let hostname = NodeAddress { address: facts.node_name.clone(), type_: "Hostname".to_owned() };
    internal.chain(external).chain([hostname]).collect()
}

/// As the API server writes it back (apimachinery, `Quantity.CanonicalizeBytes`): the largest binary suffix that leaves no
/// rest. Any other spelling would look like a change at every comparison.
fn bytes(bytes: i64) -> ApiQuantity {
    let suffixes = [(60, "Ei"), (50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")];
    let whole = suffixes.into_iter().find(|(bits, _)| bytes != 0 && bytes.trailing_zeros() >= *bits);
    ApiQuantity(whole.map_or_else(|| bytes.to_string(), |(bits, suffix)| format!("{}{suffix}", bytes >> bits)))
}

fn cores(milli: i64) -> ApiQuantity {
    ApiQuantity(if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") })
}

fn resources(machine: &Machine, memory_bytes: i64, storage_bytes: i64) -> BTreeMap<String, ApiQuantity> {
    let mut resources = BTreeMap::from([
        ("cpu".to_owned(), cores(machine.cpu_milli)),
        ("memory".to_owned(), bytes(memory_bytes)),
        ("ephemeral-storage".to_owned(), bytes(storage_bytes)),
        ("pods".to_owned(), ApiQuantity(machine.pods.to_string())),
    ]);
    for (size, amount) in &machine.huge_pages {
        resources.insert(format!("hugepages-{size}"), bytes(*amount));
    }
    resources
}

fn capacity(machine: &Machine) -> BTreeMap<String, ApiQuantity> {
    resources(machine, machine.memory_bytes, machine.storage_bytes)
}

/// What pods can be promised: all but what the eviction thresholds keep back, and huge pages, which are no ordinary memory.
fn allocatable(machine: &Machine) -> BTreeMap<String, ApiQuantity> {
    let huge: i64 = machine.huge_pages.values().sum();
    let memory = machine.memory_bytes.saturating_sub(conditions::MEMORY_LEFT).saturating_sub(huge).max(0);
    resources(machine, memory, machine.storage_bytes.saturating_sub(conditions::storage_left(machine)))
}

/// The largest first. A size that is not known again yet, after the agent was started, is what was said before.
fn images(input: &NodeInput<'_>) -> Vec<ContainerImage> {
    let said: Vec<&ContainerImage> = input.previous.iter().flat_map(|status| status.images.iter().flatten()).collect();
    let before = |names: &Vec<String>| said.iter().find(|image| image.names.as_ref() == Some(names))?.size_bytes;
    let sized = input.images.iter().map(|(names, bytes)| (names, bytes.or_else(|| before(names))));
    let mut sorted: Vec<_> = sized.collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let image = |(names, bytes): (&Vec<String>, _)| ContainerImage { names: Some(names.clone()), size_bytes: bytes };
    sorted.into_iter().take(MOST_IMAGES).map(image).collect()
}

fn node_info(machine: &Machine) -> NodeSystemInfo {
    // `252.39-1~deb12u2`: what the distribution appends is no part of the version.
    let systemd = machine.systemd.split(['-', '~', '+', ' ']).next().unwrap_or_default();
    NodeSystemInfo {
        architecture: machine.architecture.clone(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: format!("systemd://{systemd}"),
        kernel_version: machine.kernel_version.clone(),
        // Deprecated and always empty since v1.33.
        kube_proxy_version: String::new(),
        kubelet_version: KUBELET_VERSION.to_owned(),
        machine_id: machine.machine_id.clone(),
        operating_system: "linux".to_owned(),
        running_in_user_namespace: None,
        os_image: machine.os_image.clone(),
        // The API server refuses a capacity of 0.
        swap: (machine.swap_bytes > 0).then_some(NodeSwapStatus { capacity: Some(machine.swap_bytes) }),
        system_uuid: machine.system_uuid.clone(),
    }
}

#[cfg(test)]
mod tests;
