use k8s_openapi::api::core::v1::PodCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::*;

fn status(phase: &str, reason: Option<&str>) -> PodStatus {
    PodStatus { phase: Some(phase.into()), reason: reason.map(Into::into), ..PodStatus::default() }
}

/// The pod as the API server has it in that version.
fn pod(version: u64, status: PodStatus) -> Pod {
    let mut pod = Pod { status: Some(status), ..Pod::default() };
    pod.metadata.uid = Some("u".into());
    pod.metadata.resource_version = Some(version.to_string());
    pod
}

/// The same under another uid, when the API server was asked to delete it.
fn deleted(uid: &str, mut pod: Pod) -> Pod {
    pod.metadata.uid = Some(uid.into());
    pod.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
    pod
}

/// Sends what is due and lets the server accept it as that version; gives the patch.
fn sent(statuses: &Statuses, version: u64, becomes: PodStatus) -> Option<serde_json::Value> {
    let sending = statuses.next().ok()?;
    statuses.sent(&sending, &Outcome::Done(Some(Box::new(pod(version, becomes)))));
    sending.patch
}

#[tokio::test(start_paused = true)]
async fn what_others_write_over_it_is_put_right_and_not_in_a_hurry() {
    let statuses = Statuses::default();
    statuses.heard(&pod(1, PodStatus::default()));
    statuses.want("u", status("Running", None));
    assert!(sent(&statuses, 2, status("Running", None)).is_some());
    // Our own word comes back, late as well.
    statuses.heard(&pod(2, status("Running", None)));
    statuses.heard(&pod(1, PodStatus::default()));
    assert!(statuses.next().is_err());

    let wrong = || status("Running", Some("Theirs"));
    statuses.heard(&pod(3, wrong()));
    assert!(sent(&statuses, 4, status("Running", None)).is_some_and(|patch| patch["status"]["reason"].is_null()));
    statuses.heard(&pod(5, wrong()));
    let Err(Some(at)) = statuses.next() else { panic!("at once") };
    assert!(at <= Instant::now() + PUT_RIGHT);
    tokio::time::advance(PUT_RIGHT).await;
    assert!(sent(&statuses, 6, status("Running", None)).is_some());

    // A pod that is being deleted meanwhile is not told of that late.
    statuses.heard(&pod(7, wrong()));
    statuses.heard(&deleted("u", pod(8, wrong())));
    statuses.want("u", status("Failed", None));
    let Err(Some(at)) = statuses.next() else { panic!("at once") };
    assert!(at <= Instant::now() + ENDING);
}

#[tokio::test(start_paused = true)]
async fn what_others_say_of_their_own_or_that_it_is_over_stays() {
    let statuses = Statuses::default();
    statuses.heard(&pod(1, status("Running", None)));
    statuses.want("u", status("Running", None));
    let mut theirs = status("Running", None);
    theirs.conditions =
        Some(vec![PodCondition { type_: "theirs".into(), status: "True".into(), ..PodCondition::default() }]);
    statuses.heard(&pod(2, theirs));
    statuses.heard(&pod(3, status("Failed", Some("Evicted"))));
    assert!(statuses.next().is_err());
}

/// A pod that the API server has no status of, and what is to be said of it.
fn begin(statuses: &Statuses, uid: &str, wanted: PodStatus) {
    let mut pod = Pod::default();
    pod.metadata.uid = Some(uid.into());
    statuses.heard(&pod);
    statuses.want(uid, wanted);
}

fn next(statuses: &Statuses) -> Option<(String, String)> {
    let sending = statuses.next().ok()?;
    Some((sending.uid, sending.patch?["status"]["phase"].as_str()?.to_owned()))
}

#[tokio::test(start_paused = true)]
async fn of_many_that_begin_a_few_are_told_of_and_all_that_run() {
    let statuses = Statuses::default();
    for uid in ["a", "b", "c", "d"] {
        begin(&statuses, uid, status("Pending", None));
    }
    assert!(matches!(statuses.next(), Err(Some(_))), "they may run in a moment");
    tokio::time::advance(FIRST_PENDING).await;
    let first = statuses.next().ok().unwrap();
    assert_eq!((first.uid.as_str(), next(&statuses).unwrap().0.as_str()), ("d", "c"));
    assert!(matches!(statuses.next(), Err(None)), "the others wait for one of these, and not for a time");
    statuses.want("a", status("Running", None));
    assert_eq!(next(&statuses), Some(("a".to_owned(), "Running".to_owned())));
    statuses.sent(&first, &Outcome::Done(None));
    assert_eq!(next(&statuses), Some(("b".to_owned(), "Pending".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn neither_what_went_wrong_nor_others_wait_for_those_that_are_refused() {
    let statuses = Statuses::default();
    for uid in ["e", "f", "g", "h"] {
        begin(&statuses, uid, if uid == "h" { waiting("ErrImagePull") } else { waiting("ContainerCreating") });
    }
    tokio::time::advance(FIRST_PENDING).await;
    assert_eq!(next(&statuses).unwrap().0, "h");
    let refused = statuses.next().ok().unwrap();
    assert_eq!(refused.uid, "g");
    statuses.sent(&refused, &Outcome::Again { asked: None, server: false });
    tokio::time::advance(REQUEST).await;
    assert_eq!(next(&statuses).unwrap().0, "g", "it does not count as one that begins");
    assert_eq!(next(&statuses).unwrap().0, "f");
}

#[tokio::test(start_paused = true)]
async fn what_is_said_of_a_pod_that_is_being_deleted_waits_a_moment_for_its_end() {
    let deleted = |uid: &str| deleted(uid, pod(1, status("Running", None)));
    let statuses = Statuses::default();
    for uid in ["quick", "slow"] {
        statuses.heard(&deleted(uid));
        statuses.want(uid, status("Running", Some("Stopping")));
    }
    statuses.want("quick", status("Succeeded", None));
    assert!(matches!(statuses.next(), Err(Some(_))));
    statuses.gone(&deleted("quick"));
    let end = statuses.next().ok().unwrap();
    assert!(end.delete && end.patch.is_some_and(|patch| patch["status"]["phase"] == "Succeeded"));

    tokio::time::advance(ENDING).await;
    let slow = statuses.next().ok().unwrap();
    assert!(!slow.delete && slow.patch.as_ref().is_some_and(|patch| patch["status"]["reason"] == "Stopping"));
    statuses.sent(&slow, &Outcome::Done(None));
    // Later it waits as long again: the end itself is two requests however long the rest has taken.
    statuses.want("slow", status("Failed", None));
    assert!(matches!(statuses.next(), Err(Some(_))));
    statuses.gone(&deleted("slow"));
    let end = statuses.next().ok().unwrap();
    assert!(end.delete && end.patch.is_some_and(|patch| patch["status"]["phase"] == "Failed"));
}

fn waiting(reason: &str) -> PodStatus {
    let waiting = json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": reason}}});
    serde_json::from_value(json!({"phase": "Pending", "containerStatuses": [waiting]})).unwrap()
}
