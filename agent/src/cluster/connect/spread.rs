//! As many connections as what goes on needs. A server allows only so many streams on one (the API server 100,
//! `--http2-max-streams-per-connection`), every watch is one for as long as it lasts, and hyper's client makes one connection
//! and lets whatever is above wait for a place: pods with a hundred ConfigMaps would keep the node from ever asking for
//! anything again. Go's transport makes another connection then, and so does this.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use kube::client::Body;
use tower::{BoxError, Service, ServiceExt as _};

/// Streams on one connection: below what API servers and the proxies before them allow, which is 100 and more.
const STREAMS: usize = 90;

/// Connections of one kind; clones share them.
pub(super) struct Spread<S> {
    /// Makes another one, which connects when it is first used.
    another: Arc<dyn Fn() -> S + Send + Sync>,
    lanes: Arc<Mutex<Vec<Lane<S>>>>,
}

impl<S> Clone for Spread<S> {
    fn clone(&self) -> Self {
        Self { another: Arc::clone(&self.another), lanes: Arc::clone(&self.lanes) }
    }
}

struct Lane<S> {
    service: S,
    /// Shared by every stream that goes on here.
    streams: Arc<()>,
}

impl<S> Lane<S> {
    fn going(&self) -> usize {
        Arc::strong_count(&self.streams) - 1
    }
}

impl<S: Clone> Spread<S> {
    /// With connections that `another` makes.
    pub(super) fn new(another: impl Fn() -> S + Send + Sync + 'static) -> Self {
        Self { another: Arc::new(another), lanes: Arc::default() }
    }

    /// A connection with room, and the room. The first is the one that stays; of the others those end that nothing uses.
    fn room(&self) -> (S, Arc<()>) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let with_room = match lanes.iter().position(|lane| lane.going() < STREAMS) {
            Some(index) => index,
            None => {
                lanes.push(Lane { service: (self.another)(), streams: Arc::default() });
                lanes.len() - 1
            }
        };
        let room = (lanes[with_room].service.clone(), Arc::clone(&lanes[with_room].streams));
        let mut first = true;
        lanes.retain(|lane| std::mem::take(&mut first) || lane.going() > 0);
        room
    }
}

impl<S, B> Service<Request<Body>> for Spread<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
{
    type Response = Response<Going<B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (service, room) = self.room();
        Box::pin(async move {
            let response = service.oneshot(request).await.map_err(Into::into)?;
            Ok(response.map(|body| Going { body, _room: room }))
        })
    }
}

/// The body of an answer, which has its room until it is dropped.
pub(super) struct Going<B> {
    body: B,
    _room: Arc<()>,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Going<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::Empty;

    use super::*;

    #[tokio::test]
    async fn what_finds_no_room_gets_a_connection_of_its_own_until_it_ends() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let another = move || {
            count.fetch_add(1, Ordering::Relaxed);
            tower::service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) })
        };
        let spread = Spread::new(another);
        let ask = || spread.clone().oneshot(Request::new(Body::empty()));
        let going = |spread: &Spread<_>| spread.lanes.lock().unwrap().iter().map(Lane::going).collect::<Vec<_>>();
        for _ in 0..3 * STREAMS {
            drop(ask().await.unwrap());
        }
        assert_eq!((made.load(Ordering::Relaxed), going(&spread)), (1, vec![0]), "what has ended needs no room");

        let mut lasting = Vec::new();
        for _ in 0..=2 * STREAMS {
            lasting.push(ask().await.unwrap());
        }
        assert_eq!((made.load(Ordering::Relaxed), going(&spread)), (3, vec![STREAMS, STREAMS, 1]));
        // A request that waits for its answer has its room, too.
        let asked = spread.clone().call(Request::new(Body::empty()));
        assert_eq!(going(&spread), [STREAMS, STREAMS, 2]);
        drop(asked);

        lasting.drain(STREAMS..2 * STREAMS);
        assert_eq!(going(&spread), [STREAMS, 0, 1]);
        lasting.push(ask().await.unwrap());
        assert_eq!(going(&spread), [STREAMS, 1, 1], "room is filled from the first on");
        lasting.clear();
        drop(ask().await.unwrap());
        assert_eq!((made.load(Ordering::Relaxed), going(&spread)), (3, vec![0]), "what nothing uses ends");
    }
}
