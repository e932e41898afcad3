//! The bytes below a link over TCP, whatever carries them.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

/// A carrier's bytes.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {
    /// From now on, whatever closes the connection below is a reset (RFC 9293 §3.10.4, ABORT): it leaves at once, where an end in order
    /// waits until the peer has acknowledged what was sent before.
    fn abort(&self);
}

impl Wire for TcpStream {
    fn abort(&self) {
        // It fails for sockets that are none any more.
        let _ = self.set_zero_linger();
    }
}

impl Wire for Box<dyn Wire> {
    fn abort(&self) {
        (**self).abort();
    }
}

impl<W: Wire> Wire for client::TlsStream<W> {
    fn abort(&self) {
        self.get_ref().0.abort();
    }
}

impl<W: Wire> Wire for server::TlsStream<W> {
    fn abort(&self) {
        self.get_ref().0.abort();
    }
}

/// One that has been let go.
impl Wire for tokio::io::Empty {
    fn abort(&self) {}
}

/// Within this process there is nobody to wait for.
impl Wire for tokio::io::DuplexStream {
    fn abort(&self) {}
}
