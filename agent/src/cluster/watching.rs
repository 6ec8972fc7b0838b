//! One kind of object, listed and then watched, without end: what there is, and every change of it.
//!
//! As client-go's Reflector (v1.37 `tools/cache/reflector.go`). kube's own watcher differs in what a node has to bear: it asks
//! for ever with a version that was refused as too old (410 as an answer), knows nothing of `Retry-After`, begins a watch that
//! is closed at once anew without a pause, and does not tell of which version a list is, so an old one would be believed.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use kube::api::{ListParams, WatchParams};
use kube::core::{ObjectList, Request, WatchEvent};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use super::backoff::{WatchBackoff, random};
use super::error::{code, refused, retry_after, status};
use crate::reconcile::failpoint::crossing;
use fresh::Newest;
use unreadable::Unreadable;

pub(super) use fresh::number;

mod fresh;
mod unreadable;

/// Objects in one answer: the server's work is even, and a large cluster's services are not all in memory.
const PAGE: u32 = 500;

/// The server ends a watch after so long, and up to twice that, as a kubelet's: watches that began together do not end together.
const LASTS: Duration = Duration::from_secs(300);

/// What there is has to have come by then.
const BEGINS: Duration = Duration::from_secs(60);

/// What lasts longer has lost its server.
const OVERDUE: Duration = Duration::from_secs(5);

/// A server that was not heard of for so long may not remember what came after the last word: its own memory of changes begins
/// when it does, and lasts 75 s or more. What is this node's alone is then asked for anew, instead of first trying to go on in
/// vain; what all nodes share is large, and worth the try.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// A watch that ends sooner, and has said nothing, is not begun anew at once.
const SHORT: Duration = Duration::from_secs(1);

/// A server that does not send what there is as a watch's beginning is asked for it again after so long.
const UPGRADED: Duration = Duration::from_secs(60 * 60);

/// The mark of the end of what there is, in a watch that begins with it.
const ALL: &str = "k8s.io/initial-events-end";

/// What the API server says.
#[derive(Debug, PartialEq)]
pub(super) enum Event<K> {
    /// All that there is follows, as [`Event::InitApply`]; what followed before and had no end does not count.
    Init,
    /// One that there is.
    InitApply(K),
    /// That was all; of every other one nothing is known there any more.
    InitDone,
    /// It is new, or something of it has changed.
    Apply(K),
    /// It is not there any more.
    Delete(K),
}

/// Whether the server sends what there is as the beginning of a watch, which saves a request for each watch of each node, just
/// when all of them come back. One before 1.34, or with WatchList switched off, does not; it may be replaced by one that does.
/// Shared by all watches of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams(Arc<Mutex<Option<Instant>>>);

impl Streams {
    fn are_known(&self) -> bool {
        let unknown = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        unknown.is_none_or(|since| since.elapsed() > UPGRADED)
    }

    fn are_unknown(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// What is watched.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    /// None: all of them.
    pub(super) namespace: Option<String>,
    /// A field selector; what it selects is this node's, and few.
    pub(super) fields: Option<String>,
    pub(super) streams: Streams,
}

impl Watched {
    /// All of the kind that there are.
    pub(super) fn all(streams: Streams) -> Self {
        Self { namespace: None, fields: None, streams }
    }
}

type Events<K> = Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<K>>> + Send>>;

struct Open<K> {
    events: Events<K>,
    since: Instant,
    lasts: Duration,
    said: bool,
}

enum State<K> {
    /// Nothing is known, or not any more.
    Empty,
    /// What a watch begins with, so far. What is this node's is held until the last has come: the past is not believed.
    Beginning { open: Open<K>, objects: VecDeque<K> },
    /// What was listed, and where the rest of it is.
    Listing { objects: VecDeque<K>, more: Option<String>, version: String, open: Option<Open<K>> },
    /// All that there was at this version is known.
    Known { version: String },
    /// And what comes after it.
    Watching { version: String, open: Open<K> },
}

/// A list and a watch that never end.
pub(super) struct Watch<K> {
    client: Client,
    watched: Watched,
    state: State<K>,
    newest: Newest,
    backoff: WatchBackoff,
    /// After a failure.
    pause: Option<Duration>,
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    pub(super) fn new(client: Client, watched: Watched) -> Self {
        let (newest, backoff) = (Newest::default(), WatchBackoff::default());
        Self { client, watched, state: State::Empty, newest, backoff, pause: None }
    }

