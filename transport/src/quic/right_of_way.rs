//! The right of way of what a link says about itself, and of the heads of calls.
//!
//! All streams of a link share one credit, and quinn gives what comes of it to whichever writer asks first: among the many
//! calls of a busy link, one that waits for credit may be passed by all others again and again. A heartbeat must not, or
//! the link would be taken for dead because it is busy; nor a head, whose peer gives the call up after a while. So while
//! one of these waits, the bodies of calls do not ask.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Who may write on a link.
#[derive(Debug, Default)]
pub(super) struct RightOfWay {
    /// How many writers that go first wait for credit.
    taken: AtomicUsize,
    over: Notify,
}

/// The right of way, until this is dropped.
#[derive(Debug)]
pub(super) struct Taken<'a>(&'a RightOfWay);

impl RightOfWay {
    /// Has all bodies wait.
    pub(super) fn take(&self) -> Taken<'_> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        Taken(self)
    }

    /// Whether the bodies have to wait.
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
