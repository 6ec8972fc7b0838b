//! Connections: who may have one, for how long, and what they may send. Bytes come in, requests go to the router.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt as _;

use super::handshakes::Handshakes;
use super::identity::{Certified, of_certificate};
use super::tls::Tls;
use crate::causes::causes;

/// Handshakes at a time, and how long one may take.
const HANDSHAKES: usize = 64;
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Connections at a time: of those that showed a certificate of the cluster, and of all others. The API server has a place
/// however many knock without one.
const KNOWN: usize = 256;
const UNKNOWN: usize = 64;

/// How long a request's head may take, and a connection without a request may stay (HTTP/1.1).
const HEAD: Duration = Duration::from_secs(30);
/// The largest head, bytes, and its headers. A token of a service account has 1 to 2 KB.
const HEAD_BYTES: usize = 64 * 1024;
const HEADERS: usize = 64;
/// Requests at a time on one connection (HTTP/2): the API server's has all of its clients'.
const STREAMS: u32 = 256;
/// What waits to be sent of one answer (HTTP/2), bytes: a log is read no faster than it is taken.
const SEND_BUFFER: usize = 64 * 1024;
/// A peer that stays silent is asked for a sign of life, and given up without one.
const PING: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// A connection without a certificate ends after so long, once its requests are answered.
const UNKNOWN_LIFE: Duration = Duration::from_secs(600);

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Who they are by their certificate; None: they showed none.
    pub(super) certificate: Option<Arc<Certified>>,
}

struct Limits {
    handshakes: Handshakes,
    known: Semaphore,
    unknown: Semaphore,
}

/// Takes connections until the runtime ends.
pub(super) async fn accept(listener: TcpListener, tls: Arc<Tls>, router: Router) {
    let limits = Arc::new(Limits {
        handshakes: Handshakes::new(HANDSHAKES),
        known: Semaphore::new(KNOWN),
        unknown: Semaphore::new(UNKNOWN),
    });
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a peer that was gone before it was taken: neither lasts.
                tracing::debug!("cannot take a connection to the kubelet API: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let mut place = limits.handshakes.begin();
        let (tls, router, limits) = (Arc::clone(&tls), router.clone(), Arc::clone(&limits));
        tokio::spawn(async move {
            // The certificates' files, too, may be on a disk that does not answer.
            let shake = async {
                let (config, authorities) = tls.current().await;
                shake(stream, TlsAcceptor::from(config)).await.map(|stream| (stream, authorities))
            };
            let shaken = tokio::select! {
                shaken = timeout(HANDSHAKE, shake) => shaken,
                () = place.lost() => {
                    tracing::debug!(peer = %address, "no TLS with {address} so far, and others wait");
                    return;
                }
            };
            drop(place);
            match shaken {
                Ok(Ok((stream, authorities))) => serve(stream, address, authorities, router, &limits).await,
                Ok(Err(error)) => tracing::debug!(peer = %address, "no TLS with {address}: {}", causes(&error)),
                Err(_) => tracing::debug!(peer = %address, "no TLS with {address} within {HANDSHAKE:?}"),
            }
        });
    }
}

async fn shake(stream: TcpStream, acceptor: TlsAcceptor) -> std::io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    // A follower's client that is gone without a word: nothing may come from either side for hours.
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, PING)?;
    sockopt::set_tcp_keepintvl(&stream, PING_TIMEOUT)?;
    sockopt::set_tcp_keepcnt(&stream, 3)?;
    acceptor.accept(stream).await
}

async fn serve(
    stream: TlsStream<TcpStream>,
    address: SocketAddr,
    authorities: watch::Receiver<u64>,
    router: Router,
    limits: &Limits,
) {
    let (_, session) = stream.get_ref();
    let shown = session.peer_certificates().and_then(<[_]>::first).map(|der| of_certificate(der));
    let h2 = session.alpn_protocol() == Some(b"h2");
    let certificate = match shown {
        Some(Ok(certified)) => Some(Arc::new(certified)),
        Some(Err(error)) => {
            tracing::debug!(peer = %address, "the certificate of {address} names nobody: {}", causes(&error));
            None
        }
        None => None,
    };
    let known = certificate.is_some();
    let places = if known { &limits.known } else { &limits.unknown };
    let Ok(_place) = places.try_acquire() else {
        tracing::debug!(peer = %address, "too many connections to the kubelet API: {address} is sent away");
        return;
    };
    let peer = Peer { address, certificate };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request.map(Body::new))
    });
    let io = TokioIo::new(stream);
    let over = over(known, authorities);
    let ended = if h2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEAD_BYTES as u32)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(io, service);
        until(connection, over, |connection| connection.graceful_shutdown()).await
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_headers(HEADERS)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(io, service);
        until(connection, over, |connection| connection.graceful_shutdown()).await
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %address, "the connection of {address} breaks off: {}", causes(&error));
    }
}

/// Resolves when no more requests are taken: the authority that let the peer in may not count any more, or the connection is
/// old and nobody's.
async fn over(known: bool, mut authorities: watch::Receiver<u64>) {
    let others = async {
        if authorities.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let old = async {
        if known {
            std::future::pending::<()>().await;
        }
        sleep(UNKNOWN_LIFE).await;
    };
    tokio::select! {
        () = others => {}
        () = old => {}
    }
}

/// Serves, and after `over` only what was asked before.
async fn until<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    over: impl Future<Output = ()>,
    shut: impl FnOnce(Pin<&mut C>),
) -> hyper::Result<()> {
    let (mut connection, over) = (pin!(connection), pin!(over));
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = over => shut(connection.as_mut()),
    }
    connection.await
}
