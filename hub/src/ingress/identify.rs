//! Who a client is: what its TLS handshake says.

use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{Span, debug};

use super::limits::{Connected, Full};
use super::{HTTP2, Shared, Speaks, preface, tls};
use crate::principal::Principal;

/// What TLS says of who a client is.
pub(super) enum Identified<S> {
    /// It may have calls.
    Client(TlsStream<S>, Principal, Connected),
    /// It has as many connections as it may have.
    Full(TlsStream<S>, Principal, Full),
    /// There is no TLS with it, and it has been told why.
    Failed,
    /// As many handshakes as there may be are under way, and this one was not begun.
    TooMany,
}

impl Shared {
    /// Finds out by TLS who a client is. Its connection counts for its address until it has a name.
    pub(super) async fn identify<S>(
        &self,
        stream: S,
        tls: &Arc<ServerConfig>,
        mut principal: Principal,
        mut connected: Connected,
    ) -> Identified<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Ok(handshake) = self.handshakes.try_acquire() else {
            self.log_refusal("too many handshakes are under way");
            return Identified::TooMany;
        };
        let Some(Some(stream)) = self.in_time(self.handshake(stream, tls)).await else {
            return Identified::Failed;
        };
        drop(handshake);
        if let Some(name) = tls::name(stream.get_ref().1.peer_certificates()) {
            Span::current().record("name", name.as_str());
            principal.name = Some(name);
            connected = match self.clients.connect(&principal) {
                Ok(connected) => connected,
                Err(full) => return Identified::Full(stream, principal, full),
            };
        }
        Identified::Client(stream, principal, connected)
    }

    async fn handshake<S>(&self, stream: S, tls: &Arc<ServerConfig>) -> Option<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match TlsAcceptor::from(Arc::clone(tls))
            .accept(stream)
            .into_fallible()
            .await
        {
            Ok(stream) if self.speaks == Speaks::Bytes => Some(stream),
            Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(HTTP2) => Some(stream),
            Ok(mut stream) => {
                self.log_refusal("it offers no HTTP/2, which gRPC needs (ALPN \"h2\")");
                preface::linger(&mut stream).await;
                None
            }
            Err((error, mut stream)) => {
                match tls::refusal(&error) {
                    Some(reason) => self.log_refusal(&reason),
                    None => debug!(%error, "a client left within its TLS handshake"),
                }
                // For the alert to arrive.
                preface::linger(&mut stream).await;
                None
            }
        }
    }
}
