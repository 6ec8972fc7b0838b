//! The API server's image of a pod that the node has from a manifest: a mirror pod, which shows it and does nothing.
//!
//! Upstream: `pkg/kubelet/pod/mirror_client.go`, `pkg/kubelet/config/common.go` (applyDefaults); what a node may create is
//! NodeRestriction's `admitPodCreate`: the annotation, its own `nodeName`, itself as the one controller, no service account,
//! no Secret, ConfigMap or claim.

use k8s_openapi::api::core::v1::{Pod, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use sha2::{Digest, Sha256};

/// By it a mirror is known; its value says of which state of the manifest.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

const HASH: &str = "kubernetes.io/config.hash";
const SOURCE: &str = "kubernetes.io/config.source";

/// The name of a pod's mirror: those of the nodes of a cluster must differ.
pub fn name(pod: &Pod, node_name: &str) -> String {
    format!("{}-{node_name}", pod.metadata.name.as_deref().unwrap_or_default())
}

/// What a mirror says that it shows.
pub fn shows(mirror: &Pod) -> Option<&str> {
    mirror.metadata.annotations.as_ref()?.get(MIRROR).map(String::as_str)
}

/// The mirror of a pod, to be created.
pub fn mirror(pod: &Pod, node_name: &str, node_uid: &str) -> Pod {
    let hash = hash(pod);
    let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
    for (key, value) in [(MIRROR, hash.as_str()), (HASH, hash.as_str()), (SOURCE, "file")] {
        annotations.insert(key.to_owned(), value.to_owned());
    }
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node_name.to_owned(),
        uid: node_uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    let mut spec = pod.spec.clone().unwrap_or_default();
    spec.node_name = Some(node_name.to_owned());
    spec.service_account = None;
    spec.service_account_name = None;
    // Nothing that happens to the node takes away what its manifest wants.
    let all = Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    };
    spec.tolerations.get_or_insert_default().push(all);
    Pod {
        metadata: ObjectMeta {
            name: Some(name(pod, node_name)),
            namespace: Some(crate::fields::downward::namespace(pod).to_owned()),
            labels: pod.metadata.labels.clone(),
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// What the manifest says of the pod.
pub fn hash(pod: &Pod) -> String {
    let metadata = (&pod.metadata.uid, &pod.metadata.labels, &pod.metadata.annotations);
    let text = serde_json::to_vec(&(metadata, &pod.spec)).unwrap_or_default();
    Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(image: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "labels": {"a": "b"}, "annotations": {"k": "v"}},
            "spec": {"serviceAccountName": "x", "containers": [{"name": "c", "image": image}]},
        }))
        .unwrap()
    }

    #[test]
    fn it_is_what_a_node_may_create() {
        let mirror = mirror(&pod("/bin/true"), "edge-7", "n");
        let (meta, spec) = (&mirror.metadata, mirror.spec.clone().unwrap());
        assert_eq!((meta.name.as_deref(), meta.namespace.as_deref()), (Some("web-edge-7"), Some("shop")));
        assert_eq!((meta.uid.as_ref(), spec.node_name.as_deref()), (None, Some("edge-7")));
        assert_eq!((spec.service_account_name, spec.service_account), (None, None));
        let owner = &meta.owner_references.as_ref().unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("Node", "n", Some(true)));
        assert_eq!(shows(&mirror), Some(hash(&pod("/bin/true")).as_str()));
        assert_eq!(meta.annotations.as_ref().unwrap()["k"], "v");
        assert_eq!(spec.tolerations.unwrap()[0].effect.as_deref(), Some("NoExecute"));
    }

    #[test]
    fn another_manifest_is_another_mirror() {
        assert_eq!(hash(&pod("/bin/true")), hash(&pod("/bin/true")));
        assert_ne!(hash(&pod("/bin/true")), hash(&pod("/bin/false")));
    }
}
