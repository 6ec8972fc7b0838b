//! What came from the API server and is not what was asked for.

use std::error::Error;

/// An answer that is none. Not with what the parser quotes: it may be a Secret's.
#[derive(Debug, thiserror::Error)]
#[error("its answer cannot be read ({0})")]
pub(super) struct Unreadable(String);

const NOT_ASKED_FOR: &str = "it is not what was asked for";

impl Unreadable {
    pub(super) fn of(error: &serde_json::Error) -> kube::Error {
        let what = if error.is_eof() { "it is cut off" } else { NOT_ASKED_FOR };
        Self::error(what)
    }

    /// It is something, but not that.
    pub(super) fn other() -> kube::Error {
        Self::error(NOT_ASKED_FOR)
    }

    /// It began, and has no end.
    pub(super) fn endless() -> kube::Error {
        Self::error("it does not come to an end")
    }

    pub(super) fn is(error: &kube::Error) -> bool {
        matches!(error, kube::Error::Service(cause) if cause.is::<Self>())
    }

    pub(super) fn error(what: &str) -> kube::Error {
        let error: Box<dyn Error + Send + Sync> = Box::new(Self(what.to_owned()));
        kube::Error::Service(error)
    }
}
