use serde_json::json;

use super::*;
use crate::cluster::fake_server::{FakeServer, LEASE};

fn heartbeat(server: &FakeServer) -> Heartbeat {
    Heartbeat { leases: Api::namespaced(server.client(), LEASE_NAMESPACE), node_name: "node-1".to_owned(), known: None }
}

#[tokio::test]
async fn it_is_made_once_and_renewed_by_one_request() {
    let server = FakeServer::default();
    let mut heartbeat = heartbeat(&server);
    heartbeat.beat("u").await.unwrap();
    assert_eq!(server.asked(), ["GET lease", "POST lease"]);
    let made = server.get(LEASE).unwrap();
    heartbeat.beat("u").await.unwrap();
    heartbeat.beat("u").await.unwrap();
    assert_eq!(server.asked(), ["PATCH lease", "PATCH lease"]);
    let renewed = server.get(LEASE).unwrap();
    assert!(renewed["spec"]["renewTime"].as_str() >= made["spec"]["renewTime"].as_str(), "{renewed}");
    assert_eq!(renewed["metadata"]["ownerReferences"][0]["uid"], "u");

    // Of an agent before this one.
    let mut next = self::heartbeat(&server);
    next.beat("v").await.unwrap();
    assert_eq!(server.asked(), ["GET lease", "PATCH lease"]);
    assert_eq!(server.get(LEASE).unwrap()["metadata"]["ownerReferences"][0]["uid"], "v");
}

#[tokio::test]
async fn one_that_somebody_else_wrote_or_deleted_is_not_renewed_unasked() {
    let server = FakeServer::default();
    let mut heartbeat = heartbeat(&server);
    heartbeat.beat("u").await.unwrap();
    server.write(LEASE, json!({"spec": {"holderIdentity": "somebody"}}));
    assert!(matches!(heartbeat.beat("u").await, Err(BeatError::Touched)));
    assert_eq!(server.get(LEASE).unwrap()["spec"]["holderIdentity"], "somebody");
    heartbeat.beat("u").await.unwrap();
    assert_eq!(server.get(LEASE).unwrap()["spec"]["holderIdentity"], "node-1");

    server.delete(LEASE);
    assert!(matches!(heartbeat.beat("u").await, Err(BeatError::Touched)));
    heartbeat.beat("u").await.unwrap();
    assert!(server.get(LEASE).is_some());
}
