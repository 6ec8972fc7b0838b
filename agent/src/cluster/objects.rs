//! The ConfigMaps and Secrets that this node's pods use: each watched by itself, for as long as a pod uses it. A node may see
//! no others (node authorizer), and does not want to: a node of a large cluster must not hold its Secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Client, Resource, ResourceExt as _};
use plan::inputs::Needs;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::error::explain;
use super::watching::{Event, Streams, Watch, Watched};
use crate::wake::Wake;

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: Kind,
    namespace: String,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    ConfigMap,
    Secret,
}

/// What the API server says of one.
#[derive(Clone)]
enum Word {
    /// Nothing yet; or why it does not say.
    Awaited(Option<String>),
    Absent,
    ConfigMap(Arc<ConfigMap>),
    Secret(Arc<Secret>),
}

struct Entry {
    word: Word,
    /// The pods that use it.
    users: BTreeSet<String>,
    task: AbortHandle,
}

/// All that are watched.
pub(crate) struct Objects {
    client: Client,
    wake: mpsc::UnboundedSender<Wake>,
    watched: Mutex<BTreeMap<Key, Entry>>,
    streams: Streams,
}

/// A pod's objects, as far as they are known.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// Those of which nothing is known yet, for people: `Secret x`, `ConfigMap y (why)`.
    pub(crate) awaited: Vec<String>,
}

impl Objects {
    pub(super) fn new(client: Client, streams: Streams, wake: mpsc::UnboundedSender<Wake>) -> Self {
        Self { client, wake, watched: Mutex::default(), streams }
    }

    fn with<R>(&self, f: impl FnOnce(&mut BTreeMap<Key, Entry>) -> R) -> R {
        f(&mut self.watched.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a pod needs. What nobody watches yet is watched from now on, and the pod woken when it is known or changes;
    /// what this pod does not need any more is watched for the others only.
    pub(crate) fn of_pod(self: &Arc<Self>, uid: &str, namespace: &str, needs: &Needs) -> Found {
        let key = |kind| move |name: &String| Key { kind, namespace: namespace.to_owned(), name: name.clone() };
        let config_maps = needs.config_maps.iter().map(key(Kind::ConfigMap));
        let wanted: BTreeSet<Key> = config_maps.chain(needs.secrets.iter().map(key(Kind::Secret))).collect();
        let mut found = Found::default();
        self.with(|watched| {
            release(watched, uid, &wanted);
            for key in wanted {
                let entry = watched.entry(key.clone()).or_insert_with(|| Entry {
                    word: Word::Awaited(None),
                    users: BTreeSet::new(),
                    task: self.begin(key.clone()),
                });
                entry.users.insert(uid.to_owned());
                match &entry.word {
                    Word::Awaited(None) => found.awaited.push(format!("{:?} {}", key.kind, key.name)),
                    Word::Awaited(Some(why)) => found.awaited.push(format!("{:?} {} ({why})", key.kind, key.name)),
                    Word::Absent => {}
                    Word::ConfigMap(map) => {
                        found.config_maps.insert(key.name, (**map).clone());
                    }
                    Word::Secret(secret) => {
                        found.secrets.insert(key.name, (**secret).clone());
                    }
                }
            }
        });
        found
    }

    /// The pod is gone, or uses none any more.
    pub(crate) fn release(&self, uid: &str) {
        self.with(|watched| release(watched, uid, &BTreeSet::new()));
    }

    fn begin(self: &Arc<Self>, key: Key) -> AbortHandle {
        let objects = Arc::clone(self);
        let task = async move {
            match key.kind {
                Kind::ConfigMap => {
                    objects.watch(&key, |map: ConfigMap| Word::ConfigMap(Arc::new(map))).await;
                }
                Kind::Secret => {
                    objects.watch(&key, |secret: Secret| Word::Secret(Arc::new(secret))).await;
                }
            }
        };
        tokio::spawn(task).abort_handle()
    }

    /// Until it is aborted.
    async fn watch<K>(&self, key: &Key, word: impl Fn(K) -> Word)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + 'static,
    {
        let watched = Watched {
            namespace: Some(key.namespace.clone()),
            fields: Some(format!("metadata.name={}", key.name)),
            streams: self.streams.clone(),
        };
        let mut events = Watch::<K>::new(self.client.clone(), watched);
        let mut seen = false;
        loop {
            match events.next().await {
                Ok(Event::Init) => seen = false,
                Ok(Event::InitApply(object) | Event::Apply(object)) => {
                    seen = true;
                    self.say(key, word(lean(object)));
                }
                Ok(Event::InitDone) if seen => {}
                Ok(Event::InitDone | Event::Delete(_)) => self.say(key, Word::Absent),
                Err(error) => self.failed(key, &error),
            }
        }
    }

    fn say(&self, key: &Key, word: Word) {
        let users = self.with(|watched| {
            let entry = watched.get_mut(key)?;
            entry.word = word;
            Some(entry.users.clone())
        });
        self.wake_all(users.unwrap_or_default());
    }

    /// What was known stays known; who waits is told why.
    fn failed(&self, key: &Key, error: &kube::Error) {
        let text = explain(error);
        tracing::debug!(namespace = key.namespace, name = key.name, "cannot watch this {:?}: {text}", key.kind);
        let users = self.with(|watched| {
            let entry = watched.get_mut(key)?;
            match &entry.word {
                Word::Awaited(why) if why.as_ref() != Some(&text) => {
                    entry.word = Word::Awaited(Some(text));
                    Some(entry.users.clone())
                }
                Word::Awaited(_) | Word::Absent | Word::ConfigMap(_) | Word::Secret(_) => None,
            }
        });
        self.wake_all(users.unwrap_or_default());
    }

    fn wake_all(&self, users: BTreeSet<String>) {
        for uid in users {
            let _ended = self.wake.send(Wake::Pod(uid));
        }
    }
}

/// Takes a pod off what it does not need; what nobody needs is watched no more.
fn release(watched: &mut BTreeMap<Key, Entry>, uid: &str, wanted: &BTreeSet<Key>) {
    watched.retain(|key, entry| {
        if !wanted.contains(key) && entry.users.remove(uid) && entry.users.is_empty() {
            entry.task.abort();
            return false;
        }
        true
    });
}

/// Who manages which field, and what was last applied: not for pods, and as large as the object.
fn lean<K: Resource>(mut object: K) -> K {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
    object
}
