//! The requests that tell the API server: few at a time, and one alone after it could not be used.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::Status;
use kube::{Api, Client};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::{Outcome, REQUEST, Sending, Statuses};
use crate::cluster::backoff::Backoff;
use crate::cluster::error::{code, explain, retry_after, status};
use crate::reconcile::failpoint::crossing;

/// Requests in flight.
const IN_FLIGHT: usize = 32;

/// Sends until the runtime ends.
pub(in crate::cluster) async fn send(statuses: Arc<Statuses>, client: Client) {
    let mut requests: JoinSet<(Sending, Outcome)> = JoinSet::new();
    let mut uids: HashMap<Id, String> = HashMap::new();
    let mut backoff = Backoff::default();
    let mut quiet_until: Option<Instant> = None;
    loop {
        let mut at = quiet_until.filter(|until| *until > Instant::now());
        // After a failure one request alone finds out whether the server is back.
        let most = if backoff.is_failing() { 1 } else { IN_FLIGHT };
        while at.is_none() && requests.len() < most {
            match statuses.next() {
                Ok(sending) => {
                    let uid = sending.uid.clone();
                    uids.insert(requests.spawn(tell(client.clone(), sending)).id(), uid);
                }
                Err(hold) => {
                    at = hold;
                    break;
                }
            }
        }
        tokio::select! {
            Some(ended) = requests.join_next_with_id() => {
                let (id, ended) = match ended {
                    Ok((id, ended)) => (id, Some(ended)),
                    Err(error) => {
                        tracing::error!("a request of a status panicked: {error}");
                        (error.id(), None)
                    }
                };
                let uid = uids.remove(&id).unwrap_or_default();
                let Some((sending, outcome)) = ended else {
                    statuses.dropped(&uid);
                    continue;
                };
                statuses.sent(&sending, &outcome);
                match outcome {
                    Outcome::Again { asked, server: true } => {
                        quiet_until = Some(Instant::now() + backoff.failed(asked));
                    }
                    Outcome::Again { .. } | Outcome::Done(_) | Outcome::Over | Outcome::Refused { .. } => {
                        backoff.succeeded();
                    }
                }
            }
            // What is past is due at once: nothing that became due in between is slept over.
            () = tokio::time::sleep_until(at.unwrap_or_else(Instant::now)), if at.is_some() => {}
            () = statuses.changed.notified() => {}
        }
    }
}

async fn tell(client: Client, sending: Sending) -> (Sending, Outcome) {
    let outcome = match tokio::time::timeout(REQUEST, request(&client, &sending)).await {
        Ok(Ok(pod)) => Outcome::Done(pod),
        Ok(Err(error)) => judge(&error, &sending),
        Err(_) => Outcome::Again { asked: None, server: true },
    };
    (sending, outcome)
}

async fn request(client: &Client, sending: &Sending) -> kube::Result<Option<Box<Pod>>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &sending.namespace);
    let mut told = None;
    if let Some(patch) = &sending.patch {
        crossing("api.before-status");
        told = Some(api.patch_status(&sending.name, &PatchParams::default(), &Patch::Strategic(patch)).await?);
    }
    if sending.delete {
        crossing("api.before-delete");
        let preconditions = Preconditions { uid: Some(sending.uid.clone()), resource_version: None };
        let now = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }.grace_period(0);
        api.delete(&sending.name, &now).await?;
    }
    Ok(told.map(Box::new))
}

fn judge(error: &kube::Error, sending: &Sending) -> Outcome {
    let text = explain(error);
    match code(error) {
        // Not whoever says 404: a proxy may, while the server behind it is away.
        Some(404) if status(error).is_some_and(is_no_such_pod) => Outcome::Over,
        // The uid is another's: a new pod of the same name. Any other conflict is one of two who write at once.
        Some(409) if status(error).is_some_and(|status| status.message.contains("UID in precondition")) => {
            Outcome::Over
        }
        Some(400 | 422) => Outcome::Refused { lasts: true, text },
        Some(403) => Outcome::Refused { lasts: false, text },
        answer => {
            let pod = format!("{}/{}", sending.namespace, sending.name);
            tracing::debug!(pod, "{pod}: cannot tell its status: {text}");
            // Any other answer may be about this pod alone, as a webhook's.
            let server = matches!(answer, None | Some(401 | 404 | 429 | 503));
            Outcome::Again { asked: retry_after(error), server }
        }
    }
}

fn is_no_such_pod(status: &Status) -> bool {
    status.reason == "NotFound" && status.details.as_ref().is_some_and(|details| details.kind == "pods")
}
