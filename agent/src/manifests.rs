//! The manifest directories as a source of pods: watches them and sends a full [`Snapshot`] whenever what they say changes.
//! Never blocks on what lies in them, never polls, and never takes a pod away because its file is being written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use tokio::sync::mpsc;

mod directory;
mod merge;
mod watch;
mod yaml;

pub(crate) use yaml::documents;

/// Where manifests are, and whose they are.
#[derive(Clone, Debug)]
pub(crate) struct ManifestConfig {
    /// The directories, in the order in which the first of two pods of one name wins.
    pub(crate) directories: Vec<PathBuf>,
    /// The node's name, part of the uid of a pod that gives none.
    pub(crate) node_name: String,
}

/// What a source of pods says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SourceEvent {
    /// All that there is now; what is not in it is gone.
    Objects(Box<Snapshot>),
}

/// Everything in the directories.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Snapshot {
    /// By uid: the pod and the file it is from.
    pub(crate) pods: BTreeMap<String, (Pod, PathBuf)>,
    /// By namespace and name.
    pub(crate) config_maps: BTreeMap<(String, String), ConfigMap>,
    /// By namespace and name.
    pub(crate) secrets: BTreeMap<(String, String), Secret>,
    /// Files or directories that cannot be used as they are, and every reason.
    pub(crate) errors: Vec<(PathBuf, Vec<String>)>,
    /// Files in which something is ignored.
    pub(crate) warnings: Vec<(PathBuf, Vec<String>)>,
}

/// Whether `source`, the file of a pod, is one of `paths` or below one: of those that cannot be read now, so that the pod may
/// still be wanted.
pub(crate) fn is_among<'a>(mut paths: impl Iterator<Item = &'a PathBuf>, source: &str) -> bool {
    !source.is_empty() && paths.any(|path| std::path::Path::new(source).starts_with(path))
}

/// The source stopped; only the kernel can do that to it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    /// There is no inotify to be had (`fs.inotify.max_user_instances`).
    #[error("cannot watch the manifest directories")]
    Watch(#[source] std::io::Error),
    /// The reader of a file panicked.
    #[error("cannot read the manifest directories")]
    Read(#[source] tokio::task::JoinError),
}

/// Watches until the receiver is dropped. The first snapshot is sent after the first look at every directory, also if
/// there is nothing in them or they do not exist; a directory that comes later is found.
///
/// # Errors
/// See [`ManifestError`].
pub(crate) async fn watch(config: ManifestConfig, events: mpsc::Sender<SourceEvent>) -> Result<(), ManifestError> {
    watch::run(config, events).await
}

#[cfg(test)]
mod tests;