    /// What is said next. Not to be dropped before it is said: what was known would be asked for anew.
    ///
    /// # Errors
    /// Why nothing is. It is tried again with the next call, which waits before.
    pub(super) async fn next(&mut self) -> kube::Result<Event<K>> {
        loop {
            if let Some(pause) = self.pause.take() {
                sleep(pause).await;
            }
            let state = std::mem::replace(&mut self.state, State::Empty);
            let (said, state) = self.step(state).await;
            self.state = state;
            match said {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => {}
                // One object that cannot be read: the watch goes on.
                Err(error) if Unreadable::is(&error) && matches!(self.state, State::Watching { .. }) => {
                    return Err(error);
                }
                Err(error) => {
                    // An answer, whatever it says, is the end of an outage. A gateway's is none, nor one of a server that
                    // cannot answer yet.
                    if code(&error).is_some_and(|code| !(502..=504).contains(&code)) {
                        self.backoff.heard();
                    }
                    self.pause = Some(self.backoff.failed(retry_after(&error)));
                    let away = self.watched.fields.is_some() && self.backoff.failing_for() > FORGOTTEN;
                    // A server that is started remembers nothing of what was before: going on from there would be in vain,
                    // and with a fleet it is half of all that is asked of it in its first seconds.
                    if away || refused(&error) {
                        self.state = State::Empty;
                    }
                    // Its way of life, and nothing that somebody could mend.
                    if code(&error) == Some(410) {
                        tracing::debug!("{} are listed anew: {error}", K::plural(&()));
                        continue;
                    }
                    return Err(error);
                }
            }
        }
    }

    async fn step(&mut self, state: State<K>) -> (kube::Result<Option<Event<K>>>, State<K>) {
        match state {
            State::Empty if self.watched.streams.are_known() => {
                match self.begin(self.newest.text().to_owned(), true).await {
                    // What is not held is said as it comes, from here on.
                    Ok(open) => (
                        Ok(self.passed_on().then_some(Event::Init)),
                        State::Beginning { open, objects: VecDeque::new() },
                    ),
                    Err(error) if matches!(code(&error), Some(400 | 422)) => {
                        self.watched.streams.are_unknown();
                        (Ok(None), State::Empty)
                    }
                    Err(error) => {
                        if too_large(&error) {
                            self.newest.is_ahead();
                        }
                        (Err(error), State::Empty)
                    }
                }
            }
            State::Empty => match self.list(None).await {
                Ok(listed) => (Ok(Some(Event::Init)), listed),
                Err(error) => (Err(error), State::Empty),
            },
            State::Beginning { open, objects } => self.beginning(open, objects).await,
            State::Listing { mut objects, more, version, open } => {
                if let Some(object) = objects.pop_front() {
                    return (Ok(Some(Event::InitApply(object))), State::Listing { objects, more, version, open });
                }
                match (more, open) {
                    (Some(more), _) => match self.list(Some(more)).await {
                        Ok(listed) => (Ok(None), listed),
                        Err(error) => (Err(error), State::Empty),
                    },
                    (None, Some(open)) => (Ok(Some(Event::InitDone)), State::Watching { version, open }),
                    (None, None) => (Ok(Some(Event::InitDone)), State::Known { version }),
                }
            }
            State::Known { version } => match self.begin(version.clone(), false).await {
                Ok(open) => (Ok(None), State::Watching { version, open }),
                Err(error) if code(&error) == Some(410) || too_large(&error) => (Err(error), State::Empty),
                Err(error) => (Err(error), State::Known { version }),
            },
            State::Watching { version, open } => self.watching(version, open).await,
        }
    }

