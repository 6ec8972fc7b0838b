//! What becomes of the node's conditions, told to people: an event of the Node for each that changes, as a kubelet's, and a line
//! of the log that says what was measured.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference};

use super::Description;
use crate::cluster::events::Events;

/// Conditions as they were last told, by kind.
pub(super) struct Told {
    events: Arc<Events>,
    conditions: BTreeMap<String, String>,
}

fn conditions(node: &Node) -> BTreeMap<String, String> {
    let all = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    all.map(|condition| (condition.type_.clone(), condition.status.clone())).collect()
}

/// The kubelet's names of these changes.
fn reason(kind: &str, status: &str) -> Option<&'static str> {
    Some(match (kind, status) {
        ("Ready", "True") => "NodeReady",
        ("Ready", _) => "NodeNotReady",
        ("MemoryPressure", "True") => "NodeHasInsufficientMemory",
        ("MemoryPressure", _) => "NodeHasSufficientMemory",
        ("DiskPressure", "True") => "NodeHasDiskPressure",
        ("DiskPressure", _) => "NodeHasNoDiskPressure",
        ("PIDPressure", "True") => "NodeHasInsufficientPID",
        ("PIDPressure", _) => "NodeHasSufficientPID",
        _ => return None,
    })
}

impl Told {
    /// Nothing is told of how a node begins: it registers, which is told.
    pub(super) fn new(events: Arc<Events>, node: &Node) -> Self {
        Self { events, conditions: conditions(node) }
    }

    /// The node is so now. What a controller has said of it meanwhile (Unknown) was told by the controller.
    pub(super) fn tell(&mut self, node: &Node, description: &Description) {
        let now = conditions(node);
        let changed = now.iter().filter(|(kind, status)| self.conditions.get(*kind).is_some_and(|was| was != *status));
        for (kind, status) in changed {
            let Some(reason) = reason(kind, status) else { continue };
            let name = description.name();
            let said = format!("Node {name} status is now: {reason}");
            self.events.record(about(name), false, reason, &said);
            let measured = description.health.measured();
            if kind.ends_with("Pressure") && status == "True" {
                tracing::warn!("{said}: {measured}; the scheduler sends no pods here until it is over");
            } else {
                tracing::info!("{said}: {measured}");
            }
        }
        self.conditions = now;
    }
}

/// The kubelet gives the name for the uid as well, and kubectl's `describe node` looks for that.
fn about(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}
