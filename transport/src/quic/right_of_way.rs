//! The right of way of what a link says about itself: heartbeats, drains, settings.
//!
//! All streams of a link share one credit, and quinn gives what comes of it to whichever writer asks first: among the many
//! calls of a busy link, one that waits for credit may be passed by all others again and again. A heartbeat must not, or
//! the link would be taken for dead because it is busy. So while a link's own writer waits, the calls do not ask.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Who may write on a link.
#[derive(Debug, Default)]
pub(super) struct RightOfWay {
    /// How many of the link's own writers wait for credit.
    taken: AtomicUsize,
    over: Notify,
}

/// The right of way, until this is dropped.
#[derive(Debug)]
pub(super) struct Taken<'a>(&'a RightOfWay);

impl RightOfWay {
    /// Has all calls wait.
    pub(super) fn take(&self) -> Taken<'_> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        Taken(self)
    }

    /// Whether the calls have to wait.
    pub(super) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed) > 0
    }

    /// Waits until they needn't.
    pub(super) async fn clear(&self) {
        while self.is_taken() {
            // Listened for before the look, so that the end can't come between the two.
            let mut over = pin!(self.over.notified());
            over.as_mut().enable();
            if self.is_taken() {
                over.await;
            }
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.0.taken.fetch_sub(1, Ordering::Release) == 1 {
            self.0.over.notify_waiters();
        }
    }
}
