//! What the Node object is to say now: the measured machine and the agent's own word, in `plan`'s form.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, NodeStatus};
use plan::inputs::NodeFacts;
use plan::node::{Machine, NodeInput};

use super::Health;

/// Names and sizes in bytes of the images on the node.
type Images = Box<dyn Fn() -> Vec<(Vec<String>, Option<i64>)> + Send + Sync>;

/// All that a Node object is made of.
pub(crate) struct Description {
    /// The node's name and addresses.
    pub(crate) facts: Arc<NodeFacts>,
    /// Where the kubelet API listens.
    pub(crate) port: u16,
    /// Keep pods away that do not tolerate a node of this kind.
    pub(crate) taint: bool,
    /// The images on the node.
    pub(crate) images: Images,
    /// The machine.
    pub(crate) health: Health,
}

impl Description {
    pub(super) fn name(&self) -> &str {
        &self.facts.node_name
    }

    pub(super) fn machine(&self) -> &Machine {
        self.health.machine()
    }

    /// Measures again.
    pub(super) async fn look(&mut self) {
        self.health.look().await;
    }

    /// The object as it should be, where the API server has `previous`.
    pub(super) fn node(&self, previous: Option<&NodeStatus>, now_ms: i64) -> Node {
        let images = (self.images)();
        let not_ready = self.health.not_ready();
        let input = NodeInput {
            facts: &self.facts,
            machine: self.health.machine(),
            port: self.port,
            pressures: self.health.pressures(),
            images: &images,
            not_ready: not_ready.as_deref(),
            previous,
            now_ms,
        };
        plan::node::node(&input, self.taint)
    }
}
