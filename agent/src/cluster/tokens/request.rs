//! One TokenRequest. What comes back is a credential: it goes to nobody's log, not even in an error's text.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::core::Request;
use kube::{Client, Resource as _};
use plan::inputs::{Token, TokenKey};

use super::slots::{Failure, Held, Outcome, millis};
use crate::cluster::backoff::random;
use crate::cluster::error::{explain, retry_after, status};
use crate::reconcile::failpoint::crossing;

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(30);

/// What is asked for, and when it was, in milliseconds since boot.
pub(super) struct Asking {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) service_account: String,
    pub(super) key: TokenKey,
    pub(super) asked_ms: i64,
}

#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("the API server does not answer")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("the request cannot be made")]
    Build(#[source] kube::core::request::Error),
    #[error("the request cannot be written")]
    Write(#[source] serde_json::Error),
    #[error("the API server did not grant it")]
    Refused(#[source] kube::Error),
    /// Not with what the parser says: it quotes.
    #[error("the API server's answer is not a TokenRequest")]
    Unreadable,
    #[error("the API server's answer holds no token")]
    Empty,
}

/// One request, from its sending to its outcome.
pub(super) async fn ask(client: &Client, asking: &Asking) -> Outcome {
    match tokio::time::timeout(REQUEST, post(client, asking)).await.unwrap_or_else(|e| Err(e.into())) {
        Ok((token, life)) => {
            let expires_ms = asking.asked_ms.saturating_add(millis(life));
            Ok((Held { token, expires_ms }, plan::token::refresh_after(life, random())))
        }
        Err(RequestError::Refused(error)) => {
            Err(Failure { text: said(&error), lags: lags(&error), asked: retry_after(&error) })
        }
        Err(error) => Err(Failure { text: super::causes(&error), lags: false, asked: None }),
    }
}

/// Bound to the pod: the token ends with it. The node authorizer grants no other kind.
async fn post(client: &Client, asking: &Asking) -> Result<(Token, Duration), RequestError> {
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(asking.name.clone()),
        uid: Some(asking.uid.clone()),
    };
    let spec = TokenRequestSpec {
        // None: for the API server.
        audiences: asking.key.audience.clone().map(|audience| vec![audience]),
        bound_object_ref: Some(bound),
        attestations: None,
        expiration_seconds: Some(asking.key.expiration_seconds),
    };
    let body = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let body = serde_json::to_vec(&body).map_err(RequestError::Write)?;
    let request = Request::new(ServiceAccount::url_path(&(), Some(&asking.namespace)))
        .create_subresource("token", &asking.service_account, &PostParams::default(), body)
        .map_err(RequestError::Build)?;
    // Not `Api::create_token_request`: kube logs an answer that it cannot read, whole.
    crossing("api.before-token");
    let text = client.request_text(request).await.map_err(RequestError::Refused)?;
    let answer: TokenRequest = serde_json::from_str(&text).map_err(|_| RequestError::Unreadable)?;
    let token = answer.status.and_then(|status| status.token).filter(|token| !token.is_empty());
    // What was granted may be less than what was asked for.
    let seconds = answer.spec.and_then(|spec| spec.expiration_seconds).unwrap_or(asking.key.expiration_seconds);
    let life = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Ok((Token::new(token.ok_or(RequestError::Empty)?), life))
}

/// Whether this may only be that a part of the API server has not heard of the pod yet: the authorizer forbids what it cannot
/// relate to the node (403), and the admission plugin NodeRestriction looks the pod up in a cache of its own (404).
fn lags(error: &kube::Error) -> bool {
    let Some(status) = status(error) else { return false };
    let of_pod = status.details.as_ref().is_some_and(|details| details.kind == "pods");
    status.code == 403 || status.code == 404 && of_pod
}

/// As the kubelet shows it: the API server's own words where they say which object it is about.
fn said(error: &kube::Error) -> String {
    match status(error) {
        Some(status) if matches!(status.code, 400 | 403 | 404 | 409 | 422) && !status.message.trim().is_empty() => {
            status.message.trim().to_owned()
        }
        Some(_) | None => explain(error),
    }
}
