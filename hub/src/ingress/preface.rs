//! The first bytes of a connection: HTTP/2 or not, and how to say no so that it arrives.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

/// What every HTTP/2 connection of a client begins with (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes that are still read of a client that has been told no,
const LINGER: u64 = 64 << 10;

/// and how long.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// What an HTTP/1.1 client is told.
const NOT_HTTP2: &[u8] =
    b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\nconnection: close\r\n\
    content-length: 57\r\n\r\nThis is a gRPC port: it speaks HTTP/2 without upgrading.\n";

/// The empty SETTINGS frame that a server begins with (RFC 9113 §6.5).
const SETTINGS: &[u8; 9] = b"\0\0\0\x04\0\0\0\0\0";

/// Type and stream of a GOAWAY frame, and no stream as the last (RFC 9113 §6.8),
const GOAWAY: &[u8; 10] = b"\x07\0\0\0\0\0\0\0\0\0";

/// its code,
const ENHANCE_YOUR_CALM: u32 = 0xb;

/// and the longest text in it.
const MAX_REASON: usize = 255;

/// A connection whose preface has been read, and is there to be read again.
#[derive(Debug)]
pub(crate) struct Prefaced<S> {
    preface: &'static [u8],
    stream: S,
}

/// Reads what a connection begins with. `None` where it is not HTTP/2; what is HTTP/1.1 is answered.
pub(crate) async fn expect<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
) -> io::Result<Option<Prefaced<S>>> {
    let mut start = [0; PREFACE.len()];
    let mut read = 0;
    while read < PREFACE.len() {
        let count = stream.read(&mut start[read..]).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read += count;
        if start[..read] != PREFACE[..read] {
            if start[0].is_ascii_uppercase() {
                stream.write_all(NOT_HTTP2).await?;
                linger(&mut stream).await;
            }
            return Ok(None);
        }
    }
    Ok(Some(Prefaced {
        preface: PREFACE,
        stream,
    }))
}

/// Tells an HTTP/2 client, before anything of its own is looked at, that it asks too much: `reason` is for people.
pub(super) async fn calm_down<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    reason: &str,
) -> io::Result<()> {
    let reason = &reason.as_bytes()[..reason.len().min(MAX_REASON)];
    let mut frames = SETTINGS.to_vec();
    // The stream and the code are 8 bytes before the text; a length has 24 bits.
    let length = u32::try_from(8 + reason.len()).unwrap_or(8);
    frames.extend_from_slice(&length.to_be_bytes()[1..]);
    frames.extend_from_slice(GOAWAY);
    frames.extend_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
    frames.extend_from_slice(reason);
    stream.write_all(&frames).await?;
    linger(stream).await;
    Ok(())
}

/// Closes the own half, and the connection only when the client has closed its own, or has sent enough: the system
/// resets a connection that is closed with unread bytes, and the last answer would be lost with it.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let rest = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER), &mut tokio::io::sink()).await
    };
    // Whether it went well is no matter any more.
    let _ = tokio::time::timeout(LINGER_TIME, rest).await;
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefaced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.preface.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let (now, later) = self.preface.split_at(self.preface.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.preface = later;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefaced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[tokio::test]
    async fn a_preface_in_pieces_is_read_twice() {
        let (mut client, hub) = tokio::io::duplex(1024);
        let said = tokio::spawn(async move {
            for byte in PREFACE {
                client.write_all(&[*byte]).await.unwrap();
            }
            client.write_all(b"and more").await.unwrap();
        });
        let mut hub = expect(hub).await.unwrap().unwrap();
        said.await.unwrap();
        let mut read = Vec::new();
        // In pieces that end within the preface and past it.
        for size in [1, 20, 5, 6] {
            let mut piece = vec![0; size];
            hub.read_exact(&mut piece).await.unwrap();
            read.extend(piece);
        }
        assert_eq!(read, [PREFACE, &b"and more"[..]].concat());
    }

    #[tokio::test]
    async fn calming_down_is_a_goaway_that_h2_reads() {
        let (client, mut hub) = tokio::io::duplex(1024);
        let hub = tokio::spawn(async move { calm_down(&mut hub, "1024 connections").await });
        let (mut sender, connection) = h2::client::handshake(client).await.unwrap();
        let (response, _) = sender.send_request(http::Request::new(()), true).unwrap();
        let (response, _) = tokio::join!(response, connection);
        let error = response.unwrap_err();
        assert!(error.is_go_away() && error.is_remote(), "{error:?}");
        assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
        assert!(format!("{error:?}").contains("1024 connections"), "{error:?}");
        hub.await.unwrap().unwrap();
    }
}
