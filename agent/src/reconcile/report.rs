//! The pod's status for those outside: a file that the CLI reads, written only when it says something new.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use plan::journal::choose;
use serde::{Deserialize, Serialize};

use super::failpoint::crossing;
use super::{PodRef, Shared};
use crate::cluster::mirrors;
use crate::events::Event;
use crate::files::{FileError, make_dirs, write_volatile};
use crate::world::Entry;

/// What `/run/systemk/pods/<uid>/status.json` holds: a Pod as the API server would show it, and what only we know.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Metadata, spec and status. Environment values that may be secrets are not in a spec, only their references.
    pub(crate) pod: Pod,
    /// The file that the pod is from.
    pub(crate) source: String,
    /// A stop is under way.
    pub(crate) stopping: bool,
    /// Unit names of the newest attempts, by container.
    pub(crate) units: Vec<(String, String)>,
    /// Oldest first.
    pub(crate) events: Vec<Event>,
    /// By container: the invocations of the newest attempt and of the one before it.
    pub(crate) invocations: Vec<(String, Option<String>, Option<String>)>,
    /// By container: the number of the newest attempt, and whether its end is known.
    #[serde(default)]
    pub(crate) attempts: Vec<(String, u32, bool)>,
    /// By container: the attempts that `logs` and `logs --previous` show.
    #[serde(default)]
    pub(crate) logs: Vec<(String, Option<u32>, Option<u32>)>,
    /// When this node first saw the pod; `status.startTime` has whole seconds only.
    #[serde(default)]
    pub(crate) started_ms: i64,
}

/// Where a pod's report is.
pub(crate) fn path(run_root: &str, uid: &str) -> PathBuf {
    PathBuf::from(run_root).join("pods").join(uid).join("status.json")
}

/// The pod's last report, if there is one that can be read.
pub(super) fn last(run_root: &str, uid: &str) -> Option<Report> {
    read(run_root, uid)
}

/// The file that a pod was from when it was last reported; empty if nothing says so.
pub(super) fn source_of(run_root: &str, uid: &str) -> String {
    #[derive(Deserialize)]
    struct Source {
        source: String,
    }
    // Not all of the report: another version's may have other parts.
    read(run_root, uid).map(|Source { source }| source).unwrap_or_default()
}

fn read<T: serde::de::DeserializeOwned>(run_root: &str, uid: &str) -> Option<T> {
    let bytes = crate::files::read_bounded(&path(run_root, uid), 16 * 1024 * 1024).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Reports a status: to the API server for a pod of the cluster, or for the image that it has of one of a manifest, and in
/// any case to the file.
pub(super) fn report(shared: &Shared, pod: &PodRef, status: Option<PodStatus>) -> Result<(), FileError> {
    if let (Some(cluster), Some(status)) = (shared.cluster(), &status) {
        let facts = shared.facts();
        let shown_as = shared.with(|w| match w.is_of_cluster(&pod.uid) {
            true => Some(pod.uid.clone()),
            false => mirrors::of(w, &pod.pod, &facts.node_name)?.metadata.uid.clone(),
        });
        if let Some(uid) = shown_as {
            cluster.statuses.want(&uid, status.clone());
        }
    }
    let Some(report) = shared.with(|w| {
        let entry = w.entries.get_mut(&pod.uid)?;
        entry.status.clone_from(&status);
        let history = entry.history.clone().unwrap_or_default();
        let mut reported = shown(entry);
        reported.status = status;
        let mut units = Vec::new();
        let mut attempts = Vec::new();
        let mut invocations = Vec::new();
        let mut logs = Vec::new();
        let none = PodStatus::default();
        let status = reported.status.as_ref().unwrap_or(&none);
        for (container, h) in &history.containers {
            let Some(attempt) = h.attempt else { continue };
            let unit = plan::unit::name::service(&history.namespace, &history.name, container, &history.uid, attempt);
            let live = w.units.get(&unit).and_then(|u| u.state.as_ref()).map(|s| s.invocation_id.clone());
            let newest = h.exit.as_ref().map(|e| e.invocation.clone()).or(live).filter(|i| !i.is_empty());
            let before = h.previous.as_ref().map(|e| e.invocation.clone()).filter(|i| !i.is_empty());
            units.push((container.clone(), unit));
            attempts.push((container.clone(), attempt, h.exit.is_some()));
            invocations.push((container.clone(), newest, before));
            let of = |previous| choose::attempt(&history.name, container, status, h, previous).ok();
            logs.push((container.clone(), of(false), of(true)));
        }
        let events = entry.events.list.iter().cloned().collect();
        Some(Report {
            pod: reported,
            source: entry.origin.file().to_owned(),
            stopping: entry.stop.is_some(),
            units,
            events,
            invocations,
            attempts,
            logs,
            started_ms: history.started_ms,
        })
    }) else {
        return Ok(());
    };
    shared.tell_readers();
    let facts = shared.facts();
    let file = path(&facts.run_root, &pod.uid);
    let Ok(bytes) = serde_json::to_vec(&report) else { return Ok(()) };
    if std::fs::read(&file).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(dir) = file.parent() {
        make_dirs(dir, 0o700, None)?;
    }
    crossing("status.before-report");
    write_volatile(&file, &bytes, 0o600)
}

/// A pod as the API server would show it: with the status last reported, and the stop that is under way.
pub(crate) fn shown(entry: &Entry) -> Pod {
    let mut pod = (*entry.pod).clone();
    if let Some(status) = &entry.status {
        pod.status = Some(status.clone());
    }
    if let Some(stop) = entry.stop {
        let grace_s = stop.grace_ms / 1000;
        let deadline = jiff::Timestamp::from_second(stop.requested_ms / 1000 + grace_s);
        pod.metadata.deletion_timestamp = deadline.ok().map(Time);
        pod.metadata.deletion_grace_period_seconds = Some(grace_s);
    }
    pod
}

/// Manifests that are not used, each with the first reason: what `ps` tells beside the pods.
pub(crate) type Unused = Vec<(String, String)>;

/// Where they are noted.
pub(crate) fn unused_path(run_root: &str) -> PathBuf {
    PathBuf::from(run_root).join("unused.json")
}

/// Notes which manifests are not used, if that is something new.
pub(crate) fn note_unused(run_root: &str, errors: &[(PathBuf, Vec<String>)]) -> Result<(), FileError> {
    let unused: Unused = errors
        .iter()
        .map(|(file, texts)| (file.display().to_string(), texts.first().cloned().unwrap_or_default()))
        .collect();
    let file = unused_path(run_root);
    let Ok(bytes) = serde_json::to_vec(&unused) else { return Ok(()) };
    if std::fs::read(&file).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    write_volatile(&file, &bytes, 0o600)
}
