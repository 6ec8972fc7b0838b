//! Who may ask this node for what: authentication and authorization, both by the API server's word, which is good for a while.
//! While it cannot be asked nobody gets in whom it has not let in lately.
//!
//! As k8s.io/kubernetes `pkg/kubelet/server/server.go`, InstallAuthFilter, with anonymous access off and webhooks on.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use plan::kubelet_api::access::{Attributes, attributes, bearer};
use plan::kubelet_api::cache::{ALLOWED_MS, Cache, DENIED_MS, Key, TOKEN_MS, UNKNOWN_TOKEN_MS};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::identity::{Certified, User};
use crate::cluster::backoff::Backoff;
use crate::cluster::error::{code, explain, retry_after};
use crate::reconcile::failpoint::crossing;

/// Answers that are kept, of each kind.
const ANSWERS: usize = 1024;
/// Questions to the API server at a time, of each kind: whoever knocks here must not become a flood there, and those whom
/// nobody knows must not hold up those who are known.
const ASKING: usize = 8;
/// How long an answer may take, and the wait for a turn to ask before it.
const ANSWER: Duration = Duration::from_secs(10);

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Nobody vouches for them.
    #[error("Unauthorized")]
    Unauthorized,
    /// They may not.
    #[error("Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{subresources}])")]
    Forbidden {
        /// Their name, escaped.
        user: String,
        /// What they would do.
        verb: &'static str,
        /// To what of the node.
        subresources: String,
    },
    /// The API server does not say.
    #[error("cannot ask the API server {what}: {why}")]
    Unanswered {
        /// The question.
        what: &'static str,
        /// What went wrong.
        why: String,
    },
}

/// What a request shows of who sends it.
pub(super) struct Credentials<'a> {
    /// The certificate of its connection, which was verified.
    pub(super) certificate: Option<&'a Certified>,
    /// The `Authorization` header.
    pub(super) authorization: Option<&'a [u8]>,
}

/// Asks the API server, and remembers.
pub(super) struct Gate {
    client: Client,
    /// This node's name.
    node: String,
    /// By the hash of a token; None: it is nobody's.
    users: Mutex<Cache<Option<User>>>,
    /// By the hash of user and attributes.
    leaves: Mutex<Cache<bool>>,
    asking_who: Semaphore,
    asking_whether: Semaphore,
    now_ms: fn() -> i64,
}

impl Gate {
    /// For the node of that name.
    pub(super) fn new(client: Client, node: String) -> Self {
        Self::with_clock(client, node, crate::reconcile::now_ms)
    }

    /// With another clock: milliseconds since the epoch.
    pub(super) fn with_clock(client: Client, node: String, now_ms: fn() -> i64) -> Self {
        let (users, leaves) = (Mutex::new(Cache::new(ANSWERS)), Mutex::new(Cache::new(ANSWERS)));
        let (asking_who, asking_whether) = (Semaphore::new(ASKING), Semaphore::new(ASKING));
        Self { client, node, users, leaves, asking_who, asking_whether, now_ms }
    }

    /// Who sends a request of that method to that path, if they may.
    ///
    /// # Errors
    /// They may not, or nobody knows.
    pub(super) async fn admit(&self, credentials: &Credentials<'_>, method: &str, path: &str) -> Result<User, Refusal> {
        let user = self.authenticate(credentials).await?;
        let attributes = attributes(method, path);
        for subresource in &attributes.subresources {
            if self.may(&user, attributes.verb, subresource).await? {
                return Ok(user);
            }
        }
        let Attributes { verb, subresources } = attributes;
        let user = user.name.escape_debug().to_string();
        Err(Refusal::Forbidden { user, verb, subresources: subresources.join(" ") })
    }

    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<User, Refusal> {
        let now_s = u64::try_from((self.now_ms)() / 1000).unwrap_or_default();
        // A connection may outlive the certificate that it was made with.
        if let Some(certified) = credentials.certificate.filter(|certified| now_s <= certified.until_s) {
            return Ok(certified.user.clone());
        }
        let token = credentials.authorization.and_then(bearer).ok_or(Refusal::Unauthorized)?;
        let key: Key = Sha256::digest(token.as_bytes()).into();
        let known = lock(&self.users).get(&key, (self.now_ms)());
        let user = match known {
            Some(user) => user,
            None => {
                let user = self.holder(token).await?;
                let good_ms = if user.is_some() { TOKEN_MS } else { UNKNOWN_TOKEN_MS };
                lock(&self.users).put(key, user.clone(), good_ms, (self.now_ms)());
                user
            }
        };
        user.ok_or(Refusal::Unauthorized)
    }

