//! Keeps the API server's images of the pods that are from manifests: made, exchanged when the manifest changes, and gone with
//! the pod. Their statuses go the way of all others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use plan::mirror;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::error::{code, explain, retry_after, within};
use crate::reconcile::Shared;
use crate::reconcile::failpoint::crossing;
use crate::world::{Origin, World, full_name};

/// How often what is there is compared with what should be, should a wake have been lost.
const SOMETIMES: Duration = Duration::from_secs(60);

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(30);

/// By the mirror's full name: the pods that should have one.
type Wanted = BTreeMap<String, Arc<Pod>>;

/// Pods of manifests that are not being stopped.
fn wanted(world: &World, node_name: &str) -> Wanted {
    let of_manifests =
        |entry: &&crate::world::Entry| matches!(entry.origin, Origin::Manifest(_)) && entry.stop.is_none();
    let entries = world.entries.values().filter(of_manifests);
    entries.map(|entry| (mirror_name(&entry.pod, node_name), Arc::clone(&entry.pod))).collect()
}

/// `namespace/name` of a pod's mirror.
pub(crate) fn mirror_name(pod: &Pod, node_name: &str) -> String {
    format!("{}-{node_name}", full_name(pod))
}

/// The API server's image of a pod of a manifest, where there is one of the pod as it is now.
pub(crate) fn of(world: &World, pod: &Pod, node_name: &str) -> Option<Arc<Pod>> {
    let mirror = world.mirrors.get(&mirror_name(pod, node_name))?;
    let current = mirror::shows(mirror) == Some(mirror::hash(pod).as_str());
    (current && mirror.metadata.deletion_timestamp.is_none()).then(|| Arc::clone(mirror))
}

/// What is to be done next.
enum Todo {
    /// It shows what is no more, or is being deleted by somebody.
    Delete(Arc<Pod>),
    /// There is none.
    Create(Arc<Pod>),
}

impl Todo {
    /// Of which mirror, by its full name.
    fn name(&self, node_name: &str) -> String {
        match self {
            Self::Delete(mirror) => full_name(mirror),
            Self::Create(pod) => mirror_name(pod, node_name),
        }
    }
}

fn todo(world: &World, node_name: &str) -> Vec<Todo> {
    let wanted = wanted(world, node_name);
    let stale = world.mirrors.iter().filter(|(name, mirror)| {
        let pod = wanted.get(*name);
        mirror.metadata.deletion_timestamp.is_some()
            || pod.is_none_or(|pod| mirror::shows(mirror) != Some(mirror::hash(pod).as_str()))
    });
    let missing = wanted.iter().filter(|(name, _)| !world.mirrors.contains_key(*name));
    stale
        .map(|(_, mirror)| Todo::Delete(Arc::clone(mirror)))
        .chain(missing.map(|(_, pod)| Todo::Create(Arc::clone(pod))))
        .collect()
}

/// An image that the API server does not take: what was said of it, and when it is tried again.
struct Refused {
    text: String,
    until: Instant,
}

