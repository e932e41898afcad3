//! The gRPC servers that an agent forwards to.

mod address;
mod call;
mod connect;
mod connection;
mod monitor;
mod peer;
mod pool;
mod service;
mod tls;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;

use adit_transport::{Body, Reset};
use bytes::Bytes;
use http::uri::Authority;
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use rustls::ClientConfig;
use tower_service::Service;
use tracing::debug;

pub use address::{HostPort, InvalidUpstream, ServicePrefix, Target, UpstreamAddr};
pub use call::MAX_HEADERS;
pub use tls::{UpstreamTls, UpstreamTlsError};

pub(crate) use monitor::Monitor;

use connection::Slot;
use peer::Peer;
use pool::Pool;
use service::InProcess;
use tls::TlsSettings;

/// One upstream: a server at an address, or a service in this process. Clones share its connections, which end with
/// the last clone and the calls that run.
#[derive(Clone, Debug)]
pub struct Upstream(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Remote(Arc<Remote>),
    InProcess(InProcess),
}

/// A server at an address.
#[derive(Debug)]
pub(crate) struct Remote {
    pool: Pool,
    scheme: Scheme,
    authority: Authority,
    /// Who that is, for messages.
    peer: Arc<Peer>,
}

impl Upstream {
    /// The server at `target`. Connections are made when calls need them.
    ///
    /// # Errors
    /// `target` is an `https://` address, and the TLS settings cannot be loaded.
    pub fn at(target: Target, tls: &UpstreamTls) -> Result<Self, UpstreamTlsError> {
        let settings = target.is_tls().then(|| tls.load()).transpose()?;
        let authority = match settings.as_ref().and_then(|settings| settings.name.as_ref()) {
            // A name is always an authority.
            Some(name) => name.to_str().parse().unwrap_or_else(|_| target.authority()),
            None => target.authority(),
        };
        let peer = Peer::Upstream(target.to_string());
        Ok(Self(Kind::Remote(Arc::new(Remote::new(
            target, settings, authority, peer,
        )))))
    }

    /// The clients' port of the hub at `target`, as a client of that hub. `tls` is needed for an `https://` target, and has
    /// to offer HTTP/2 (ALPN).
    pub fn hub(target: Target, tls: Option<Arc<ClientConfig>>) -> Self {
        let settings = tls.map(|config| TlsSettings { config, name: None });
        let (authority, peer) = (target.authority(), Peer::Hub(target.to_string()));
        Self(Kind::Remote(Arc::new(Remote::new(
            target, settings, authority, peer,
        ))))
    }

    /// A service in this process, such as tonic's `Routes`. No port is opened, and nothing is copied or encoded on the
    /// way to it.
    ///
    /// A service that fails instead of answering has its calls reset with `H3_INTERNAL_ERROR`, or with the code of the
    /// [`Reset`] that is its error or a source of it.
    pub fn service<S, B>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self(Kind::InProcess(InProcess::new(service)))
    }

    /// Makes one call. Dropping the future, or the response's body, cancels it there at once.
    ///
    /// What an upstream can't answer, such as that there is no connection to it, is told in the response.
    ///
    /// # Errors
    /// The upstream reset the call, or whoever feeds the request's body did.
    pub async fn call(&self, request: Request<Body>) -> Result<Response<Body>, Reset> {
        match &self.0 {
            Kind::Remote(remote) => remote.call(request).await,
            Kind::InProcess(service) => service.call(request).await,
        }
    }

    /// The server, where it is not a service in this process.
    pub(crate) fn remote(&self) -> Option<&Arc<Remote>> {
        match &self.0 {
            Kind::Remote(remote) => Some(remote),
            Kind::InProcess(_) => None,
        }
    }

    /// Whether both are clones of one upstream.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Remote(one), Kind::Remote(other)) => Arc::ptr_eq(one, other),
            (Kind::InProcess(one), Kind::InProcess(other)) => one.is(other),
            _ => false,
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Remote(remote) => remote.pool.target().fmt(f),
            Kind::InProcess(_) => f.write_str("in-process service"),
        }
    }
}

impl Remote {
    fn new(target: Target, tls: Option<TlsSettings>, authority: Authority, peer: Peer) -> Self {
        Self {
            scheme: target.scheme(),
            authority,
            pool: Pool::new(target, tls, peer.windows()),
            peer: Arc::new(peer),
        }
    }

    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, Reset> {
        let slot = match self.pool.place().await {
            Ok(slot) => slot,
            Err(none) => {
                let failure = self.peer.no_place(&none);
                debug!(upstream = %self.peer, %failure, "no connection for a call");
                return Ok(failure.into_response(Body::empty()));
            }
        };
        self.call_in(slot, request).await
    }

    async fn call_in(&self, slot: Slot, mut request: Request<Body>) -> Result<Response<Body>, Reset> {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = self.uri(path);
        *request.version_mut() = Version::HTTP_2;
        call::call(slot, &self.peer, request).await
    }

    /// The upstream's own authority stands where the client's was. The client's is the hub's name, or that of an agent
    /// at the hub: it means nothing beside the upstream, and a server or proxy that looks at it (nginx, Envoy, a cloud's
    /// front end) would refuse it or answer for another host. gRPC services themselves don't look at it.
    fn uri(&self, path: Option<PathAndQuery>) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        Uri::from_parts(parts).unwrap_or_default()
    }
}
