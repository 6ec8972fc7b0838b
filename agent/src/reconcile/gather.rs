//! `Needs` to `Gathered`: the objects, users, images and host paths that a plan is made from. Reads, never writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use plan::admission::is_finished;
use plan::fields::downward;
use plan::history::PodHistory;
use plan::inputs::{ClusterFacts, Gathered, HostPath, ImageFacts, ImageState, Needs, PasswdRow};
use plan::pod::{containers, needs};
use tokio::process::Command;

use super::host::{Stalled, on_host};
use super::{PodRef, Shared, now_ms};
use crate::files::lookup_host_path;
use crate::images::AttemptKey;

/// How long the host's user database may take to answer.
const LOOKUP: std::time::Duration = std::time::Duration::from_secs(5);

/// Why the pod cannot be planned now. What it waits for wakes it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Missing {
    /// The host does not answer.
    #[error(transparent)]
    Stalled(#[from] Stalled),
    /// The API server has not answered yet.
    #[error("waiting for the API server's answer about {}", .0.join(", "))]
    Awaited(Vec<String>),
}

/// Everything that the pod's plan needs.
pub(super) async fn gather(shared: &Arc<Shared>, pod: &PodRef, history: &PodHistory) -> Result<Gathered, Missing> {
    let images = images(shared, pod, history).await;
    let needs = needs(&pod.pod, &images);
    let mut gathered = objects(shared, pod, history, &needs)?;
    gathered.images = images;
    users(&needs, &mut gathered).await;
    let found = on_host(shared, &pod.uid, needs.host_paths, host_path).await?;
    gathered.host_paths = found.into_iter().flatten().collect();
    Ok(gathered)
}

/// A pod of the cluster uses the cluster's objects, one of a manifest those of the manifests.
fn objects(shared: &Shared, pod: &PodRef, history: &PodHistory, needs: &Needs) -> Result<Gathered, Missing> {
    let namespace = downward::namespace(&pod.pod);
    let of_cluster = shared.with(|w| w.is_of_cluster(&pod.uid));
    if let Some(cluster) = shared.cluster().filter(|_| of_cluster) {
        // All are asked for before any is waited for.
        let objects = cluster.objects.of_pod(&pod.uid, namespace, needs);
        let tokens = cluster.tokens.of_pod(&pod.pod, &needs.tokens, is_finished(&pod.pod, history));
        let services = needs.services.then(|| cluster.services.of_pod(&pod.uid, namespace)).transpose();
        let awaited =
            [objects.awaited, tokens.awaited, services.as_ref().err().cloned().into_iter().collect()].concat();
        let (Ok(services), true) = (services, awaited.is_empty()) else { return Err(Missing::Awaited(awaited)) };
        let server = crate::cluster::connect::server(&cluster.clients.url);
        let facts = ClusterFacts { server, services: services.unwrap_or_default(), tokens: tokens.tokens };
        let (config_maps, secrets) = (objects.config_maps, objects.secrets);
        return Ok(Gathered { config_maps, secrets, cluster: Some(facts), ..Gathered::default() });
    }
    let key = |name: &String| (namespace.to_owned(), name.clone());
    Ok(shared.with(|w| Gathered {
        config_maps: needs
            .config_maps
            .iter()
            .filter_map(|n| Some((n.clone(), w.config_maps.get(&key(n))?.clone())))
            .collect(),
        secrets: needs.secrets.iter().filter_map(|n| Some((n.clone(), w.secrets.get(&key(n))?.clone()))).collect(),
        ..Gathered::default()
    }))
}

async fn images(shared: &Shared, pod: &PodRef, history: &PodHistory) -> BTreeMap<String, ImageState> {
    let mut states = BTreeMap::new();
    for container in containers(&pod.pod) {
        let known = history.containers.get(&container.name);
        let begun = known.is_some_and(|h| h.attempt.is_some() && h.exit.is_none());
        let attempt = known.map_or(0, plan::history::ContainerHistory::next_attempt);
        let key = AttemptKey { uid: pod.uid.clone(), container: container.name.clone(), attempt };
        let image = container.image.as_deref().unwrap_or_default();
        let state = shared.images.state(&key, image, begun, now_ms()).await;
        // Where the history was lost.
        if let (true, ImageState::Present(ImageFacts::Package(package))) = (begun, &state) {
            shared.images.adopt(&pod.uid, &pod.full_name, &package.name, &package.version);
        }
        states.insert(container.name.clone(), state);
    }
    states
}

/// `getent` asks whatever the host's user database is made of, which a static binary cannot.
pub(crate) async fn users(needs: &Needs, gathered: &mut Gathered) {
    for name in &needs.users {
        // A name that could be an option or a number is nobody's name.
        if name.starts_with('-') || name.is_empty() || name.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        if let Some(mut row) = passwd(name).await {
            row.groups = groups(name, row.gid).await;
            gathered.users.insert(name.clone(), row);
        }
    }
    for uid in &needs.uids {
        if let Some(row) = passwd(&uid.to_string()).await {
            gathered.primary_groups.insert(*uid, row.gid);
        }
    }
}

async fn getent(database: &str, key: &str) -> Option<String> {
    let mut command = Command::new("getent");
    command.args([database, key]).stdin(std::process::Stdio::null()).kill_on_drop(true);
    // A dead directory server must not hold up the pod, whose deletion waits for this look to end.
    let output = match tokio::time::timeout(LOOKUP, command.output()).await {
        Ok(output) => output.ok()?,
        Err(_) => {
            tracing::warn!(database, key, "the user database does not answer");
            return None;
        }
    };
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn passwd(key: &str) -> Option<PasswdRow> {
    let text = getent("passwd", key).await?;
    let mut fields = text.lines().next()?.split(':');
    let name = fields.next()?.to_owned();
    let _password = fields.next()?;
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let _comment = fields.next()?;
    let home = fields.next().unwrap_or_default().to_owned();
    Some(PasswdRow { name, uid, gid, groups: Vec::new(), home })
}

/// `getent initgroups` prints the name and then the ids of all its groups.
async fn groups(name: &str, primary: u32) -> Vec<u32> {
    let text = getent("initgroups", name).await.unwrap_or_default();
    text.split_whitespace().skip(1).filter_map(|g| g.parse().ok()).filter(|g| *g != primary).collect()
}

/// A path of the host, with what is there.
pub(crate) fn host_path(path: &str) -> Option<(String, HostPath)> {
    match lookup_host_path(path) {
        Ok(found) => Some((path.to_owned(), found)),
        Err(error) => {
            tracing::warn!(path, "{}", crate::causes::causes(&error));
            None
        }
    }
}
