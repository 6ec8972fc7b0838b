//! A man in the middle between one node and the API server, who does to its requests what a network, a load balancer or a
//! server in trouble would, and writes down what was asked.
//!
//! Takes rules at any time; gives what it saw. It serves TLS with HTTP/2 and 1.1 under the control plane's own CA, asks for the
//! client's certificate, and passes on as the node of its name, watches as they come.

mod asked;
mod body;
mod connections;
mod fault;
mod tls;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::sync::watch;

pub use self::asked::{Asked, Seen};
pub use self::fault::Fault;
use self::fault::Rule;
pub use self::tls::fingerprint;
use super::kubeconfig::{self, Credentials};
use super::pki::{Certified, Pki};
use super::{ControlPlane, Identity};

/// What a proxy may be called in a kubeconfig, where a test gives that name its addresses.
const NAME: &str = "api.test";

/// A running proxy. Dropping it resets its connections, and new ones are refused.
pub struct Proxy {
    address: SocketAddr,
    authority: String,
    credentials: Certified,
    shared: Arc<Shared>,
    end: watch::Sender<bool>,
    serving: Option<JoinHandle<()>>,
}

/// What the test and the proxy's thread share.
struct Shared {
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    /// Counts the times that all connections were reset.
    resets: watch::Sender<u64>,
    silent: watch::Sender<bool>,
    upstream: connections::Upstream,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ControlPlane {
    /// A proxy for the node of that name, at a loopback address of the caller's.
    pub fn proxy(&self, node: &str, address: IpAddr) -> Result<Proxy> {
        self.proxy_at(node, SocketAddr::new(address, 0))
    }

    /// The same at a port: two that are one server to their clients have the same.
    pub fn proxy_at(&self, node: &str, address: SocketAddr) -> Result<Proxy> {
        Proxy::start(&self.pki(), self.record.port, node, address).context("start a proxy of the API server")
    }
}

impl Proxy {
    fn start(pki: &Pki, port: u16, node: &str, address: SocketAddr) -> Result<Self> {
        let credentials = pki.client(&Identity::node(node))?;
        let authority = pki.authority()?;
        let server = tls::server(&pki.server(&[&address.ip().to_string(), NAME])?, &authority)?;
        let upstream = connections::Upstream::new(port, tls::client(&credentials, &authority)?);
        let listener = TcpListener::bind(address).with_context(|| format!("listen at {address}"))?;
        listener.set_nonblocking(true).context("make a listener non-blocking")?;
        let address = listener.local_addr().context("ask for the port")?;
        let (rules, seen) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared {
            rules,
            seen,
            resets: watch::Sender::new(0),
            silent: watch::Sender::new(false),
            upstream,
        });
        let (end, ended) = watch::channel(false);
        let (serves, runtime) = (
            Arc::clone(&shared),
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("make a runtime")?,
        );
        let serving = thread::spawn(move || runtime.block_on(connections::serve(listener, server, serves, ended)));
        Ok(Self { address, authority, credentials, shared, end, serving: Some(serving) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The node's kubeconfig, with this as its server.
    pub fn kubeconfig(&self) -> String {
        self.kubeconfig_with(&self.address.ip().to_string())
    }

    /// The same by the name `api.test`, which is for the node to resolve.
    pub fn kubeconfig_by_name(&self) -> String {
        self.kubeconfig_with(NAME)
    }

    fn kubeconfig_with(&self, host: &str) -> String {
        let server = format!("https://{host}:{}", self.address.port());
        kubeconfig::text(&server, &self.authority, &Credentials::Certificate(&self.credentials))
    }

    /// Meets each request that `what` names (`list pods`, `watch *`, `* leases`) with `fault`, before rules that were made
    /// earlier, until [`Proxy::clear`].
    pub fn inject(&self, what: &str, fault: Fault) {
        lock(&self.shared.rules).push(Rule::new(what, fault, None));
    }

    /// The same for the next so many of them.
    pub fn inject_times(&self, times: usize, what: &str, fault: Fault) {
        lock(&self.shared.rules).push(Rule::new(what, fault, Some(times)));
    }

    /// Withdraws every rule. What was met by one stays so: a stalled request is never answered.
    pub fn clear(&self) {
        lock(&self.shared.rules).clear();
    }

    /// Resets every connection (TCP RST). New ones are taken.
    pub fn reset(&self) {
        self.shared.resets.send_modify(|count| *count += 1);
    }

    /// Says nothing more, not even in TLS and HTTP/2, to those that are connected and those that will be; or speaks again.
    pub fn silence(&self, silent: bool) {
        self.shared.silent.send_replace(silent);
    }

    /// All requests so far, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// Those that `what` names, since a moment.
    pub fn seen_since(&self, since: Instant, what: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.at >= since && seen.asked.is(what)).collect()
    }

    /// How often which kind was asked since a moment.
    pub fn counts(&self, since: Instant) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        self.seen_since(since, "*").iter().for_each(|seen| *counts.entry(seen.asked.what.clone()).or_default() += 1);
        counts
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end.send_replace(true);
        if let Some(serving) = self.serving.take() {
            // Its panic was printed.
            serving.join().ok();
        }
    }
}
