//! The plans that the agent would make.

use std::collections::BTreeMap;

use plan::admission::Admission;
use plan::blocked::Blocked;
use plan::history::PodHistory;
use plan::inputs::{ImageFacts, ImageState};
use plan::launch::{InheritEnv, Launch};
use plan::pod_plan::{AttemptPlan, ContainerPlan, PodPlan, VolumeContent, VolumePlan};
use plan::unit::name::service;

use super::*;

/// A plan of the containers, as the agent would make it with this history.
pub(crate) fn plan_of(world: &World, history: &PodHistory, volume: u8, blocked: bool) -> PodPlan {
    let container = |name: &String| {
        let attempt = history.containers.get(name).map_or(0, plan::history::ContainerHistory::next_attempt);
        let image = ImageFacts::HostBinary { path: "/bin/x".to_owned() };
        ContainerPlan {
            name: name.clone(),
            role: world.programs[name].0,
            image: if world.image { ImageState::Present(image) } else { ImageState::Needed },
            attempt: Ok(attempt_plan(&history.uid, name, attempt)),
        }
    };
    let content = VolumeContent::Empty { path: "/v".to_owned(), mode: 0o777, gid: None, tmpfs_bytes: None };
    PodPlan {
        slice: "p.slice".to_owned(),
        volumes: vec![VolumePlan { name: "v".to_owned(), content, hash: volume.to_string() }],
        containers: world.order.iter().map(container).collect(),
        notes: Vec::new(),
        blocked: blocked.then(|| Blocked::new("FailedMount", "a Secret is missing")),
        admission: Admission::Admitted,
        ports: None,
    }
}

fn attempt_plan(uid: &str, container: &str, attempt: u32) -> AttemptPlan {
    AttemptPlan {
        container: container.to_owned(),
        attempt,
        unit: service("ns", "p", container, uid, attempt),
        unit_text: String::new(),
        slice: "p.slice".to_owned(),
        slice_text: String::new(),
        launch: Launch {
            version: 1,
            lines: BTreeMap::new(),
            env: Vec::new(),
            inherit: InheritEnv::All,
            cwd: None,
            identity: None,
            chown: Vec::new(),
            capabilities: None,
            no_new_privileges: false,
            failure_file: String::new(),
        },
        own_dirs: Vec::new(),
        make: Vec::new(),
        host_paths: Vec::new(),
        launch_path: String::new(),
    }
}
