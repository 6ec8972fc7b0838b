//! The connections of a proxy: taken, served, and broken.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;

use super::asked::{Asked, Seen};
use super::body::{self, Body, Passing};
use super::fault::{self, Fault};
use super::{Shared, lock, tls};

/// The way to the API server.
pub(super) struct Upstream {
    client: legacy::Client<HttpsConnector<HttpConnector>, Incoming>,
    authority: String,
}

impl Upstream {
    pub(super) fn new(port: u16, tls: ClientConfig) -> Self {
        let connector =
            hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http2().build();
        let client = legacy::Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        Self { client, authority: format!("127.0.0.1:{port}") }
    }

    async fn ask(&self, mut request: Request<Incoming>) -> Result<Response<Incoming>, legacy::Error> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri = Uri::builder().scheme("https").authority(self.authority.as_str()).path_and_query(path).build();
        // Its parts are those of another URI.
        *request.uri_mut() = uri.unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(HOST);
        self.client.request(request).await
    }
}

/// Who is on a connection, and how it is reset.
struct Peer {
    fingerprint: String,
    ends: Option<SystemTime>,
    reset: Arc<Notify>,
}

/// Takes connections until the proxy is dropped.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    shared: Arc<Shared>,
    mut end: watch::Receiver<bool>,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let acceptor = TlsAcceptor::from(tls);
    let mut silent = shared.silent.subscribe();
    loop {
        let next = async {
            // The kernel takes connections meanwhile.
            silent.wait_for(|silent| !silent).await.ok();
            listener.accept().await
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            _ = end.wait_for(|ended| *ended) => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        // Whatever closes it resets it, as a connection that is cut is.
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).ok();
        tokio::spawn(connection(stream, acceptor.clone(), Arc::clone(&shared)));
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let mut resets = shared.resets.subscribe();
    resets.mark_unchanged();
    let silent = shared.silent.subscribe();
    let reset = Arc::new(Notify::new());
    let served = {
        let reset = Arc::clone(&reset);
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let first: Option<&CertificateDer<'_>> = certificates.first();
            let fingerprint = first.map(tls::of).unwrap_or_default();
            let peer = Arc::new(Peer { fingerprint, ends: first.and_then(tls::ends), reset });
            let service = service_fn(move |request| {
                let (shared, peer) = (Arc::clone(&shared), Arc::clone(&peer));
                async move { Ok::<_, Infallible>(answer(request, &shared, &peer).await) }
            });
            let server = auto::Builder::new(TokioExecutor::new());
            // However it ends is the client's business.
            server.serve_connection(TokioIo::new(stream), service).await.ok();
        }
    };
    tokio::select! {
        () = unless_silent(served, silent) => {}
        () = reset.notified() => {}
        _ = resets.changed() => {}
    }
}

/// Does nothing for as long as the proxy is silent.
async fn unless_silent(served: impl Future<Output = ()>, mut silent: watch::Receiver<bool>) {
    let mut served = std::pin::pin!(served);
    loop {
        silent.wait_for(|silent| !silent).await.ok();
        tokio::select! {
            biased;
            _ = silent.wait_for(|silent| *silent) => {}
            () = &mut served => return,
        }
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared, peer: &Peer) -> Response<Body> {
    let asked = Asked::new(request.method(), request.uri());
    let fault = fault::meet(&mut lock(&shared.rules), &asked);
    let number = {
        let mut seen = lock(&shared.seen);
        seen.push(Seen { at: Instant::now(), asked, code: None, certificate: peer.fingerprint.clone() });
        seen.len() - 1
    };
    let response = if peer.ends.is_some_and(|ends| ends <= SystemTime::now()) {
        // The API server looks at the certificate with each request, however old the connection is.
        refusal(401, None)
    } else {
        meet(request, shared, peer, fault).await
    };
    lock(&shared.seen)[number].code = Some(response.status().as_u16());
    response
}

async fn meet(request: Request<Incoming>, shared: &Shared, peer: &Peer, fault: Option<Fault>) -> Response<Body> {
    let how = match fault {
        None => Passing::Whole,
        Some(Fault::Refuse(code, retry_after)) => return refusal(code, retry_after),
        Some(Fault::Busy(seconds)) => {
            let mut response = Response::new(body::text("Too many requests, please try again later.\n"));
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
            return response;
        }
        Some(Fault::Expired) => {
            let event = json!({"type": "ERROR", "object": body::status(410, None)});
            return json_response(format!("{event}\n"));
        }
        Some(Fault::Say(text)) => return json_response(text),
        Some(Fault::Reset) => {
            peer.reset.notify_one();
            return std::future::pending().await;
        }
        Some(Fault::Stall) => return std::future::pending().await,
        Some(Fault::ResetAfter(bytes)) => Passing::Until(bytes, Arc::clone(&peer.reset)),
        Some(Fault::Truncate(bytes)) => Passing::Part(bytes),
        Some(Fault::Trickle(pause)) => Passing::Slowly(pause),
    };
    let Ok(response) = shared.upstream.ask(request).await else { return refusal(503, None) };
    let (mut parts, incoming) = response.into_parts();
    if !matches!(how, Passing::Whole) {
        parts.headers.remove(CONTENT_LENGTH);
    }
    Response::from_parts(parts, body::passed_on(incoming, how))
}

fn json_response(text: String) -> Response<Body> {
    let mut response = Response::new(body::text(text));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn refusal(code: u16, retry_after: Option<u32>) -> Response<Body> {
    let mut response = json_response(body::status(code, retry_after).to_string());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}
