//! When a status is worth a write: 5,000 nodes that repeat themselves are most of what a control plane stores.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::NodeStatus;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// An unchanged status is written again after so long, in milliseconds (`nodeStatusReportFrequency`); the Lease says
/// meanwhile that the node lives.
pub const REPORT_MS: i64 = 5 * 60 * 1000;

/// Whether `new` has to be written, where `old` was at `written_ms`. What others write (`volumesAttached`, extended
/// resources, conditions that are not ours) is not looked at.
pub fn must_report(old: &NodeStatus, written_ms: i64, new: &NodeStatus, now_ms: i64) -> bool {
    // A clock that was put back is no reason to be silent for longer.
    let age_ms = now_ms.saturating_sub(written_ms);
    !(0..REPORT_MS).contains(&age_ms) || said(old, new) != said(new, new)
}

/// When a status that was read was written, in milliseconds since the epoch, by what it says itself; 0 if it does not.
pub fn written_ms(status: &NodeStatus) -> i64 {
    let heartbeats = status.conditions.iter().flatten().filter(|condition| condition.type_ == "Ready");
    heartbeats.filter_map(|ready| ready.last_heartbeat_time.as_ref()).map(|at| at.0.as_millisecond()).max().unwrap_or(0)
}

/// Whether an amount of this name is one that this node says.
pub(super) fn is_own(resource: &str, ours: Option<&BTreeMap<String, Quantity>>) -> bool {
    resource.starts_with("hugepages-") || ours.is_some_and(|ours| ours.contains_key(resource))
}

/// The parts of a status that this node says, without the times of heartbeats.
fn said(status: &NodeStatus, ours: &NodeStatus) -> NodeStatus {
    let is_ours = |kind: &str| ours.conditions.iter().flatten().any(|condition| condition.type_ == kind);
    let mut conditions: Vec<_> =
        status.conditions.iter().flatten().filter(|condition| is_ours(&condition.type_)).cloned().collect();
    for condition in &mut conditions {
        condition.last_heartbeat_time = None;
    }
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    let own = |amounts: &Option<BTreeMap<String, Quantity>>, of_ours: &Option<BTreeMap<String, Quantity>>| {
        let mut amounts = amounts.clone();
        if let Some(amounts) = &mut amounts {
            amounts.retain(|name, _| is_own(name, of_ours.as_ref()));
        }
        amounts
    };
    NodeStatus {
        addresses: status.addresses.clone(),
        allocatable: own(&status.allocatable, &ours.allocatable),
        capacity: own(&status.capacity, &ours.capacity),
        conditions: Some(conditions),
        daemon_endpoints: status.daemon_endpoints.clone(),
        images: status.images.clone().filter(|images| !images.is_empty()),
        node_info: status.node_info.clone(),
        ..NodeStatus::default()
    }
}
