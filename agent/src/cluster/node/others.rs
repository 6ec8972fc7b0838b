//! What others make of the Node: one watch, as a kubelet has. A controller that heard nothing for a while calls the node
//! unreachable and its pods lost; without this, the node would find that out with its next report, minutes later.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::Client;

use super::Heartbeats;
use crate::cluster::error::explain;
use crate::cluster::watching::{Event, Streams, Watch, Watched};

/// Raises a doubt for each change that this node has to put right, until the runtime ends.
pub(in crate::cluster) async fn watch_node(
    client: Client,
    name: String,
    streams: Streams,
    heartbeats: Arc<Heartbeats>,
) {
    let watched = Watched { fields: Some(format!("metadata.name={name}")), ..Watched::all(streams) };
    let mut nodes = Watch::<Node>::new(client, watched);
    let mut there = false;
    loop {
        let right = match nodes.next().await {
            Ok(Event::Init) => {
                there = false;
                true
            }
            Ok(Event::InitApply(node) | Event::Apply(node)) => {
                there = true;
                let right = is_right(&node, heartbeats.uid.borrow().as_deref());
                heartbeats.saw(node);
                right
            }
            Ok(Event::InitDone) => there,
            Ok(Event::Delete(_)) => false,
            Err(error) => {
                heartbeats.outage.met(&error);
                tracing::debug!("cannot watch the node {name}: {}", explain(&error));
                true
            }
        };
        if !right {
            heartbeats.doubt.notify_one();
        }
    }
}

/// Whether it is the one that was registered, and nobody has given it up. What this node says of itself it compares when it
/// looks.
fn is_right(node: &Node, uid: Option<&str>) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    node.metadata.uid.as_deref() == uid && !conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "Unknown")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_that_was_given_up_or_made_anew_is_doubted() {
        let node = |ready: &str, pressure: &str| -> Node {
            let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
            let conditions = [condition("DiskPressure", pressure), condition("Ready", ready)];
            serde_json::from_value(json!({"metadata": {"uid": "u"}, "status": {"conditions": conditions}})).unwrap()
        };
        assert!(is_right(&node("True", "False"), Some("u")));
        assert!(is_right(&node("False", "True"), Some("u")), "its own word");
        assert!(!is_right(&node("Unknown", "Unknown"), Some("u")));
        assert!(!is_right(&node("True", "False"), Some("another")));
    }
}
