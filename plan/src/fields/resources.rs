//! Requests and limits as unit settings.
use std::fmt;

use k8s_openapi::api::core::v1::{Container, Pod};
use serde::{Deserialize, Serialize};

use crate::inputs::NodeFacts;
use crate::note::{Note, Refusal};
use crate::quantity::Quantity;

/// Kubernetes' quality-of-service class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QosClass {
    /// Requests and limits of cpu and memory are set and equal everywhere.
    Guaranteed,
    /// Anything between.
    Burstable,
    /// Nothing is set.
    BestEffort,
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        })
    }
}

/// One container's cgroup settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerResources {
    /// `CPUWeight=`, 1 ..= 10000.
    pub cpu_weight: Option<u64>,
    /// `CPUQuotaPerSecUSec=`, with systemd's default period of 100 ms.
    pub cpu_quota_us_per_s: Option<u64>,
    /// `MemoryMax=` in bytes.
    pub memory_max: Option<u64>,
    /// `MemorySwapMax=` in bytes.
    pub memory_swap_max: Option<u64>,
    /// `TasksMax=`.
    pub tasks_max: Option<u64>,
    /// `OOMScoreAdjust=`.
    pub oom_score_adjust: i32,
    /// What is not enforced.
    pub notes: Vec<Note>,
    /// Why the pod cannot run.
    pub refusals: Vec<Refusal>,
}

/// The pod slice's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodResources {
    /// The pod's class.
    pub qos: QosClass,
    /// `CPUWeight=`, 1 ..= 10000.
    pub cpu_weight: Option<u64>,
    /// `CPUQuotaPerSecUSec=`.
    pub cpu_quota_us_per_s: Option<u64>,
    /// `MemoryMax=` in bytes.
    pub memory_max: Option<u64>,
    /// `MemorySwapMax=` in bytes.
    pub memory_swap_max: Option<u64>,
    /// What is not enforced.
    pub notes: Vec<Note>,
    /// Why the pod cannot run.
    pub refusals: Vec<Refusal>,
}

/// One container's settings. `path` is its field path: `spec.containers[0]`.
pub fn container_resources(pod: &Pod, container: &Container, path: &str, facts: &NodeFacts) -> ContainerResources {
    let _ = (pod, container, path, facts);
    todo!()
}

/// The pod slice's settings.
pub fn pod_resources(pod: &Pod, facts: &NodeFacts) -> PodResources {
    let _ = (pod, facts);
    todo!()
}

/// The pod's class.
pub fn qos_class(pod: &Pod) -> QosClass {
    let _ = pod;
    todo!()
}

pub(crate) fn container_limit(container: &Container, name: &str) -> Result<Option<Quantity>, String> {
    let _ = (container, name);
    todo!()
}

pub(crate) fn container_request(container: &Container, name: &str) -> Result<Option<Quantity>, String> {
    let _ = (container, name);
    todo!()
}
