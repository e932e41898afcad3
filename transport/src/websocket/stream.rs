//! A WebSocket as a stream of bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::wire::Wire;

/// What is put into one message at the most. Where messages begin and end means nothing.
const MESSAGE: usize = 64 << 10;

/// The longest message of a peer.
const MAX_MESSAGE: usize = 1 << 20;

/// What waits to be written, beside one message.
const WRITE_BUFFER: usize = 128 << 10;

/// What WebSockets here allow.
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .read_buffer_size(MESSAGE)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER + 2 * MAX_MESSAGE)
}

/// The bytes in a WebSocket's binary messages.
pub(super) struct Messages {
    socket: WebSocketStream<Box<dyn Wire>>,
    /// Of a message that has come, what has not been read.
    unread: Bytes,
}

impl Messages {
    pub(super) fn new(socket: WebSocketStream<Box<dyn Wire>>) -> Self {
        Self {
            socket,
            unread: Bytes::new(),
        }
    }

    /// The next message that has bytes: empty at the end.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        loop {
            let message = match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Poll::Ready(ended(error).map(|()| Bytes::new())),
                None => return Poll::Ready(Ok(Bytes::new())),
            };
            match message {
                Message::Binary(bytes) if !bytes.is_empty() => return Poll::Ready(Ok(bytes)),
                Message::Text(_) => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a text message came on the WebSocket, and links are carried in binary ones: something other than a hub or an agent of adit is at the other end",
                    )));
                }
                Message::Close(_) => return Poll::Ready(Ok(Bytes::new())),
                // Pings are answered by the library.
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    fn poll_put(&mut self, cx: &mut Context<'_>, message: impl FnOnce() -> Bytes) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(io_error)?;
        let message = message();
        let length = message.len();
        Pin::new(&mut self.socket)
            .start_send(Message::Binary(message))
            .map_err(io_error)?;
        Poll::Ready(Ok(length))
    }
}

impl Wire for Messages {
    fn abort(&self) {
        self.socket.get_ref().abort();
    }
}

impl AsyncRead for Messages {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            self.unread = ready!(self.poll_message(cx))?;
        }
        let taken = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..taken]);
        self.unread.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Messages {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_put(cx, || Bytes::copy_from_slice(&buf[..buf.len().min(MESSAGE)]))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_put(cx, || {
            let length: usize = bufs.iter().map(|buf| buf.len()).sum();
            let mut message = BytesMut::with_capacity(length.min(MESSAGE));
            for buf in bufs {
                let room = MESSAGE - message.len();
                message.extend_from_slice(&buf[..buf.len().min(room)]);
            }
            message.freeze()
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.socket).poll_close(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(ended(error)),
        }
    }
}

/// A WebSocket that has been closed is at its end, and no failure.
fn ended(error: Error) -> io::Result<()> {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => Ok(()),
        error => Err(io_error(error)),
    }
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        Error::Capacity(error) => io::Error::new(io::ErrorKind::InvalidData, error),
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}
