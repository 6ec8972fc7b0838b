//! Handshakes that go on. Whoever connects and says nothing has a place only until somebody else wants it: a handshake takes
//! milliseconds, so the oldest of many is the one that hangs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// At most so many at a time.
#[derive(Clone)]
pub(super) struct Handshakes {
    places: usize,
    going: Arc<Mutex<Going>>,
}

#[derive(Default)]
struct Going {
    next: u64,
    /// Oldest first. Dropping a sender sends its handshake away.
    handshakes: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// A handshake's place, until it is dropped.
pub(super) struct Place {
    number: u64,
    handshakes: Handshakes,
    sent_away: oneshot::Receiver<()>,
}

impl Handshakes {
    /// With so many places.
    pub(super) fn new(places: usize) -> Self {
        Self { places, going: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Going> {
        self.going.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more; the oldest loses its own if there is no other.
    pub(super) fn begin(&self) -> Place {
        let (keep, sent_away) = oneshot::channel();
        let mut going = self.lock();
        if going.handshakes.len() >= self.places {
            going.handshakes.pop_front();
        }
        let number = going.next;
        going.next += 1;
        going.handshakes.push_back((number, keep));
        Place { number, handshakes: self.clone(), sent_away }
    }
}

impl Place {
    /// Resolves when another one has it.
    pub(super) async fn lost(&mut self) {
        // Nothing is ever sent: either way it is over.
        let _gone = (&mut self.sent_away).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.handshakes.lock().handshakes.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let handshakes = Handshakes::new(2);
        let (mut first, second) = (handshakes.begin(), handshakes.begin());
        assert_eq!(first.lost().now_or_never(), None);
        drop(second);
        let mut third = handshakes.begin();
        assert_eq!(first.lost().now_or_never(), None, "there was a place");
        let mut fourth = handshakes.begin();
        assert_eq!(first.lost().now_or_never(), Some(()));
        drop(first);
        assert_eq!((third.lost().now_or_never(), fourth.lost().now_or_never()), (None, None));
        drop((third, fourth));
        assert!(handshakes.lock().handshakes.is_empty());
    }
}
