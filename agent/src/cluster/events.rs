//! What happened, told to the API server as Event objects: after the statuses, few at a time, and given up when nobody
//! listens. Which are sent, and how often, is `plan::correlation`'s.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use plan::correlation::{Correlator, Happened, Sent, Subject};
use serde_json::json;
use tokio::sync::Notify;

use super::backoff::Backoff;
use super::error::{code, explain, retry_after};
use crate::reconcile::failpoint::crossing;
use crate::reconcile::now_ms;

/// So many wait to be sent; of more the oldest are lost.
const WAITING: usize = 1000;

/// How often one is tried (client-go's `maxTriesPerEvent`).
const TRIES: u32 = 12;

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(30);

/// Selectors of users and of the upstream suite say `source=kubelet`: it is the node's agent that speaks, whatever it is.
const COMPONENT: &str = "kubelet";

struct Waiting {
    about: ObjectReference,
    happened: Happened,
    at_ms: i64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    lost: u64,
}

/// Events on their way.
pub(crate) struct Events {
    node_name: String,
    queue: Mutex<Queue>,
    changed: Notify,
}

/// What an event is about: the pod, or a container of it.
pub(crate) fn about(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let is_init = |name: &str| {
        let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        init.into_iter().any(|container| container.name == name)
    };
    let path = |name: &str| match is_init(name) {
        true => format!("spec.initContainers{{{name}}}"),
        false => format!("spec.containers{{{name}}}"),
    };
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: container.map(path),
    }
}

impl Events {
    pub(super) fn new(node_name: &str) -> Self {
        Self { node_name: node_name.to_owned(), queue: Mutex::default(), changed: Notify::new() }
    }

    /// Something happened.
    pub(crate) fn record(&self, about: ObjectReference, warning: bool, reason: &str, message: &str) {
        let subject = Subject {
            uid: about.uid.clone().unwrap_or_default(),
            field_path: about.field_path.clone().unwrap_or_default(),
        };
        // The API server takes 1024 bytes.
        let message = message.char_indices().take_while(|(at, c)| at + c.len_utf8() <= 1024).map(|(_, c)| c).collect();
        let happened = Happened { subject, warning, reason: reason.to_owned(), message };
        {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.waiting.push_back(Waiting { about, happened, at_ms: now_ms() });
            if queue.waiting.len() > WAITING {
                queue.waiting.pop_front();
                queue.lost += 1;
            }
        }
        self.changed.notify_one();
    }

    async fn next(&self) -> Waiting {
        loop {
            let changed = self.changed.notified();
            {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                if queue.lost > 0 {
                    tracing::warn!(lost = queue.lost, "more events than the API server takes: the oldest are lost");
                    queue.lost = 0;
                }
                if let Some(next) = queue.waiting.pop_front() {
                    return next;
                }
            }
            changed.await;
        }
    }

    fn object(&self, waiting: &Waiting, happened: &Happened, name: &str) -> Event {
        let time = jiff::Timestamp::from_millisecond(waiting.at_ms).ok().map(Time);
        Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace(&waiting.about).to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: waiting.about.clone(),
            reason: Some(happened.reason.clone()),
            message: Some(happened.message.clone()),
            type_: Some(if happened.warning { "Warning" } else { "Normal" }.to_owned()),
            source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: Some(self.node_name.clone()) }),
            reporting_component: Some(COMPONENT.to_owned()),
            reporting_instance: Some(self.node_name.clone()),
            count: Some(1),
            first_timestamp: time.clone(),
            last_timestamp: time,
            ..Event::default()
        }
    }
}

/// Events about what has no namespace, the node itself, are in `default`.
fn namespace(about: &ObjectReference) -> &str {
    about.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default")
}

/// As client-go names them: by their subject and the time.
fn name(about: &ObjectReference) -> String {
    let nanoseconds = jiff::Timestamp::now().as_nanosecond();
    format!("{}.{nanoseconds:x}", about.name.as_deref().unwrap_or_default())
}

/// Sends until the runtime ends, one after the other: they are in order, and nothing waits for them.
pub(super) async fn send(events: Arc<Events>, client: Client) {
    let mut correlator = Correlator::default();
    let mut backoff = Backoff::default();
    loop {
        let waiting = events.next().await;
        // Once for each event, however often it has to be sent.
        let mut sent = correlator.next(waiting.happened.clone(), waiting.at_ms);
        for _ in 0..TRIES {
            let telling = tell(&events, &client, &mut correlator, &waiting, &mut sent);
            let wait = match tokio::time::timeout(REQUEST, telling).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => match code(&error) {
                    // Its namespace is going, or it is no event that this server takes.
                    Some(400 | 403 | 404 | 422) => {
                        tracing::debug!(reason = waiting.happened.reason, "event not accepted: {}", explain(&error));
                        break;
                    }
                    Some(_) | None => backoff.failed(retry_after(&error)),
                },
                Err(_) => backoff.failed(None),
            };
            tokio::time::sleep(wait).await;
        }
        backoff.succeeded();
    }
}

async fn tell(
    events: &Events,
    client: &Client,
    correlator: &mut Correlator,
    waiting: &Waiting,
    sent: &mut Sent,
) -> kube::Result<()> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace(&waiting.about));
    if let Sent::Again { happened, count, object, .. } = &*sent {
        let last = jiff::Timestamp::from_millisecond(waiting.at_ms).ok().map(Time);
        let patch = json!({"count": count, "message": happened.message, "lastTimestamp": last});
        crossing("api.before-count-event");
        match api.patch(object, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(_) => return Ok(()),
            Err(error) if code(&error) == Some(404) => {
                correlator.expired(happened);
                *sent = Sent::New { happened: happened.clone() };
            }
            Err(error) => return Err(error),
        }
    }
    let Sent::New { happened } = &*sent else { return Ok(()) };
    let name = name(&waiting.about);
    crossing("api.before-event");
    match api.create(&PostParams::default(), &events.object(waiting, happened, &name)).await {
        Ok(_) => {}
        Err(error) if code(&error) == Some(409) => {}
        Err(error) => return Err(error),
    }
    correlator.accepted(happened.clone(), &name, waiting.at_ms);
    Ok(())
}
