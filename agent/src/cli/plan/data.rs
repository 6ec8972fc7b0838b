//! A plan for programs.

use plan::inputs::NodeFacts;
use plan::launch::Launch;
use plan::note::{Note, Refusal};
use plan::pod_plan::{ContainerPlan, ContainerRole};
use serde::Serialize;

use super::Planned;
use super::text::unknown;
use crate::cli::manifest_file::pod_name;

#[derive(Serialize)]
pub(super) struct Data {
    pods: Vec<PodData>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PodData {
    namespace: String,
    name: String,
    uid: String,
    refusals: Vec<Refusal>,
    notes: Vec<Note>,
    /// What all containers wait for.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slice: Option<File>,
    containers: Vec<ContainerData>,
}

#[derive(Serialize)]
struct File {
    path: String,
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerData {
    name: String,
    init: bool,
    /// Why there is neither unit nor launch.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<File>,
    #[serde(skip_serializing_if = "Option::is_none")]
    launch: Option<LaunchData>,
}

#[derive(Serialize)]
struct LaunchData {
    path: String,
    content: Launch,
}

pub(super) fn data(planned: &[Planned], facts: &NodeFacts) -> Data {
    Data { pods: planned.iter().map(|pod| pod_data(pod, facts)).collect() }
}

fn pod_data(pod: &Planned, facts: &NodeFacts) -> PodData {
    let (namespace, name) = pod_name(&pod.pod);
    let uid = pod.pod.metadata.uid.clone().unwrap_or_default();
    let none = PodData {
        namespace,
        name,
        uid,
        refusals: Vec::new(),
        notes: Vec::new(),
        blocked: None,
        slice: None,
        containers: Vec::new(),
    };
    match &pod.plan {
        Err(refusals) => PodData { refusals: refusals.clone(), ..none },
        Ok(plan) => {
            let slice_text = plan.containers.iter().find_map(|c| Some(c.attempt.as_ref().ok()?.slice_text.clone()));
            PodData {
                notes: plan.notes.clone(),
                blocked: plan.blocked.as_ref().map(|blocked| blocked.message.clone()),
                slice: slice_text.map(|text| File { path: format!("{}/{}", facts.unit_dir, plan.slice), text }),
                containers: plan.containers.iter().map(|container| container_data(container, pod, facts)).collect(),
                ..none
            }
        }
    }
}

fn container_data(container: &ContainerPlan, pod: &Planned, facts: &NodeFacts) -> ContainerData {
    let none = ContainerData {
        name: container.name.clone(),
        init: container.role == ContainerRole::Init,
        unknown: None,
        unit: None,
        launch: None,
    };
    match &container.attempt {
        Ok(attempt) => ContainerData {
            unit: Some(File { path: format!("{}/{}", facts.unit_dir, attempt.unit), text: attempt.unit_text.clone() }),
            launch: Some(LaunchData { path: attempt.launch_path.clone(), content: attempt.launch.clone() }),
            ..none
        },
        Err(blocked) => {
            let why = unknown(container, pod).unwrap_or_else(|| format!("{}: {}", blocked.reason, blocked.message));
            ContainerData { unknown: Some(why), ..none }
        }
    }
}
