//! What there is to ask for, and who is asked first. Paths and answers are the kubelet's (k8s.io/kubernetes
//! `pkg/kubelet/server/server.go`), errors are one sentence of plain text, which the API server passes on.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use axum::{Extension, Router};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use k8s_openapi::List;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::Semaphore;

use super::connection::Peer;
use super::gate::{Credentials, Gate, Refusal};
use super::logs::{READERS, container_logs};
use super::pods::NodePods;
use crate::systemd::journal::Journalctl;

/// What answers are made of.
pub(super) struct Endpoint {
    pub(super) pods: NodePods,
    pub(super) journalctl: Journalctl,
    /// Who may read a log.
    pub(super) readers: Arc<Semaphore>,
}

/// All of the kubelet API that this node has.
pub(super) fn router(gate: Gate, pods: NodePods) -> Router {
    routes(gate, Endpoint { pods, journalctl: Journalctl::default(), readers: Arc::new(Semaphore::new(READERS)) })
}

pub(super) fn routes(gate: Gate, endpoint: Endpoint) -> Router {
    let read_only = Router::new()
        .route("/healthz", any(healthz))
        .route("/healthz/{check}", any(healthz))
        .route("/pods", any(pods))
        .route("/pods/", any(pods))
        .route("/containerLogs/{namespace}/{pod}/{container}", any(container_logs))
        .layer(from_fn(only_get))
        .with_state(Arc::new(endpoint));
    // Before the paths are looked at: nobody learns what there is without leave.
    read_only.fallback(elsewhere).layer(from_fn_with_state(Arc::new(gate), admit))
}

/// An error as the API server's clients read it.
pub(super) fn refusal(status: StatusCode, text: String) -> Response {
    (status, text).into_response()
}

async fn admit(
    State(gate): State<Arc<Gate>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let credentials = Credentials {
        certificate: peer.certificate.as_deref(),
        authorization: request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes),
    };
    let (method, path) = (request.method().as_str(), request.uri().path());
    match gate.admit(&credentials, method, path).await {
        Ok(user) => {
            tracing::debug!(user = user.name, method, path, "kubelet API");
            next.run(request).await
        }
        Err(refused) => {
            tracing::debug!(peer = %peer.address, method, path, "kubelet API: {refused}");
            let status = match refused {
                Refusal::Unauthorized => StatusCode::UNAUTHORIZED,
                Refusal::Forbidden { .. } => StatusCode::FORBIDDEN,
                Refusal::Unanswered { .. } => StatusCode::SERVICE_UNAVAILABLE,
            };
            refusal(status, refused.to_string())
        }
    }
}

async fn only_get(request: Request, next: Next) -> Response {
    if request.method() == Method::GET {
        return next.run(request).await;
    }
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed".to_owned());
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

/// The checks of a kubelet: that it answers, that it can log, that its loop runs. The first two are this answer.
async fn healthz(State(endpoint): State<Arc<Endpoint>>, uri: Uri) -> Response {
    let known = ["/healthz", "/healthz/ping", "/healthz/log", "/healthz/syncloop"];
    if !known.contains(&uri.path()) {
        return refusal(StatusCode::NOT_FOUND, "404 page not found".to_owned());
    }
    let of_loop = matches!(uri.path(), "/healthz" | "/healthz/syncloop");
    if of_loop && !endpoint.pods.is_alive() {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "the loop over the pods has ended".to_owned());
    }
    "ok".into_response()
}

async fn pods(State(endpoint): State<Arc<Endpoint>>) -> Response {
    let list = List::<Pod> { items: endpoint.pods.list(), ..List::default() };
    match serde_json::to_vec(&list) {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write the list of pods: {error}")),
    }
}

/// What a kubelet has and this node does not, and what nobody has.
async fn elsewhere(uri: Uri) -> Response {
    let first = uri.path().trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "exec" | "attach" | "portForward" | "run" => {
            let text = format!("systemk does not support {first} in this version");
            refusal(StatusCode::NOT_IMPLEMENTED, text)
        }
        _ => refusal(StatusCode::NOT_FOUND, "404 page not found".to_owned()),
    }
}
