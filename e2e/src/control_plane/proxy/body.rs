//! Bodies of answers: as they come from the API server, or less than that.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

/// A body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// So that what was written before a reset has left.
const ON_ITS_WAY: Duration = Duration::from_millis(100);

/// How a body is passed on.
pub(super) enum Passing {
    /// As it comes.
    Whole,
    /// So many bytes of it; then it ends.
    Part(usize),
    /// So many bytes of it; then the connection is reset.
    Until(usize, Arc<Notify>),
    /// Byte by byte, with pauses.
    Slowly(Duration),
}

pub(super) fn text(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

/// What the API server says when it does not do what it was asked for.
pub(super) fn status(code: u16, retry_after: Option<u32>) -> Value {
    let reason = match code {
        401 => "Unauthorized",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        _ => "",
    };
    let details = retry_after.map_or_else(|| json!({}), |seconds| json!({"retryAfterSeconds": seconds}));
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code,
        "message": format!("a fault of a test: {reason}"), "details": details,
    })
}

/// Passes on until its end, or until nobody takes it any more.
pub(super) fn passed_on(mut from: Incoming, how: Passing) -> Body {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        let mut left = match &how {
            Passing::Part(bytes) | Passing::Until(bytes, _) => *bytes,
            Passing::Whole | Passing::Slowly(_) => usize::MAX,
        };
        while left > 0 {
            let frame = tokio::select! {
                frame = from.frame() => frame,
                () = sender.closed() => return,
            };
            let Some(Ok(Ok(mut bytes))) = frame.map(|frame| frame.map(Frame::into_data)) else { break };
            bytes.truncate(left);
            left = left.saturating_sub(bytes.len());
            let pause = if let Passing::Slowly(pause) = how { pause } else { Duration::ZERO };
            let size = if pause.is_zero() { bytes.len().max(1) } else { 1 };
            for piece in bytes.chunks(size) {
                if sender.send(Bytes::copy_from_slice(piece)).await.is_err() {
                    return;
                }
                sleep(pause).await;
            }
        }
        if let Passing::Until(_, reset) = how {
            sleep(ON_ITS_WAY).await;
            reset.notify_one();
            sender.closed().await;
        }
    });
    let pieces = stream::unfold(receiver, async |mut receiver| {
        let piece = receiver.recv().await?;
        Some((Ok(Frame::data(piece)), receiver))
    });
    StreamBody::new(pieces).boxed_unsync()
}