/// Keeps them until the runtime ends.
pub(crate) async fn keep(shared: Arc<Shared>, client: Client, node_name: String) {
    let mut backoff = Backoff::default();
    let mut refused: BTreeMap<String, Refused> = BTreeMap::new();
    loop {
        // Only once all mirrors that there are have been listed.
        let known = shared.with(|w| w.sources_known());
        // What has come by the watch was taken after all.
        shared.with(|w| refused.retain(|name, _| !w.mirrors.contains_key(name)));
        let mut todo = if known { shared.with(|w| todo(w, &node_name)) } else { Vec::new() };
        // One that is not taken holds up no other, and is not asked for with each event of any pod.
        todo.retain(|todo| refused.get(&todo.name(&node_name)).is_none_or(|refused| refused.until <= Instant::now()));
        let mut done = Ok(());
        if !todo.is_empty() {
            // Known by then: no pods are listed for a node that is not registered.
            let node_uid = shared.cluster().and_then(|cluster| cluster.node_uid.borrow().clone()).unwrap_or_default();
            done = carry_out(&client, (&node_name, &node_uid), todo, &mut refused).await;
        }
        let pause = match done {
            Err(Again(asked)) => backoff.failed(asked),
            Ok(()) => {
                backoff.succeeded();
                SOMETIMES
            }
        };
        let until = Instant::now() + pause;
        tokio::select! {
            // A failure is not to be tried again because something else has changed.
            () = shared.mirrors_changed(), if done.is_ok() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

/// The API server has to be tried again, not before it asked to.
struct Again(Option<Duration>);

/// What of it can be done now. `node` is its name and its uid.
async fn carry_out(
    client: &Client,
    node: (&str, &str),
    todo: Vec<Todo>,
    refused: &mut BTreeMap<String, Refused>,
) -> Result<(), Again> {
    let mut done = Ok(());
    for todo in todo {
        let name = todo.name(node.0);
        let result = match todo {
            Todo::Delete(mirror) => delete(client, &mirror).await,
            Todo::Create(pod) => create(client, &mirror::mirror(&pod, node.0, node.1)).await,
        };
        let Err(error) = result else {
            refused.remove(&name);
            continue;
        };
        let text = match code(&error) {
            // Made by this node a moment ago, and the watch tells of it; or another's pod of that name.
            Some(409) => "there is a pod of that name".to_owned(),
            _ => explain(&error),
        };
        let is_answer = matches!(code(&error), Some(400 | 403 | 404 | 409 | 422));
        if is_answer {
            let until = Instant::now() + SOMETIMES;
            let known = refused.insert(name.clone(), Refused { text: text.clone(), until });
            if known.is_none_or(|known| known.text != text) {
                tracing::warn!(pod = name, "the API server does not show the manifest's pod {name}: {text}");
            }
        } else {
            tracing::debug!(pod = name, "{name}: {text}");
            let asked = retry_after(&error);
            done = Err(Again(asked));
            if asked.is_some() {
                break;
            }
        }
    }
    done
}

async fn create(client: &Client, mirror: &Pod) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), mirror.metadata.namespace.as_deref().unwrap_or_default());
    crossing("api.before-mirror");
    within(REQUEST, api.create(&PostParams::default(), mirror)).await.map(drop)
}

async fn delete(client: &Client, mirror: &Pod) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), mirror.metadata.namespace.as_deref().unwrap_or_default());
    let preconditions = Preconditions { uid: mirror.metadata.uid.clone(), resource_version: None };
    let now = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }.grace_period(0);
    let name = mirror.metadata.name.as_deref().unwrap_or_default();
    crossing("api.before-delete-mirror");
    match within(REQUEST, api.delete(name, &now)).await {
        Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(()),
        result => result.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::cluster::pods::PodEvent;
    use crate::manifests::Snapshot;

    fn pod(image: &str) -> Pod {
        let spec = serde_json::json!({"containers": [{"name": "c", "image": image}]});
        serde_json::from_value(serde_json::json!({"metadata": {"name": "web", "uid": "u"}, "spec": spec})).unwrap()
    }

    fn snapshot(pods: &[Pod]) -> Snapshot {
        let uid = |pod: &Pod| pod.metadata.uid.clone().unwrap();
        let pods = pods.iter().map(|pod| (uid(pod), (pod.clone(), PathBuf::from("f.yaml"))));
        Snapshot { pods: pods.collect(), ..Snapshot::default() }
    }

    fn shown(world: &mut World, pod: &Pod) {
        let mut mirror = mirror::mirror(pod, "n", "node-uid");
        mirror.metadata.uid = Some("m".into());
        world.take_pods(PodEvent::Applied(Box::new(mirror)), 1);
    }

    fn words(world: &World) -> Vec<&'static str> {
        todo(world, "n").iter().map(|todo| if matches!(todo, Todo::Delete(_)) { "delete" } else { "create" }).collect()
    }

    #[test]
    fn a_mirror_comes_changes_and_goes_with_its_pod() {
        let mut world = World::default();
        assert_eq!(words(&world), [""; 0]);
        world.take_snapshot(snapshot(&[pod("/bin/true")]), 1);
        assert_eq!(words(&world), ["create"]);
        assert!(of(&world, &pod("/bin/true"), "n").is_none());
        shown(&mut world, &pod("/bin/true"));
        assert_eq!(words(&world), [""; 0]);
        assert!(of(&world, &pod("/bin/true"), "n").is_some());
        assert!(of(&world, &pod("/bin/false"), "n").is_none(), "a status of another manifest's pod");
        world.take_snapshot(snapshot(&[]), 1);
        assert_eq!(words(&world), ["delete"]);
    }

    #[test]
    fn a_mirror_of_an_older_manifest_is_exchanged() {
        let mut world = World::default();
        world.take_snapshot(snapshot(&[pod("/bin/false")]), 1);
        shown(&mut world, &pod("/bin/true"));
        assert_eq!(words(&world), ["delete"]);
    }
}
