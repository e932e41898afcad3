//! One new connection to an upstream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::poll_fn;
use h2::client::SendRequest;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, debug};

use super::address::{HostPort, Target};
use super::connection::Connection;
use super::tls::{ALPN_H2, TlsSettings};

/// How long one attempt may take, from the look-up of the name to the upstream's SETTINGS. An upstream is near its
/// agent, and a caller waits meanwhile.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection is silent before TCP asks whether the upstream's machine is still there, and asks again. A
/// machine that has lost its power says no goodbye. gRPC servers end a connection that is pinged while it is idle; TCP's
/// own probe is none of their business.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Bytes of one request that wait in a connection for the upstream to take them, plus at most one chunk. More is not
/// faster beside an upstream, and is held for each call that an upstream doesn't read.
const SEND_BUFFER: usize = 256 << 10;

/// The header section that is advertised to upstreams. It lies above [`MAX_HEADERS`](super::call::MAX_HEADERS), which
/// is enforced on each call, because a section four times as long as the advertised one ends the connection, and every
/// call on it, in h2.
const ADVERTISED_HEADERS: u32 = 1 << 20;

/// No connection to an upstream came about. Nothing of a call was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Nobody listens there, or the name is unknown.
    #[error("{0}")]
    Socket(#[source] io::Error),
    /// The TLS handshake failed.
    #[error(
        "the TLS handshake failed: {0}; if it is the certificate, set --upstream-ca or --upstream-name, and if the upstream demands one, --upstream-cert and --upstream-key"
    )]
    Tls(#[source] io::Error),
    /// TLS is fine, and HTTP/2 is not spoken in it.
    #[error("it does not offer HTTP/2 (ALPN \"h2\") on this port, which gRPC needs")]
    NoHttp2,
    /// The certificate could not be checked against any name.
    #[error("its host is no name that TLS can verify; set --upstream-name")]
    Name,
    /// It ended the connection instead of answering. With TLS 1.3 this is how a server refuses a certificate.
    #[error(
        "it ended the connection before it spoke HTTP/2 ({0}); check the port and look at the upstream's log: it may demand a certificate (--upstream-cert, --upstream-key), or TLS (https://)"
    )]
    Ended(String),
    /// What answers is no HTTP/2 server.
    #[error(
        "it does not answer as an HTTP/2 server ({0}); check the port, and whether http:// or https:// is right"
    )]
    NotHttp2(String),
    /// It took too long.
    #[error("it did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
}

/// Connects to `target` with these windows of a stream and of a connection, and waits until it is known how many calls the connection takes. `freed` is told whenever it
/// takes more, or has ended, and `closing` when it takes no more calls: it has ended, or the upstream has sent GOAWAY.
pub(super) async fn connect(
    target: &Target,
    tls: Option<&TlsSettings>,
    windows: (u32, u32),
    freed: &Arc<Notify>,
    closing: Option<&CancellationToken>,
) -> Result<Connection, ConnectError> {
    let attempt = async {
        match target {
            Target::Http(host_port) => {
                establish(tcp(host_port).await?, target, windows, freed, closing).await
            }
            Target::Https(host_port) => {
                let tls = tls.ok_or(ConnectError::Name)?;
                let name = match &tls.name {
                    Some(name) => name.clone(),
                    None => {
                        ServerName::try_from(host_port.host().to_owned()).map_err(|_| ConnectError::Name)?
                    }
                };
                let connector = TlsConnector::from(Arc::clone(&tls.config));
                let stream = connector
                    .connect(name, tcp(host_port).await?)
                    .await
                    .map_err(ConnectError::Tls)?;
                if stream.get_ref().1.alpn_protocol() != Some(ALPN_H2) {
                    return Err(ConnectError::NoHttp2);
                }
                establish(stream, target, windows, freed, closing).await
            }
            Target::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(ConnectError::Socket)?;
                establish(stream, target, windows, freed, closing).await
            }
        }
    };
    tokio::time::timeout(CONNECT_TIMEOUT, attempt)
        .await
        .unwrap_or(Err(ConnectError::TimedOut))
}

