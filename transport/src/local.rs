//! A client's connection without TLS, served by the code that serves a link over TCP.

use std::net::SocketAddr;

use http::{Request, Response};
use tokio::net::TcpStream;

use crate::body::Body;
use crate::carrier::Carrier;
use crate::link::{LinkError, Reset};
use crate::rh2::agent::Link;
use crate::rh3::code::Code;
use crate::tuning::Tuning;

/// A connection of a gRPC client on this machine: HTTP/2 without TLS. To HTTP it is what an agent's end of a link over TCP
/// is, a server that passes calls on; so it keeps from a call what such a link does: trailers, codes of resets, and room for
/// what a reader takes. Dropping it ends it.
#[derive(Debug)]
pub struct LocalConnection(Link);

impl LocalConnection {
    /// Speaks HTTP/2 on `stream` until the client has, too: for as long as the client likes.
    ///
    /// # Errors
    ///
    /// The client speaks something else, or left.
    pub async fn establish(stream: TcpStream, peer: SocketAddr, tuning: &Tuning) -> Result<Self, LinkError> {
        // The carrier is what links are listed by, and this is none.
        let link = Link::establish(Carrier::Tls, peer, Vec::new(), Box::new(stream), tuning).await?;
        Ok(Self(link))
    }

    /// Answers every call with `handler` until the connection ends, and says why it did.
    ///
    /// A call that the client gives up drops the handler's future or its response's body, and so do the connection's end and
    /// dropping this future.
    pub async fn serve<H, F>(&self, handler: H) -> LinkError
    where
        H: Fn(Request<Body>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<Response<Body>, Reset>> + Send + 'static,
    {
        self.0.serve(handler).await
    }

    /// Takes no new calls and tells the client so (GOAWAY). Ready once it has heard of it, or had 3 s to, and no call runs any
    /// more; they do for as long as [`serve`](Self::serve) is polled.
    pub async fn drain(&self) {
        self.0.drain().await;
    }

    /// Ends the connection now, and waits, for a second at the most, until the client was told `reason`.
    pub async fn close(&self, reason: &str) {
        self.0.close(Code::NO_ERROR, reason);
        self.0.closed().await;
    }
}
