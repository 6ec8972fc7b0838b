//! `Debug` for what holds pods and objects in the agent's memory: names and sizes, see [`plan::brief`].

use std::fmt::{Debug, Formatter, Result};

use plan::brief::Brief;

use crate::cluster::pods::PodEvent;
use crate::manifests::Snapshot;
use crate::reconcile::report::Report;
use crate::world::{Entry, World};

impl Debug for Snapshot {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let pods: Vec<_> = self.pods.values().map(|(pod, path)| (Brief(pod), path)).collect();
        f.debug_struct("Snapshot")
            .field("pods", &pods)
            .field("config_maps", &Brief(&self.config_maps))
            .field("secrets", &Brief(&self.secrets))
            .field("errors", &self.errors)
            .field("warnings", &self.warnings)
            .finish()
    }
}

impl Debug for PodEvent {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Listed(pods) => f.debug_tuple("Listed").field(&pods.len()).finish(),
            Self::Applied(pod) => f.debug_tuple("Applied").field(&Brief(&**pod)).finish(),
            Self::Deleted(pod) => f.debug_tuple("Deleted").field(&Brief(&**pod)).finish(),
        }
    }
}

impl Debug for Entry {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Entry")
            .field("pod", &Brief(&*self.pod))
            .field("origin", &self.origin)
            .field("stop", &self.stop)
            .field("again", &self.again.is_some())
            .field("history", &self.history)
            .field("running", &self.running)
            .field("dirty", &self.dirty)
            .field("wake_at_ms", &self.wake_at_ms)
            .finish_non_exhaustive()
    }
}

impl Debug for World {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("World")
            .field("entries", &self.entries)
            .field("units", &self.units)
            .field("config_maps", &Brief(&self.config_maps))
            .field("secrets", &Brief(&self.secrets))
            .field("unreadable", &self.unreadable)
            .field("manifests_known", &self.manifests_known)
            .field("cluster_known", &self.cluster_known)
            .finish_non_exhaustive()
    }
}

impl Debug for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Report")
            .field("pod", &Brief(&self.pod))
            .field("source", &self.source)
            .field("stopping", &self.stopping)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTS: [&str; 3] = [
        "
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {containers: [{name: c, image: /bin/x, env: [{name: E, value: hunter2}]}]}
",
        "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {key: hunter2}}",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: m}, data: {key: hunter2}}",
    ];

    #[test]
    fn a_debug_print_shows_no_value() {
        let documents = DOCUMENTS.map(|document| serde_saphyr::from_str(document).unwrap());
        let manifest = plan::manifest::parse(&documents, "node1").unwrap();
        let key = |name: &str| ("default".to_owned(), name.to_owned());
        let pod = manifest.pods[0].clone();
        let snapshot = Snapshot {
            pods: [("u".to_owned(), (pod.clone(), "/p.yaml".into()))].into(),
            secrets: [(key("s"), manifest.secrets[0].clone())].into(),
            config_maps: [(key("m"), manifest.config_maps[0].clone())].into(),
            ..Snapshot::default()
        };
        let mut world = World::default();
        let shown = format!("{snapshot:?}");
        world.take_snapshot(snapshot, 1);
        let mut entry = Entry::new(pod.clone(), crate::world::Origin::Orphan, 0);
        entry.again = Some((pod, crate::world::Origin::Orphan));
        for text in [shown, format!("{world:?}"), format!("{entry:?}")] {
            assert!(!text.contains("hunter2") && !text.contains(&format!("{:?}", b"hunter2")), "{text}");
            assert!(text.contains("default/p"), "{text}");
        }
    }
}
