//! A live connection to an upstream, and places for calls on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// One HTTP/2 connection. It lives as long as its pool keeps it or a call runs on it.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Bytes>,
    /// Calls that run on it.
    in_flight: AtomicUsize,
    /// The upstream's MAX_CONCURRENT_STREAMS as it is now.
    limit: Arc<AtomicUsize>,
    /// Told when a place is free.
    freed: Arc<Notify>,
    /// Moves the bytes.
    _driver: AbortOnDropHandle<()>,
}

/// A call's place on a connection, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot(Arc<Connection>);

impl Connection {
    pub(super) fn new(
        sender: SendRequest<Bytes>,
        limit: Arc<AtomicUsize>,
        freed: Arc<Notify>,
        driver: AbortOnDropHandle<()>,
    ) -> Self {
        Self {
            sender,
            in_flight: AtomicUsize::new(0),
            limit,
            freed,
            _driver: driver,
        }
    }

    /// Takes a place if fewer than `most` calls run on the connection and the upstream allows one more.
    pub(super) fn reserve(self: &Arc<Self>, most: usize) -> Option<Slot> {
        let most = most.min(self.limit.load(Ordering::Relaxed));
        self.in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |calls| {
                (calls < most).then_some(calls + 1)
            })
            .ok()?;
        Some(Slot(Arc::clone(self)))
    }

    /// Whether it still takes calls: it has not failed, and the upstream sent no GOAWAY.
    pub(super) fn is_open(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        // A fresh clone waits for nothing, so that the answer is about the connection.
        !matches!(
            self.sender.clone().poll_ready(&mut context),
            std::task::Poll::Ready(Err(_))
        )
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

impl Slot {
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.0.sender.clone()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify_one();
    }
}
