//! Serves a sample on a TCP or Unix address until it is told to stop.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// How long calls that are under way may go on once the server is told to stop.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Calls that one connection may have under way; hyper's default of 200 is low for an agent's upstream.
pub const MAX_STREAMS_PER_CONNECTION: u32 = 1024;
/// Largest header section that is taken, in bytes as HTTP/2 counts them (RFC 9113 §6.5.2).
pub const MAX_HEADER_LIST: u32 = 128 * 1024;

/// Where to listen: `127.0.0.1:50051`, `[::1]:0` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address; port 0 takes a free one.
    Tcp(SocketAddr),
    /// The path of a Unix socket that does not exist yet.
    Unix(PathBuf),
}

/// The text is no address.
#[derive(Debug, Error)]
#[error("`{0}` is neither IP:PORT nor unix:/PATH")]
pub struct ParseAddressError(String);

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some("") => Err(ParseAddressError(text.into())),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| ParseAddressError(text.into())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The address could not be taken.
#[derive(Debug, Error)]
#[error("cannot listen on {address}; free it or choose another")]
pub struct BindError {
    address: Address,
    source: io::Error,
}

/// The server failed while it ran.
#[derive(Debug, Error)]
#[error("serving on {address} failed")]
pub struct ServeError {
    address: Address,
    source: tonic::transport::Error,
}

/// A bound listener: the address is taken, connections wait.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Takes the address.
    ///
    /// # Errors
    /// The address is taken, not this machine's or not permitted.
    pub async fn bind(address: Address) -> Result<Self, BindError> {
        let bound = match &address {
            Address::Tcp(wanted) => bind_tcp(*wanted).await,
            Address::Unix(path) => {
                UnixListener::bind(path).map(|socket| (address.clone(), Socket::Unix(socket)))
            }
        };
        match bound {
            Ok((address, socket)) => Ok(Self { address, socket }),
            Err(source) => Err(BindError { address, source }),
        }
    }

    /// The address that was taken: the real port where port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Serves until `stop` resolves, and then for at most [`DRAIN_TIMEOUT`] the calls under way.
    /// A Unix socket's file is removed at the end.
    ///
    /// # Errors
    /// The listening socket broke.
    pub async fn serve(self, routes: Routes, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let address = self.address;
        let (drain, draining) = oneshot::channel::<()>();
        let draining = async {
            let _ = draining.await;
        };
        let server = Server::builder()
            .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
            .http2_max_header_list_size(MAX_HEADER_LIST)
            .add_routes(routes);
        let result = match self.socket {
            Socket::Tcp(listener) => {
                // Small frames must not wait for the acknowledgement of earlier ones.
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                let server = server.serve_with_incoming_shutdown(incoming, draining);
                drained(server, stop, drain).await
            }
            Socket::Unix(listener) => {
                let incoming = UnixListenerStream::new(listener);
                let server = server.serve_with_incoming_shutdown(incoming, draining);
                drained(server, stop, drain).await
            }
        };
        if let Address::Unix(path) = &address {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
        result.map_err(|source| ServeError { address, source })
    }
}

async fn bind_tcp(wanted: SocketAddr) -> io::Result<(Address, Socket)> {
    let socket = TcpListener::bind(wanted).await?;
    Ok((Address::Tcp(socket.local_addr()?), Socket::Tcp(socket)))
}

/// Runs the server until it fails, or has been told to stop and its calls are over or out of time.
async fn drained<E>(
    server: impl Future<Output = Result<(), E>>,
    stop: impl Future<Output = ()>,
    drain: oneshot::Sender<()>,
) -> Result<(), E> {
    let mut server = pin!(server);
    tokio::select! {
        result = &mut server => return result,
        () = stop => {}
    }
    let _ = drain.send(());
    tokio::time::timeout(DRAIN_TIMEOUT, server)
        .await
        .unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn addresses_read_as_they_are_written() {
        for text in ["127.0.0.1:50051", "[::1]:0", "unix:/run/route-guide.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "unix:", "localhost:1", "127.0.0.1", "127.0.0.1:70000"] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named() {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let error = Listener::bind(first.address().clone()).await.unwrap_err();
        assert!(error.to_string().contains(&first.address().to_string()));
    }
}