    /// Whose token it is.
    async fn holder(&self, token: &str) -> Result<Option<User>, Refusal> {
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let review = self.ask(&self.asking_who, "whose token this is", &review).await?;
        let status = review.status.filter(|status| status.authenticated == Some(true));
        let user = status.and_then(|status| status.user).unwrap_or_default();
        Ok(user.username.filter(|name| !name.is_empty()).map(|name| User {
            name,
            uid: user.uid,
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        }))
    }

    async fn may(&self, user: &User, verb: &str, subresource: &str) -> Result<bool, Refusal> {
        let spec = SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: user.uid.clone(),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                version: Some("v1".to_owned()),
                resource: Some("nodes".to_owned()),
                subresource: Some(subresource.to_owned()),
                name: Some(self.node.clone()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        };
        // The question itself is the key: whatever the answer may depend on is in it.
        let text = serde_json::to_vec(&spec).map_err(|error| unanswered(MAY, error.to_string()))?;
        let key: Key = Sha256::digest(&text).into();
        let known = lock(&self.leaves).get(&key, (self.now_ms)());
        if let Some(allowed) = known {
            return Ok(allowed);
        }
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let status = self.ask(&self.asking_whether, MAY, &review).await?.status.unwrap_or_default();
        let allowed = status.allowed && status.denied != Some(true);
        let good_ms = if allowed { ALLOWED_MS } else { DENIED_MS };
        lock(&self.leaves).put(key, allowed, good_ms, (self.now_ms)());
        Ok(allowed)
    }

    async fn ask<K>(&self, turns: &Semaphore, what: &'static str, question: &K) -> Result<K, Refusal>
    where
        K: kube::Resource<DynamicType = ()> + serde::Serialize + serde::de::DeserializeOwned + Clone + std::fmt::Debug,
    {
        let began = Instant::now();
        let asked = async {
            let api = Api::all(self.client.clone());
            let mut backoff = Backoff::default();
            loop {
                // It is never closed. Whoever waits leaves their turn to others.
                let turn = turns.acquire().await.map_err(|error| unanswered(what, error.to_string()))?;
                crossing("api.before-review");
                let answer = api.create(&PostParams::default(), question).await;
                drop(turn);
                match answer {
                    Ok(answer) => return Ok(answer),
                    Err(error) if matches!(code(&error), Some(429 | 503 | 504)) => {
                        let wait = backoff.failed(retry_after(&error));
                        // Who asks here is told why before their patience ends.
                        if began.elapsed() + wait >= ANSWER {
                            return Err(unanswered(what, explain(&error)));
                        }
                        tokio::time::sleep(wait).await;
                    }
                    Err(error) => return Err(unanswered(what, explain(&error))),
                }
            }
        };
        let late = |_| Err(unanswered(what, "it does not answer".to_owned()));
        tokio::time::timeout(ANSWER, asked).await.unwrap_or_else(late)
    }
}

const MAY: &str = "whether that is allowed";

fn unanswered(what: &'static str, why: String) -> Refusal {
    Refusal::Unanswered { what, why }
}

fn lock<V>(cache: &Mutex<Cache<V>>) -> std::sync::MutexGuard<'_, Cache<V>> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}
