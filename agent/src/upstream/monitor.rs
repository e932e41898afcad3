//! A connection to an upstream for watching it.

use std::sync::Arc;

use adit_transport::{Body, Reset};
use http::{Request, Response};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Remote;
use super::connect::ConnectError;
use super::connection::Connection;

/// A connection beside the pool's. It shows whether the upstream is there, and its streams may stay open: they take the
/// room of no call, at a server that allows few on a connection.
#[derive(Clone, Debug)]
pub(crate) struct Monitor {
    remote: Arc<Remote>,
    connection: Arc<Connection>,
    /// Told when there is room for one more stream.
    freed: Arc<Notify>,
    closing: CancellationToken,
}

impl Remote {
    /// Connects once more.
    ///
    /// # Errors
    /// The upstream cannot be reached, or speaks no HTTP/2.
    pub(crate) async fn monitor(self: &Arc<Self>) -> Result<Monitor, ConnectError> {
        let (freed, closing) = (Arc::new(Notify::new()), CancellationToken::new());
        let connection = self.pool.connect_apart(&freed, &closing).await?;
        Ok(Monitor {
            remote: Arc::clone(self),
            connection: Arc::new(connection),
            freed,
            closing,
        })
    }
}

impl Monitor {
    /// Makes one call, when there is room for it.
    ///
    /// # Errors
    /// The upstream reset the call.
    pub(crate) async fn call(&self, request: Request<Body>) -> Result<Response<Body>, Reset> {
        let slot = loop {
            // Before looking, or room that is made in between would be missed.
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            match self.connection.reserve(usize::MAX) {
                Some(slot) => break slot,
                None => freed.await,
            }
        };
        self.remote.call_in(slot, request).await
    }

    /// Whether it takes calls. False as soon as a call has failed with the connection.
    pub(crate) fn is_open(&self) -> bool {
        self.connection.is_open()
    }

    /// Ready when it takes no more calls: it has ended, or the upstream is about to end it.
    pub(crate) async fn closing(&self) {
        self.closing.cancelled().await;
    }
}
