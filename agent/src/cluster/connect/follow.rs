//! A kubeconfig that is written anew, and the files that it names: a rotated certificate, another token, another CA. What is
//! asked from then on is asked by new connections; what lasts, a watch, ends on the old one in its time.
//!
//! Files are looked at when something is asked, which the heartbeat does every 10 s, and nothing waits for that look: they may
//! lie on a disk that stalls. What cannot be used is warned of, and the last that could stays in use.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::time::Instant;
use tower::{BoxError, Service, ServiceExt as _};

use super::limits::Answer;
use super::{ConnectError, Connection, Read};
use crate::cluster::error::causes;
use crate::cluster::outage::Once;

/// Files are looked at no more often.
const LOOK: Duration = Duration::from_secs(2);

/// What makes a file another one: its inode, size and time.
pub(super) type Stamp = Option<(u64, u64, SystemTime)>;

/// The files and what they came to.
pub(super) struct Followed {
    kubeconfig: PathBuf,
    current: Mutex<Current>,
}

struct Current {
    read: Arc<Read>,
    stamps: Vec<Stamp>,
    looked: Instant,
    looking: bool,
    refused: Once,
}

/// As they are now.
pub(super) fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let stamp = |file: &PathBuf| {
        let found = std::fs::metadata(file).ok()?;
        Some((found.ino(), found.len(), found.modified().ok()?))
    };
    files.iter().map(stamp).collect()
}

impl Followed {
    /// A kubeconfig that was just read.
    pub(super) fn new(kubeconfig: &Path, read: Read) -> Arc<Self> {
        let stamps = read.stamps.clone();
        let current =
            Current { read: Arc::new(read), stamps, looked: Instant::now(), looking: false, refused: Once::default() };
        Arc::new(Self { kubeconfig: kubeconfig.to_owned(), current: Mutex::new(current) })
    }

    /// A client that goes the newest of these ways.
    pub(super) fn client(self: &Arc<Self>, which: fn(&Read) -> &Connection) -> Client {
        Client::new(Following { followed: Arc::clone(self), which }, "default")
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(self: &Arc<Self>) -> Arc<Read> {
        let mut current = self.lock();
        if !current.looking && current.looked.elapsed() >= LOOK {
            current.looking = true;
            tokio::spawn(Arc::clone(self).look());
        }
        Arc::clone(&current.read)
    }

    async fn look(self: Arc<Self>) {
        let (files, known) = {
            let current = self.lock();
            (current.read.files.clone(), current.stamps.clone())
        };
        let file = self.kubeconfig.clone();
        let runtime = tokio::runtime::Handle::current();
        let look = move || (stamps(&files) != known).then(|| runtime.block_on(super::read(&file)));
        let looked = tokio::task::spawn_blocking(look).await;
        let mut current = self.lock();
        (current.looked, current.looking) = (Instant::now(), false);
        // A panic was printed.
        let Ok(Some(read)) = looked else { return };
        let file = self.kubeconfig.display();
        match read.and_then(|read| current.read.follows(&self.kubeconfig, read)) {
            Ok(read) => {
                tracing::info!("{file} has changed: new connections are made with what it says now");
                current.refused.succeeded();
                current.stamps.clone_from(&read.stamps);
                current.read = Arc::new(read);
            }
            // Read again until it can be used: it may name a file that comes only now.
            Err(error) => {
                let text = causes(&error);
                if current.refused.is_new(&text) {
                    tracing::warn!("{file} has changed, and what it said before stays in use: {text}");
                }
            }
        }
    }
}

impl Read {
    /// What was read later, if this agent can go on with it: another cluster's pods are not this one's.
    fn follows(&self, file: &Path, later: Self) -> Result<Self, ConnectError> {
        let other = |what| {
            let problem = format!("it is for another {what}, which needs a restart of the agent");
            Err(ConnectError::Kubeconfig { file: file.to_owned(), problem })
        };
        if later.url != self.url {
            return other("server");
        }
        if later.credential.node() != self.credential.node() {
            return other("node");
        }
        self.credential.becomes(&later.credential);
        Ok(Self { credential: self.credential.clone(), ..later })
    }
}

/// A client's end: each request goes the newest way.
struct Following {
    followed: Arc<Followed>,
    which: fn(&Read) -> &Connection,
}

impl Service<Request<Body>> for Following {
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let connection = (self.which)(&self.followed.current()).clone();
        Box::pin(connection.oneshot(request))
    }
}

#[cfg(test)]
mod tests;
