//! When a status is worth a write: 5,000 nodes that repeat themselves are most of what a control plane stores.

use k8s_openapi::api::core::v1::NodeStatus;

/// An unchanged status is written again after so long (`nodeStatusReportFrequency`); the Lease says meanwhile that the node
/// lives.
pub const REPORT_MS: i64 = 5 * 60 * 1000;

/// Whether `new` has to be written, where `old` was at `written_ms`. What others write (`volumesAttached`, conditions that are
/// not ours) is not looked at.
pub fn must_report(old: &NodeStatus, written_ms: i64, new: &NodeStatus, now_ms: i64) -> bool {
    // A clock that was put back is no reason to be silent for longer.
    let age_ms = now_ms.saturating_sub(written_ms);
    !(0..REPORT_MS).contains(&age_ms) || said(old, new) != said(new, new)
}

/// The parts of a status that this node says, without the times of heartbeats.
fn said(status: &NodeStatus, ours: &NodeStatus) -> NodeStatus {
    let ours = |kind: &str| ours.conditions.iter().flatten().any(|condition| condition.type_ == kind);
    let mut conditions: Vec<_> =
        status.conditions.iter().flatten().filter(|condition| ours(&condition.type_)).cloned().collect();
    for condition in &mut conditions {
        condition.last_heartbeat_time = None;
    }
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    NodeStatus {
        addresses: status.addresses.clone(),
        allocatable: status.allocatable.clone(),
        capacity: status.capacity.clone(),
        conditions: Some(conditions),
        daemon_endpoints: status.daemon_endpoints.clone(),
        images: status.images.clone().filter(|images| !images.is_empty()),
        node_info: status.node_info.clone(),
        ..NodeStatus::default()
    }
}
