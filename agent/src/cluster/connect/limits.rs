//! What every request to the API server is given: an end, and the server's own word on when to come again.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Bytes, Incoming};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::{BoxError, Service};

use super::spread::Going;

/// How long an answer may take, to its last byte: the API server gives itself 60 s (`--request-timeout`).
const ANSWER: Duration = Duration::from_secs(65);

/// How long until a watch has begun; then it lasts.
const BEGINNING: Duration = Duration::from_secs(30);

/// Characters of a refusal that is no `Status`.
const SAID: usize = 500;

/// A body: of a watch as it comes, of anything else whole.
pub(super) type Answer = Either<Going<Incoming>, Full<Bytes>>;

/// A service with limits.
#[derive(Clone)]
pub(super) struct Limited<S>(pub(super) S);

impl<S> Service<Request<Body>> for Limited<S>
where
    S: Service<Request<Body>, Response = Response<Going<Incoming>>, Error: Into<BoxError>, Future: Send + 'static>,
{
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let lasts = request.uri().query().is_some_and(|query| query.split('&').any(|word| word == "watch=true"));
        let answer = self.0.call(request);
        if lasts {
            return Box::pin(async move {
                let response = timeout(BEGINNING, answer).await?.map_err(Into::into)?;
                if response.status().is_success() { Ok(response.map(Either::Left)) } else { whole(response).await }
            });
        }
        Box::pin(async move { timeout(ANSWER, async { whole(answer.await.map_err(Into::into)?).await }).await? })
    }
}

/// The answer, all of it.
async fn whole(response: Response<Going<Incoming>>) -> Result<Response<Answer>, BoxError> {
    let (parts, body) = response.into_parts();
    let bytes = timeout(ANSWER, body.collect()).await??.to_bytes();
    let wait = parts.headers.get(RETRY_AFTER).and_then(seconds);
    let bytes = match parts.status.is_success() {
        true => bytes,
        false => Bytes::from(stated(&bytes, parts.status.as_u16(), wait)),
    };
    Ok(Response::from_parts(parts, Either::Right(Full::new(bytes))))
}

fn seconds(header: &HeaderValue) -> Option<u32> {
    header.to_str().ok()?.trim().parse().ok()
}

/// A refusal as a `Status`, which is all that kube looks at: it takes any other JSON for one that says nothing. Where the server
/// refuses whoever comes (priority and fairness), the wait is in the header and the body is a line of text.
fn stated(body: &[u8], code: u16, wait: Option<u32>) -> Vec<u8> {
    let mut status = serde_json::from_slice(body).ok().filter(|status: &Value| status["kind"] == "Status");
    let status = status.get_or_insert_with(|| {
        // A page of a proxy, perhaps: its beginning tells whose it is.
        let said: String = String::from_utf8_lossy(body).trim().chars().take(SAID).collect();
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": said, "code": code})
    });
    if let Some(seconds) = wait {
        let details = &mut status["details"];
        if !details.is_object() {
            *details = json!({});
        }
        if details["retryAfterSeconds"].as_u64().is_none_or(|known| known < u64::from(seconds)) {
            details["retryAfterSeconds"] = json!(seconds);
        }
    }
    status.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn the_wait_is_in_the_status_whatever_the_server_says_it_in() {
        let wait = |body: &str| {
            let status: Status = serde_json::from_slice(&stated(body.as_bytes(), 429, Some(7))).unwrap();
            (status.code, status.message.clone(), status.details.unwrap().retry_after_seconds)
        };
        let text = "Too many requests, please try again later.";
        assert_eq!(wait(&format!("{text}\n")), (429, text.to_owned(), 7));
        let status =
            |details: Value| json!({"kind": "Status", "code": 503, "message": "m", "details": details}).to_string();
        assert_eq!(wait(&status(Value::Null)), (503, "m".to_owned(), 7));
        assert_eq!(wait(&status(json!({"retryAfterSeconds": 9}))), (503, "m".to_owned(), 9));
        assert_eq!(wait(&status(json!({"name": "x", "retryAfterSeconds": 1}))).2, 7);
    }

    #[test]
    fn what_is_no_status_becomes_one_of_its_code() {
        let of = |body: &str| -> Status { serde_json::from_slice(&stated(body.as_bytes(), 502, None)).unwrap() };
        let foreign = of(r#"{"error": "bad gateway"}"#);
        assert_eq!((foreign.code, foreign.message.as_str()), (502, r#"{"error": "bad gateway"}"#));
        let own = of(r#"{"kind": "Status", "code": 404, "reason": "NotFound", "message": "m"}"#);
        assert_eq!((own.code, own.reason.as_str()), (404, "NotFound"));
    }
}
