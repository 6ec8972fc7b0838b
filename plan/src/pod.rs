//! `needs()` and `plan()`: from a pod to everything that makes it real.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodSpec, Volume};

use crate::admission::{Admission, Claimants, PortHistory, admit};
use crate::blocked::{Blocked, Unplannable};
use crate::container::{ContainerInput, PodNames, plan_container, slice_name, waits};
use crate::fields::env::services;
use crate::fields::files::token;
use crate::fields::mounts::normal;
use crate::fields::resources::{PodResources, pod_resources};
use crate::fields::volumes::{Volumes, volumes};
use crate::fields::{container_path, findings, identity};
use crate::inputs::{Gathered, ImageFacts, ImageState, Needs, NodeFacts};
use crate::note::{Note, Refusal};
use crate::pod_plan::{AttemptPlan, ContainerPlan, ContainerRole, PodPlan};
use crate::unit::name::PodDirs;

/// All containers of a pod, init containers first.
pub fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(spec_containers)
}

/// As [`containers`].
pub(crate) fn spec_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// Init containers first, with their roles and paths.
fn all_containers(spec: &PodSpec) -> impl Iterator<Item = (ContainerRole, String, &Container)> {
    let init = spec.init_containers.iter().flatten().enumerate();
    let app = spec.containers.iter().enumerate();
    init.map(|(i, c)| (ContainerRole::Init, container_path(true, i), c))
        .chain(app.map(|(i, c)| (ContainerRole::App, container_path(false, i), c)))
}

/// What has to be fetched before the pod can be planned. `images` are the states known so far: what a vendor's unit needs
/// is known only once its package is there.
pub fn needs(pod: &Pod, images: &BTreeMap<String, ImageState>) -> Needs {
    let mut needs = Needs::default();
    let Some(spec) = &pod.spec else { return needs };
    needs.services = services::linked(spec);
    for (_, _, container) in all_containers(spec) {
        environment_needs(container, &mut needs);
        needs.users.extend(identity::user_name(spec, container));
        needs.uids.extend(identity::user_id(spec, container));
        needs.host_paths.extend(container.volume_mounts.iter().flatten().map(|m| normal(&m.mount_path)));
        if let Some(ImageState::Present(ImageFacts::Package(package))) = images.get(&container.name) {
            for unit in &package.units {
                needs.users.extend(unit.fragments.iter().flat_map(|f| unit_users(&f.text)));
                needs.host_paths.extend(unit.fragments.iter().flat_map(|f| unit_directories(&f.text)));
            }
        }
    }
    for volume in spec.volumes.iter().flatten() {
        volume_needs(volume, &mut needs);
    }
    for list in [&mut needs.config_maps, &mut needs.secrets, &mut needs.users, &mut needs.host_paths] {
        list.sort_unstable();
        list.dedup();
    }
    needs.tokens.sort_unstable();
    needs.tokens.dedup();
    needs
}

/// The names that a unit's `User=` lines give.
fn unit_users(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().filter_map(|l| l.trim().strip_prefix("User=")).map(|u| u.trim().to_owned()).filter(|u| !u.is_empty())
}

/// The host's directories that a unit's `StateDirectory=` and its like give; a specifier makes it one that nobody asks for.
fn unit_directories(text: &str) -> impl Iterator<Item = String> + '_ {
    const KINDS: [(&str, &str); 3] =
        [("StateDirectory=", "/var/lib"), ("CacheDirectory=", "/var/cache"), ("LogsDirectory=", "/var/log")];
    text.lines().flat_map(|line| {
        let of_kind = |(name, base): (&str, &'static str)| Some((line.trim().strip_prefix(name)?, base));
        KINDS.into_iter().filter_map(of_kind).flat_map(|(value, base)| {
            value.split_whitespace().map(move |dir| format!("{base}/{}", dir.split(':').next().unwrap_or_default()))
        })
    })
}

fn environment_needs(container: &Container, needs: &mut Needs) {
    for source in container.env_from.iter().flatten() {
        needs.config_maps.extend(source.config_map_ref.iter().map(|r| r.name.clone()));
        needs.secrets.extend(source.secret_ref.iter().map(|r| r.name.clone()));
    }
    for EnvVar { value_from, .. } in container.env.iter().flatten() {
        let Some(from) = value_from else { continue };
        needs.config_maps.extend(from.config_map_key_ref.iter().map(|r| r.name.clone()));
        needs.secrets.extend(from.secret_key_ref.iter().map(|r| r.name.clone()));
    }
}

