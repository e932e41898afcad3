//! Sockets of raw TCP connections: what is not brought to its end in order is a reset to the peer.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// How long a connection is silent before TCP asks whether the peer's machine is still there, how often it then asks again, and
/// after how many questions without an answer the connection has broken.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// Bytes that one read of [`Reader`] asks for at first,
const LEAST: usize = 4 << 10;

/// and at the most: twice as many as before where a read has brought all that it asked for.
const MOST: usize = 64 << 10;

/// A TCP connection that is reset when its last clone is dropped, unless it was [ended in order](Self::end) before: a peer never
/// takes what came so far for all there is. One clone may be read while another one is written.
#[derive(Clone, Debug)]
pub struct RawSocket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stream: TcpStream,
    /// Nothing more is written.
    shut_down: AtomicBool,
}

impl RawSocket {
    /// Takes over a connection: without Nagle's algorithm, and with TCP's own keep-alive.
    ///
    /// # Errors
    ///
    /// What the system says, as of a connection that has ended already.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES);
        socket.set_tcp_keepalive(&keepalive)?;
        // What closes it is a reset: RFC 9293 §3.10.4, ABORT.
        socket.set_linger(Some(Duration::ZERO))?;
        let shut_down = AtomicBool::new(false);
        Ok(Self(Arc::new(Inner { stream, shut_down })))
    }

    /// The connection has served its purpose, or never did: it is closed in order from now on, and what was written still
    /// arrives.
    pub fn end(&self) {
        // It fails for sockets that are none any more.
        let _ = SockRef::from(&self.0.stream).set_linger(None);
    }

    /// The other end's address.
    ///
    /// # Errors
    ///
    /// The connection is no more.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.stream.peer_addr()
    }

    /// Waits until the connection breaks, which it does where the peer resets it or answers no more. Reads and writes learn of
    /// it, too; this is for the time in which there are none.
    pub async fn broken(&self) {
        loop {
            match self.0.stream.ready(Interest::ERROR).await {
                // The error itself is for who reads.
                Ok(ready) if ready.is_error() => return,
                Ok(_) => tokio::task::yield_now().await,
                Err(_) => return,
            }
        }
    }

    /// Whether the end of what the peer has sent is one that it said. An error is told once, to whoever asks first: when a
    /// write was told of a reset, a read finds no more than an end.
    fn ended(&self) -> io::Result<()> {
        // After this end has shut down, nobody writes, and a connection that is no more was closed by both.
        match self.0.shut_down.load(Ordering::Acquire) {
            true => Ok(()),
            false => self.0.stream.peer_addr().map(drop).map_err(|_| reset()),
        }
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl AsyncRead for RawSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = &self.0.stream;
        loop {
            ready!(stream.poll_read_ready(cx))?;
            match stream.try_read_buf(buf) {
                Ok(0) if buf.remaining() > 0 => return Poll::Ready(self.ended()),
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for RawSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = &self.0.stream;
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = &self.0.stream;
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// TLS counts on it: what it has to say last, it writes at once or not at all.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more is written. What comes can still be read.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = SockRef::from(&self.0.stream).shutdown(std::net::Shutdown::Write);
        if result.is_ok() {
            self.0.shut_down.store(true, Ordering::Release);
        }
        Poll::Ready(result)
    }
}

/// Reads pieces: small ones of a connection that is quiet, so that many of those cost little, and large ones of a busy one.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    buffer: BytesMut,
    size: usize,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads `from`.
    pub fn new(from: R) -> Self {
        Self {
            from,
            buffer: BytesMut::new(),
            size: LEAST,
        }
    }

    /// The next piece, of 64 KiB at the most; an empty one at the end.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn piece(&mut self) -> io::Result<Bytes> {
        // Room that is left from before is used first, so that small pieces share one allocation.
        if self.buffer.capacity() < LEAST.min(self.size) / 2 {
            self.buffer.reserve(self.size);
        }
        let room = self.buffer.capacity().min(MOST);
        let length = {
            let mut limited = bytes::BufMut::limit(&mut self.buffer, room);
            self.from.read_buf(&mut limited).await?
        };
        if length == room {
            self.size = (self.size * 2).min(MOST);
        } else if length < self.size / 4 {
            self.size = (self.size / 2).max(LEAST);
        }
        let piece = self.buffer.split().freeze();
        Ok(piece)
    }
}

#[cfg(test)]
mod tests;
