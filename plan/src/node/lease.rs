//! The node's heartbeat: a Lease of its name, which is cheaper to write than the Node object (KEP-589).
//!
//! Upstream: v1.37 `pkg/kubelet/kubelet.go` (nodeLeaseRenewIntervalFraction 0.25 of 40 s), `component-helpers/apimachinery/lease`.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use serde_json::{Map, Value, json};

/// Where the Leases of nodes are.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";

/// So long after its last renewal the control plane gives the node up, in milliseconds (`nodeLeaseDurationSeconds`).
pub const LEASE_DURATION_MS: i64 = 40_000;

/// It is renewed so often, in milliseconds.
pub const RENEW_MS: i64 = 10_000;

/// The Lease as it is made. It belongs to the Node object of that uid, and goes with it.
pub fn lease(node_name: &str, node_uid: &str, now_ms: i64) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(node_name.to_owned()),
            namespace: Some(LEASE_NAMESPACE.to_owned()),
            owner_references: Some(vec![owner(node_name, node_uid)]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node_name.to_owned()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION_MS / 1000).ok(),
            renew_time: time(now_ms),
            ..LeaseSpec::default()
        }),
    }
}

/// The merge patch that renews `known`, and makes of it what it should be. It is refused (409) if somebody else has written
/// the Lease since: that must not happen unseen.
pub fn renewal(known: &Lease, node_name: &str, node_uid: &str, now_ms: i64) -> Value {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".to_owned(), json!(known.metadata.resource_version));
    let owners = known.metadata.owner_references.iter().flatten();
    if !owners.clone().any(|reference| reference.uid == node_uid) {
        // Others may own it too; another Node of this name is one that was deleted.
        let others = owners.filter(|reference| reference.kind != "Node").cloned();
        let all: Vec<OwnerReference> = others.chain([owner(node_name, node_uid)]).collect();
        metadata.insert("ownerReferences".to_owned(), json!(all));
    }
    if known.metadata.managed_fields.as_ref().is_some_and(|managers| !managers.is_empty()) {
        // Who wrote which field is as large as all else of a Lease, and would come back every 10 s. Once taken away like
        // this, the API server notes it no more (until somebody applies).
        metadata.insert("managedFields".to_owned(), json!([{}]));
    }
    let wanted = lease(node_name, node_uid, now_ms).spec.unwrap_or_default();
    let mut spec = Map::new();
    spec.insert("renewTime".to_owned(), json!(wanted.renew_time));
    let is = known.spec.clone().unwrap_or_default();
    if is.holder_identity != wanted.holder_identity {
        spec.insert("holderIdentity".to_owned(), json!(wanted.holder_identity));
    }
    if is.lease_duration_seconds != wanted.lease_duration_seconds {
        spec.insert("leaseDurationSeconds".to_owned(), json!(wanted.lease_duration_seconds));
    }
    json!({"metadata": metadata, "spec": spec})
}

fn owner(node_name: &str, node_uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node_name.to_owned(),
        uid: node_uid.to_owned(),
        ..OwnerReference::default()
    }
}

fn time(ms: i64) -> Option<MicroTime> {
    jiff::Timestamp::from_millisecond(ms).ok().map(MicroTime)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

    use super::*;

    #[test]
    fn a_renewal_says_what_is_new_and_no_more() {
        let mut known = lease("n", "u", 1_000);
        known.metadata.resource_version = Some("7".to_owned());
        let renewed = renewal(&known, "n", "u", 11_000);
        let time = "1970-01-01T00:00:11.000000Z";
        assert_eq!(renewed, json!({"metadata": {"resourceVersion": "7"}, "spec": {"renewTime": time}}));
        known.metadata.managed_fields = Some(vec![ManagedFieldsEntry::default()]);
        let metadata = renewal(&known, "n", "u", 11_000)["metadata"].clone();
        assert_eq!(metadata, json!({"resourceVersion": "7", "managedFields": [{}]}));
    }

    #[test]
    fn it_belongs_to_the_node_that_there_is_now() {
        let mut known = lease("n", "old", 1_000);
        let other = OwnerReference { kind: "Rack".to_owned(), uid: "r".to_owned(), ..owner("x", "") };
        known.metadata.owner_references.get_or_insert_default().push(other);
        known.spec = None;
        let renewed = renewal(&known, "n", "new", 11_000);
        let owners: Vec<&str> = renewed["metadata"]["ownerReferences"]
            .as_array()
            .unwrap()
            .iter()
            .map(|reference| reference["uid"].as_str().unwrap())
            .collect();
        assert_eq!(owners, ["r", "new"]);
        assert_eq!(
            (&renewed["spec"]["holderIdentity"], &renewed["spec"]["leaseDurationSeconds"]),
            (&json!("n"), &json!(40))
        );
    }
}
