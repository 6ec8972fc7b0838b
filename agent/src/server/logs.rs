//! `/containerLogs`: a container's log as the journal has it, piece by piece. What is not read by the client is not read here
//! either; with the client goes the journalctl that reads for it.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::unfold;
use http::{HeaderValue, StatusCode, header};
use plan::journal::options::{LogOptions, OptionsError};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::pods::{LogSource, NoSource, NodePods};
use super::router::{Endpoint, refusal};
use crate::logs::{self, Begin, LogBytes};

/// Logs that are read at a time, each by a journalctl of a few MB.
pub(super) const READERS: usize = 64;

/// Answers a request for a log.
pub(super) async fn container_logs(
    State(endpoint): State<Arc<Endpoint>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    let options = match LogOptions::from_query(query.as_deref().unwrap_or_default()) {
        Ok(options) => options,
        Err(error @ OptionsError::Undecodable(_)) => return refusal(StatusCode::BAD_REQUEST, error.to_string()),
        Err(error @ OptionsError::Invalid(_)) => return refusal(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
    };
    let source = match endpoint.pods.log(&namespace, &pod, &container, options.previous).await {
        Ok(source) => source,
        Err(error @ NoSource::Log(_)) => return refusal(StatusCode::BAD_REQUEST, error.to_string()),
        Err(error) => return refusal(StatusCode::NOT_FOUND, error.to_string()),
    };
    let Ok(reader) = Arc::clone(&endpoint.readers).try_acquire_owned() else {
        let mut response = refusal(
            StatusCode::TOO_MANY_REQUESTS,
            format!("{READERS} logs of this node are being read: try again later"),
        );
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        return response;
    };
    let unit = source.name.unit(source.attempt);
    match Stream::open(&endpoint, source, &options, reader).await {
        Ok((first, stream)) => response(first, stream),
        Err(error) => {
            tracing::warn!(unit, "cannot read the log of {unit}: {error}");
            refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot read the journal: {error}"))
        }
    }
}

fn response(first: Option<Vec<u8>>, stream: Option<Stream>) -> Response {
    let first = first.map(|piece| Ok(Bytes::from(piece)));
    let body = unfold((first, stream), |(first, stream)| async move {
        if let Some(first) = first {
            return Some((first, (None, stream)));
        }
        let mut stream = stream?;
        let piece = stream.next().await?;
        let more = piece.is_ok().then_some(stream);
        Some((piece, (None, more)))
    });
    // A browser must not take a container's words for a page.
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, Body::from_stream(body)).into_response()
}

/// A log on its way to a client.
struct Stream {
    bytes: LogBytes,
    source: LogSource,
    pods: NodePods,
    reports: watch::Receiver<u64>,
    /// Says that the attempt has ended.
    end: watch::Sender<bool>,
    /// Its end is waited for.
    waits: bool,
    _reader: OwnedSemaphorePermit,
}

impl Stream {
    /// Begins to read. Without `follow` there is a first piece, so that a journal that cannot be read is told as what it is.
    async fn open(
        endpoint: &Endpoint,
        source: LogSource,
        options: &LogOptions,
        reader: OwnedSemaphorePermit,
    ) -> io::Result<(Option<Vec<u8>>, Option<Self>)> {
        let pods = endpoint.pods.clone();
        let reports = pods.reports();
        let ended = pods.has_ended(&source);
        let begin = Begin::new(source.attempt, options, source.started_ms, jiff::Timestamp::now());
        let (end, receiver) = watch::channel(ended);
        let follow = options.follow && !ended;
        let lines = if follow {
            logs::open(endpoint.journalctl.clone(), &source.name, &begin, true, receiver)?
        } else {
            logs::open_written(endpoint.journalctl.clone(), &source.name, &begin, ended).await?
        };
        let bytes = LogBytes::new(lines, options);
        let mut stream = Self { bytes, source, pods, reports, end, waits: follow, _reader: reader };
        if follow {
            return Ok((None, Some(stream)));
        }
        let first = stream.bytes.next().await?;
        let more = first.is_some().then_some(stream);
        Ok((first, more))
    }

    /// The next piece; None at the end.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            tokio::select! {
                piece = self.bytes.next() => {
                    if let Err(error) = &piece {
                        let unit = self.source.name.unit(self.source.attempt);
                        tracing::warn!(unit, "the log of {unit} breaks off: {error}");
                    }
                    return piece.map(|piece| piece.map(Bytes::from)).transpose();
                }
                said = self.reports.changed(), if self.waits => {
                    // A loop that is gone says nothing more.
                    if said.is_err() || self.pods.has_ended(&self.source) {
                        self.waits = false;
                        self.end.send_replace(true);
                    }
                }
            }
        }
    }
}
