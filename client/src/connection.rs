//! One HTTP/2 connection to a server, and a channel for calls over it.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use http_body_util::BodyExt as _;
use hyper::client::conn::http2;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service;

use crate::target::Target;
use crate::tls::{Trust, TrustError};

/// What the server may send on one stream before it is read, in bytes.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// The same for all streams of the connection: reflection's and the call's.
const CONNECTION_WINDOW: u32 = 2 * STREAM_WINDOW;
/// The largest header section that is taken, in bytes.
const MAX_HEADER_SECTION: u32 = 128 * 1024;

const PRODUCT: HeaderValue = HeaderValue::from_static(concat!("adit/", env!("CARGO_PKG_VERSION")));

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing was ready in time.
    #[error(
        "no connection to {target} within {within:?}; is the address right, and does a firewall let it through? --connect-timeout gives it longer"
    )]
    Timeout {
        /// The server.
        target: Target,
        /// How long was waited.
        within: Duration,
    },
    /// The name cannot be resolved, or nobody accepts connections there.
    #[error("cannot connect to {target}: {reason}; is the server running there?")]
    Tcp {
        /// The server.
        target: Target,
        /// What the operating system says.
        reason: String,
    },
    /// The files that TLS needs are not there or not right.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The host is neither a DNS name nor an IP address, so no certificate can be for it.
    #[error("{host:?} is no name that a certificate could be for")]
    ServerName {
        /// The host in the URL.
        host: String,
    },
    /// The TLS handshake failed.
    #[error(
        "no TLS with {target}: {source}; --certs DIR names the folder with the CA of the server's certificate, --name NAME the certificate to present"
    )]
    Tls {
        /// The server.
        target: Target,
        /// What went wrong.
        source: io::Error,
    },
    /// TLS works, but the server does not speak HTTP/2.
    #[error("{target} does not offer HTTP/2, which gRPC needs (no ALPN \"h2\"); is it a gRPC server?")]
    NotHttp2 {
        /// The server.
        target: Target,
    },
    /// HTTP/2 failed at its first exchange.
    #[error("no HTTP/2 with {target}: {reason}")]
    Http2 {
        /// The server.
        target: Target,
        /// What went wrong.
        reason: String,
    },
}

/// A connection; dropped, it is closed, and every call on it ends.
#[derive(Debug)]
pub struct Connection {
    origin: http::Uri,
    requests: http2::SendRequest<Body>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Connects, with TLS where the target's scheme is `https`, in `within` altogether. `trust` is
    /// of no account for `http`.
    pub async fn open(target: &Target, trust: &Trust, within: Duration) -> Result<Self, ConnectError> {
        match tokio::time::timeout(within, Self::connect(target, trust)).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(ConnectError::Timeout {
                target: target.clone(),
                within,
            }),
        }
    }

    async fn connect(target: &Target, trust: &Trust) -> Result<Self, ConnectError> {
        if !target.is_tls() {
            return Self::handshake(target, TokioIo::new(connect_tcp(target).await?)).await;
        }
        let tls = trust.client_config()?;
        let name = ServerName::try_from(target.host().to_owned()).map_err(|_| ConnectError::ServerName {
            host: target.host().to_owned(),
        })?;
        let stream = tokio_rustls::TlsConnector::from(tls)
            .connect(name, connect_tcp(target).await?)
            .await
            .map_err(|source| ConnectError::Tls {
                target: target.clone(),
                source,
            })?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(ConnectError::NotHttp2 {
                target: target.clone(),
            });
        }
        Self::handshake(target, TokioIo::new(stream)).await
    }

    async fn handshake(
        target: &Target,
        io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    ) -> Result<Self, ConnectError> {
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADER_SECTION)
            .handshake(io)
            .await
            .map_err(|error| ConnectError::Http2 {
                target: target.clone(),
                reason: chain(&error),
            })?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                // The calls on it learn of it by themselves.
                tracing::debug!(error = %chain(&error), "the connection ended");
            }
        });
        Ok(Self {
            origin: target.origin().clone(),
            requests,
            driver,
        })
    }

    /// Scheme and authority of requests on this connection.
    pub fn origin(&self) -> &http::Uri {
        &self.origin
    }

    /// A channel for one or more calls on this connection.
    pub fn channel(&self) -> Channel {
        Channel(self.requests.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn connect_tcp(target: &Target) -> Result<TcpStream, ConnectError> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    match connector.call(target.origin().clone()).await {
        Ok(stream) => Ok(stream.into_inner()),
        Err(error) => Err(ConnectError::Tcp {
            target: target.clone(),
            reason: chain(&error),
        }),
    }
}

/// What tonic's client sends requests through. Errors are statuses already: what a lost connection
/// or a reset stream means is decided here.
#[derive(Clone, Debug)]
pub struct Channel(http2::SendRequest<Body>);

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.0.poll_ready(cx).map_err(|error| status_of(&error))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        request.headers_mut().entry(USER_AGENT).or_insert(PRODUCT);
        let response = self.0.send_request(request);
        Box::pin(async move {
            let response = response.await.map_err(|error| status_of(&error))?;
            Ok(response.map(|body| Body::new(body.map_err(|error| status_of(&error)))))
        })
    }
}

/// The status that stands for an HTTP/2 failure (gRPC over HTTP/2, "HTTP2 Transport Mapping", Errors).
fn status_of(error: &hyper::Error) -> Status {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(status) = current.downcast_ref::<Status>() {
            return status.clone();
        }
        if let Some(error) = current.downcast_ref::<h2::Error>()
            && error.is_reset()
            && let Some(reason) = error.reason()
        {
            return Status::new(
                code_of(reason),
                format!("the call was reset by the server's side: {reason}"),
            );
        }
        cause = current.source();
    }
    let mut problem = chain(error);
    // In TLS 1.3 a client learns after the handshake that its certificate was missed, and h2 keeps no
    // more of an error than its text.
    if problem.contains("CertificateRequired") {
        problem.push_str("; the server demands a client certificate: --certs DIR --name NAME present one");
    }
    Status::unavailable(format!("the connection was lost: {problem}"))
}

fn code_of(reason: h2::Reason) -> Code {
    match reason {
        h2::Reason::REFUSED_STREAM => Code::Unavailable,
        h2::Reason::CANCEL => Code::Cancelled,
        h2::Reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        h2::Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
        _ => Code::Internal,
    }
}

/// An error with its causes, those left out that repeat what was said.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        let addition = current.to_string();
        if !text.contains(&addition) {
            text = format!("{text}: {addition}");
        }
        cause = current.source();
    }
    text
}

#[cfg(test)]
mod tests;
