//! From the API server's name to its addresses, looked up for every connection. Each begins with another one: a server that takes
//! connections and says nothing costs one try, not all of them, and the heartbeats' connection is not the other one's.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::vec;

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower::Service;

/// Clones go on with each other's turns.
#[derive(Clone)]
pub(super) struct InTurn {
    system: GaiResolver,
    turn: Arc<AtomicUsize>,
}

impl InTurn {
    /// What the system's resolver says, beginning with the address of that place.
    pub(super) fn from(first: usize) -> Self {
        Self { system: GaiResolver::new(), turn: Arc::new(AtomicUsize::new(first)) }
    }
}

impl Service<Name> for InTurn {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.system.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let found = self.system.call(name);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { Ok(turned(found.await?.collect(), turn).into_iter()) })
    }
}

/// The family that the system prefers stays the first (RFC 6724), and the order of each is turned.
fn turned(addresses: Vec<SocketAddr>, turn: usize) -> Vec<SocketAddr> {
    let preferred = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == preferred);
    for family in [&mut first, &mut second] {
        let by = turn.checked_rem(family.len()).unwrap_or(0);
        family.rotate_left(by);
    }
    first.append(&mut second);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_another_comes_first_of_the_family_that_is_preferred() {
        let all = |text: &[&str]| text.iter().map(|a| a.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let known = all(&["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1", "192.0.2.2:1", "192.0.2.3:1"]);
        let expected = all(&["[2001:db8::2]:1", "[2001:db8::1]:1", "192.0.2.2:1", "192.0.2.3:1", "192.0.2.1:1"]);
        assert_eq!(turned(known.clone(), 1), expected);
        assert_eq!(turned(known, 2)[..3], all(&["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.3:1"]));
        assert!(turned(Vec::new(), 3).is_empty());
    }
}