fn volume_needs(volume: &Volume, needs: &mut Needs) {
    needs.config_maps.extend(volume.config_map.iter().map(|c| c.name.clone()));
    needs.secrets.extend(volume.secret.iter().filter_map(|s| s.secret_name.clone()));
    needs.host_paths.extend(volume.host_path.iter().map(|h| normal(&h.path)));
    needs.tokens.extend(token::needed(volume));
    for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
        needs.config_maps.extend(source.config_map.iter().map(|c| c.name.clone()));
        needs.secrets.extend(source.secret.iter().map(|s| s.name.clone()));
    }
}

/// How the pod is to run. `attempts` has the number of each container's next attempt; 0 where it says nothing.
///
/// # Errors
/// Every reason why it can never run as written.
pub fn plan(
    pod: &Pod,
    gathered: &Gathered,
    facts: &NodeFacts,
    attempts: &BTreeMap<String, u32>,
) -> Result<PodPlan, Vec<Refusal>> {
    let found = findings(pod);
    let mut refusals = found.refusals;
    let mut notes = found.notes;
    let Some(spec) = &pod.spec else { return Err(refusals) };
    let names = PodNames::of(pod);
    let dirs = PodDirs::new(&facts.run_root, &facts.state_root, names.uid);
    let resources = pod_resources(pod, facts);
    refusals.extend(resources.refusals.clone());
    notes.extend(resources.notes.clone());
    let mut volumes = volumes(pod, gathered, facts, &dirs);
    refusals.append(&mut volumes.refusals);
    notes.append(&mut volumes.notes);
    let context = Context { pod, spec, gathered, facts, attempts, volumes: &volumes, resources: &resources };
    let mut containers = Vec::new();
    for (role, path, container) in all_containers(spec) {
        containers.push(context.container(role, &path, container, &mut notes, &mut refusals));
    }
    if !refusals.is_empty() {
        refusals.sort();
        refusals.dedup();
        return Err(refusals);
    }
    notes.sort();
    notes.dedup();
    let slice = slice_name(facts, resources.qos, names.uid);
    let admission = admit(&gathered.claimants);
    let blocked = match &admission {
        Admission::Waits(blocked) => Some(blocked.clone()),
        Admission::Admitted | Admission::Rejected(_) => volumes.blocked,
    };
    let ports = port_history(&gathered.claimants, &admission);
    Ok(PodPlan { slice, volumes: volumes.plans, containers, notes, blocked, admission, ports })
}

fn port_history(claimants: &Claimants, admission: &Admission) -> Option<PortHistory> {
    let own = claimants.own.as_ref()?;
    let held = *admission == Admission::Admitted;
    Some(PortHistory { since_ms: own.since_ms, held, claims: own.claims.clone() })
}

struct Context<'a> {
    pod: &'a Pod,
    spec: &'a PodSpec,
    gathered: &'a Gathered,
    facts: &'a NodeFacts,
    attempts: &'a BTreeMap<String, u32>,
    volumes: &'a Volumes,
    resources: &'a PodResources,
}

impl Context<'_> {
    fn container(
        &self,
        role: ContainerRole,
        path: &str,
        container: &Container,
        notes: &mut Vec<Note>,
        refusals: &mut Vec<Refusal>,
    ) -> ContainerPlan {
        let image = self.gathered.images.get(&container.name).cloned().unwrap_or(ImageState::Needed);
        let attempt = match &image {
            ImageState::Present(facts) => self.attempt(path, container, facts, notes, refusals),
            ImageState::Needed | ImageState::Pulling { .. } | ImageState::Failed { .. } => Err(waits("")),
        };
        ContainerPlan { name: container.name.clone(), role, image, attempt }
    }

    fn attempt(
        &self,
        path: &str,
        container: &Container,
        image: &ImageFacts,
        notes: &mut Vec<Note>,
        refusals: &mut Vec<Refusal>,
    ) -> Result<AttemptPlan, Blocked> {
        if let Some(blocked) = &self.volumes.blocked {
            return Err(waits(&blocked.message));
        }
        let input = ContainerInput {
            pod: self.pod,
            spec: self.spec,
            container,
            path,
            attempt: self.attempts.get(&container.name).copied().unwrap_or(0),
            image,
            volumes: &self.volumes.mountable,
            pod_resources: self.resources,
            gathered: self.gathered,
            facts: self.facts,
        };
        match plan_container(&input) {
            Ok(planned) => {
                notes.extend(planned.notes);
                Ok(planned.attempt)
            }
            Err(Unplannable::Blocked(blocked)) => Err(blocked),
            Err(Unplannable::Refused(mut found)) => {
                refusals.append(&mut found);
                Err(waits("refused"))
            }
        }
    }
}
