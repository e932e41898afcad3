//! How many calls run on a link's end that serves them.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// How many calls run that somebody may wait for.
#[derive(Debug, Default)]
pub(crate) struct Count {
    count: AtomicUsize,
    /// Somebody does: a call then runs until its response has arrived.
    draining: AtomicBool,
    none: Notify,
}

/// A call that is counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Running(Arc<Count>);

impl Count {
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Has every call run until its response has arrived.
    pub(crate) fn wait_for(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) async fn none_left(&self) {
        loop {
            // Listened for before the look, so that the last one can't end between the two.
            let mut none = pin!(self.none.notified());
            none.as_mut().enable();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Running {
    pub(crate) fn new(count: &Arc<Count>) -> Self {
        count.count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }

    pub(crate) fn is_waited_for(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Release) == 1 {
            self.0.none.notify_waiters();
        }
    }
}