async fn tcp(host_port: &HostPort) -> Result<TcpStream, ConnectError> {
    let stream = TcpStream::connect((host_port.host(), host_port.port()))
        .await
        .map_err(ConnectError::Socket)?;
    // A call is small writes in both directions: each would wait for the acknowledgement of the one before it.
    stream.set_nodelay(true).map_err(ConnectError::Socket)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(&stream)
        .set_tcp_keepalive(&keepalive)
        .map_err(ConnectError::Socket)?;
    Ok(stream)
}

/// Speaks HTTP/2 on `io` until the upstream's SETTINGS are in, as gRPC clients do before they call a connection ready:
/// whatever is no HTTP/2 server is found out before a call is sent, and no call is sent above the upstream's limit.
async fn establish<T>(
    io: T,
    target: &Target,
    (stream_window, connection_window): (u32, u32),
    freed: &Arc<Notify>,
    closing: Option<&CancellationToken>,
) -> Result<Connection, ConnectError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: h2::Error| match error.get_io() {
        Some(error) => ConnectError::Ended(error.to_string()),
        None => ConnectError::NotHttp2(error.to_string()),
    };
    let (sender, mut connection): (SendRequest<Bytes>, _) = h2::client::Builder::new()
        .initial_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(ADVERTISED_HEADERS)
        .enable_push(false)
        // No call before the SETTINGS have come: they raise it.
        .initial_max_send_streams(0)
        // It counts for the life of a connection, and cancelling calls adds to it when the upstream's frames cross the
        // reset. It guards servers; here it would only end a good connection now and then.
        .max_local_error_reset_streams(None)
        .handshake(io)
        .await
        .map_err(failed)?;
    poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(ConnectError::Ended("closed".to_owned()))),
        Poll::Ready(Err(error)) => Poll::Ready(Err(failed(error))),
        Poll::Pending if connection.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;

    let limit = Arc::new(AtomicUsize::new(connection.max_concurrent_send_streams()));
    let closing = closing.map(|closing| Closing {
        sender: sender.clone(),
        told: closing.clone(),
    });
    let driver = drive(connection, Arc::clone(&limit), Arc::clone(freed), closing);
    let span = tracing::debug_span!("upstream", %target);
    let driver = AbortOnDropHandle::new(tokio::spawn(driver.instrument(span)));
    debug!(%target, streams = limit.load(Ordering::Relaxed), "connected to the upstream");
    Ok(Connection::new(sender, limit, Arc::clone(freed), driver))
}

/// Tells that a connection takes no more calls. h2 says so only to who asks, so it is asked whenever something came.
struct Closing {
    sender: SendRequest<Bytes>,
    told: CancellationToken,
}

impl Closing {
    fn look(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        if matches!(self.sender.poll_ready(&mut context), Poll::Ready(Err(_))) {
            self.told.cancel();
        }
    }
}

/// Moves the connection's bytes until it ends, and keeps `limit` up to date.
async fn drive<T>(
    mut connection: h2::client::Connection<T, Bytes>,
    limit: Arc<AtomicUsize>,
    freed: Arc<Notify>,
    mut closing: Option<Closing>,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let end = poll_fn(|cx| {
        let end = Pin::new(&mut connection).poll(cx);
        let now = connection.max_concurrent_send_streams();
        if limit.swap(now, Ordering::Relaxed) < now {
            freed.notify_waiters();
        }
        if let Some(closing) = &mut closing {
            closing.look();
        }
        end
    })
    .await;
    if let Some(closing) = closing {
        closing.told.cancel();
    }
    limit.store(0, Ordering::Relaxed);
    freed.notify_waiters();
    match end {
        Ok(()) => debug!("the upstream's connection ended"),
        Err(error) => debug!(%error, "the upstream's connection failed"),
    }
}
