//! Times in which the API server cannot be used at all: said once for each reason, whoever meets it first, and once when it is
//! over. Whether a single request is allowed is for those to say who made it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::credential::Credential;
use super::error::{code, unanswered};
use crate::reconcile::now_ms;

/// The word of the whole node on its API server.
pub(crate) struct Outage {
    server: String,
    node: String,
    credential: Credential,
    told: Mutex<BTreeSet<String>>,
}

impl Outage {
    pub(super) fn new(server: String, node: String, credential: Credential) -> Self {
        Self { server, node, credential, told: Mutex::default() }
    }

    /// Whether this is no answer to the request itself, but none, or one to whoever asks; said here if it is new.
    pub(super) fn met(&self, error: &kube::Error) -> bool {
        if matches!(code(error), Some(code) if code != 401) {
            return false;
        }
        let text = self.explain(error);
        let new = self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone());
        if new {
            tracing::warn!(
                "API server {}: {text}; pods that run go on, new ones and changes wait; trying again",
                self.server
            );
        }
        true
    }

    /// A request was answered.
    pub(super) fn over(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.is_empty() {
            told.clear();
            tracing::info!("API server {}: it answers again", self.server);
        }
    }

    /// The line for people.
    pub(super) fn explain(&self, error: &kube::Error) -> String {
        if code(error).is_some() { self.credential.explain(error, &self.node, now_ms()) } else { unanswered(error) }
    }
}

/// Something that fails again and again, for its own reasons: each new one is said once.
#[derive(Debug, Default)]
pub(super) struct Once(Option<String>);

impl Once {
    /// Whether it is new.
    pub(super) fn is_new(&mut self, text: &str) -> bool {
        let new = self.0.as_deref() != Some(text);
        self.0 = Some(text.to_owned());
        new
    }

    /// It went well.
    pub(super) fn succeeded(&mut self) {
        self.0 = None;
    }
}