    async fn beginning(
        &mut self,
        mut open: Open<K>,
        mut objects: VecDeque<K>,
    ) -> (kube::Result<Option<Event<K>>>, State<K>) {
        let left = BEGINS.saturating_sub(open.since.elapsed());
        let Ok(next) = timeout(left, open.next()).await else { return (Err(Unreadable::endless()), State::Empty) };
        match next {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) if self.passed_on() => {
                (Ok(Some(Event::InitApply(object))), State::Beginning { open, objects })
            }
            Some(Ok(WatchEvent::Deleted(object))) if self.passed_on() => {
                (Ok(Some(Event::Delete(object))), State::Beginning { open, objects })
            }
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                drop_known(&mut objects, &object);
                objects.push_back(object);
                (Ok(None), State::Beginning { open, objects })
            }
            // A server may say what happens while it tells what there is.
            Some(Ok(WatchEvent::Deleted(object))) => {
                drop_known(&mut objects, &object);
                (Ok(None), State::Beginning { open, objects })
            }
            Some(Ok(WatchEvent::Bookmark(mark))) if mark.metadata.annotations.contains_key(ALL) => {
                let version = mark.metadata.resource_version;
                match self.newest.believe(&version) {
                    Ok(()) if self.passed_on() => (Ok(Some(Event::InitDone)), State::Watching { version, open }),
                    Ok(()) => {
                        let listed = State::Listing { objects, more: None, version, open: Some(open) };
                        (Ok(Some(Event::Init)), listed)
                    }
                    Err(old) => (Err(old), State::Empty),
                }
            }
            Some(Ok(WatchEvent::Bookmark(_))) => (Ok(None), State::Beginning { open, objects }),
            Some(Ok(WatchEvent::Error(status))) => (Err(kube::Error::Api(status)), State::Empty),
            Some(Err(error)) => (Err(error), State::Empty),
            None => (Err(Unreadable::error("it ended before all was said")), State::Empty),
        }
    }

    async fn watching(&mut self, version: String, mut open: Open<K>) -> (kube::Result<Option<Event<K>>>, State<K>) {
        let (object, gone) = match open.next().await {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => (object, false),
            Some(Ok(WatchEvent::Deleted(object))) => (object, true),
            Some(Ok(WatchEvent::Bookmark(mark))) => {
                let mark = mark.metadata.resource_version;
                let version = if self.newest.saw(&mark) { mark } else { version };
                return (Ok(None), State::Watching { version, open });
            }
            Some(Ok(WatchEvent::Error(status))) => {
                let error = kube::Error::Api(status);
                let anew = code(&error) == Some(410) || too_large(&error);
                return (Err(error), if anew { State::Empty } else { State::Known { version } });
            }
            // One object that cannot be read does not keep those after it.
            Some(Err(error)) if Unreadable::is(&error) => return (Err(error), State::Watching { version, open }),
            Some(Err(error)) => return (Err(error), State::Known { version }),
            None => {
                self.ended(&open);
                return (Ok(None), State::Known { version });
            }
        };
        let Some(now) = object.resource_version().filter(|version| !version.is_empty()) else {
            return (Err(Unreadable::error("an object without a resourceVersion")), State::Empty);
        };
        // Told before: a watch goes forward.
        if !self.newest.saw(&now) {
            return (Ok(None), State::Watching { version, open });
        }
        let event = if gone { Event::Delete(object) } else { Event::Apply(object) };
        (Ok(Some(event)), State::Watching { version: now, open })
    }

    /// One page of what there is.
    async fn list(&mut self, more: Option<String>) -> kube::Result<State<K>> {
        let first = more.is_none();
        let mut parameters = ListParams::default().limit(PAGE);
        parameters.field_selector = self.watched.fields.clone();
        parameters.continue_token = more;
        let request = self.request().list(&parameters).map_err(kube::Error::BuildRequest)?;
        crossing("api.before-list");
        // Not `Api::list`: kube logs an answer that it cannot read, whole.
        let text = self.client.request_text(request).await?;
        self.backoff.heard();
        let list: ObjectList<K> = serde_json::from_str(&text).map_err(|error| Unreadable::of(&error))?;
        let version = list.metadata.resource_version.unwrap_or_default();
        if first {
            self.newest.believe(&version)?;
        }
        let more = list.metadata.continue_.filter(|token| !token.is_empty());
        Ok(State::Listing { objects: list.items.into(), more, version, open: None })
    }

    async fn begin(&mut self, version: String, initial: bool) -> kube::Result<Open<K>> {
        let lasts = LASTS.mul_f64(1.0 + random());
        let parameters = WatchParams {
            field_selector: self.watched.fields.clone(),
            timeout: u32::try_from(lasts.as_secs()).ok(),
            bookmarks: true,
            send_initial_events: initial,
            ..WatchParams::default()
        };
        let request = self.request().watch(&parameters, &version).map_err(kube::Error::BuildRequest)?;
        crossing("api.before-watch");
        let events = self.client.request_events::<K>(request).await?;
        // Not with its first event: what nobody changes for hours has none.
        self.backoff.heard();
        Ok(Open { events: Box::pin(events), since: Instant::now(), lasts, said: false })
    }

    /// What all nodes share is large, and passed on as it comes.
    fn passed_on(&self) -> bool {
        self.watched.fields.is_none()
    }

    fn request(&self) -> Request {
        Request::new(K::url_path(&(), self.watched.namespace.as_deref()))
    }

    /// The server has ended a watch, as it does after a while.
    fn ended(&mut self, open: &Open<K>) {
        if !open.said && open.since.elapsed() < SHORT {
            self.pause = Some(self.backoff.failed(None));
        }
    }
}

/// What was told of the same object before.
fn drop_known<K: Resource>(objects: &mut VecDeque<K>, object: &K) {
    let uid = &object.meta().uid;
    objects.retain(|known| known.meta().uid.is_none() || known.meta().uid != *uid);
}

/// The server has not come to the version that was asked for, and did not within the time that it takes for that. A 504 by
/// itself may be a gateway's.
fn too_large(error: &kube::Error) -> bool {
    let details = status(error).and_then(|status| status.details.as_ref());
    details.is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "ResourceVersionTooLarge"))
}

impl<K> Open<K> {
    async fn next(&mut self) -> Option<kube::Result<WatchEvent<K>>> {
        let left = (self.lasts + OVERDUE).saturating_sub(self.since.elapsed());
        let event = timeout(left, self.events.next()).await.ok().flatten();
        self.said |= event.is_some();
        match event {
            Some(Err(kube::Error::SerdeError(error))) => Some(Err(Unreadable::of(&error))),
            // kube takes whatever is no event for a Status, in which everything may be missing.
            Some(Err(kube::Error::Api(status))) if status.code == 0 => Some(Err(Unreadable::other())),
            event => event,
        }
    }
}

#[cfg(test)]
mod tests;
