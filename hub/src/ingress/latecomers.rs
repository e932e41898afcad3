//! What a client sends of calls that the hub's last GOAWAY rules out.
//!
//! A hub that drains sends GOAWAY in two steps, and a PING between them: what the client sends behind its answer to that is
//! not looked at (RFC 9113 §6.8), and the client may make those calls elsewhere. h2 up to 0.4.20 ignores all of it but
//! a WINDOW_UPDATE, which it takes for one of a stream that was never opened, and so for an error that ends the connection
//! with every call that still runs. gRPC's C core (C++, Python, Ruby and others) answers a PING before it sends the calls that
//! it had begun by then, and a WINDOW_UPDATE with each. These are taken out of what h2 reads.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::preface::PREFACE;

/// Kinds of frames (RFC 9113 §6).
const HEADERS: u8 = 1;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

/// The flag of a PING that answers one.
const ACK: u8 = 1;

/// Length, kind, flags and stream: what a frame begins with (RFC 9113 §4.1).
const HEAD: usize = 9;

/// What follows the head of a PING, and of a WINDOW_UPDATE.
const PING_PAYLOAD: usize = 8;
const CREDIT: usize = 4;

/// What is in the PING between h2's two GOAWAYs.
const LAST_CALLS: [u8; PING_PAYLOAD] = [0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];

/// Bytes that are read at a time once the last GOAWAY is due.
const CHUNK: usize = 16 << 10;

/// A connection that begins with the preface of HTTP/2. Reading it gives what the client has sent, without what it has sent
/// in vain.
#[derive(Debug)]
pub(super) struct Latecomers<S> {
    stream: S,
    frames: Frames,
    late: Option<Late>,
}

/// Follows frames, and notes what matters of them.
#[derive(Debug)]
struct Frames {
    /// Bytes that belong to the frame before.
    skip: usize,
    /// A head, or a whole PING, as far as it has come.
    begun: [u8; HEAD + PING_PAYLOAD],
    have: usize,
    /// The highest stream that has been opened.
    highest: u32,
}

/// What comes behind the answer to the hub's PING.
#[derive(Debug)]
struct Late {
    /// The last stream that is looked at.
    last: u32,
    /// Bytes that are passed on whatever they are.
    pass: usize,
    /// Not looked at yet: less than a head and what decides.
    begun: BytesMut,
    /// To be read.
    sifted: BytesMut,
    chunk: Vec<u8>,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&[a, b, c, kind, flags, d, e, f, g], _) = bytes.split_first_chunk::<HEAD>()?;
        Some(Self {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            // The first bit means nothing.
            stream: u32::from_be_bytes([d, e, f, g]) & (u32::MAX >> 1),
        })
    }

    fn is_ping(self) -> bool {
        self.kind == PING && self.length == PING_PAYLOAD
    }
}

impl Frames {
    fn behind_preface() -> Self {
        Self {
            skip: PREFACE.len(),
            begun: [0; HEAD + PING_PAYLOAD],
            have: 0,
            highest: 0,
        }
    }

    /// Follows what has come: where the client's answer to the hub's PING ends, once that is in it.
    fn follow(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len() - at);
                self.skip -= skipped;
                at += skipped;
                continue;
            }
            let head = Head::parse(&self.begun[..self.have]);
            let whole = if head.is_some() { HEAD + PING_PAYLOAD } else { HEAD };
            let taken = (whole - self.have).min(bytes.len() - at);
            self.begun[self.have..self.have + taken].copy_from_slice(&bytes[at..at + taken]);
            self.have += taken;
            at += taken;
            if self.have < whole {
                continue;
            }
            match head.or_else(|| Head::parse(&self.begun[..HEAD])) {
                Some(head) if head.is_ping() && whole == HEAD => {}
                Some(head) if head.is_ping() => {
                    self.have = 0;
                    if head.flags & ACK != 0 && self.begun[HEAD..] == LAST_CALLS {
                        return Some(at);
                    }
                }
                Some(head) => {
                    self.have = 0;
                    self.skip = head.length;
                    if head.kind == HEADERS {
                        self.highest = self.highest.max(head.stream);
                    }
                }
                None => {}
            }
        }
        None
    }
}

impl Late {
    fn behind(last: u32) -> Self {
        Self {
            last,
            pass: 0,
            begun: BytesMut::new(),
            sifted: BytesMut::new(),
            chunk: vec![0; CHUNK],
        }
    }

    /// Takes out of what has come what is about streams that are not looked at, and would do harm.
    fn sift(&mut self) {
        loop {
            let passed = self.pass.min(self.begun.len());
            self.sifted.unsplit(self.begun.split_to(passed));
            self.pass -= passed;
            let Some(head) = Head::parse(&self.begun) else {
                return;
            };
            // One with another length is an error, which is not to be hidden.
            if head.kind == WINDOW_UPDATE && head.length == CREDIT && head.stream > self.last {
                if self.begun.len() < HEAD + CREDIT {
                    return;
                }
                self.begun.advance(HEAD + CREDIT);
            } else {
                self.pass = HEAD + head.length;
            }
        }
    }
}

impl<S> Latecomers<S> {
    /// `stream` is at its preface.
    pub(super) fn of(stream: S) -> Self {
        Self {
            stream,
            frames: Frames::behind_preface(),
            late: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Latecomers<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, frames, late } = &mut *self;
        let Some(late) = late else {
            let before = buffer.filled().len();
            ready!(Pin::new(stream).poll_read(cx, buffer))?;
            let read = &buffer.filled()[before..];
            if let Some(end) = frames.follow(read) {
                let mut behind = Late::behind(frames.highest);
                behind.begun.extend_from_slice(&read[end..]);
                behind.sift();
                *late = Some(behind);
                buffer.set_filled(before + end);
            }
            return Poll::Ready(Ok(()));
        };
        while late.sifted.is_empty() {
            let mut chunk = ReadBuf::new(&mut late.chunk);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                // The end, and what had begun is nothing without the rest.
                return Poll::Ready(Ok(()));
            }
            late.begun.extend_from_slice(chunk.filled());
            late.sift();
        }
        let now = late.sifted.len().min(buffer.remaining());
        buffer.put_slice(&late.sifted[..now]);
        late.sifted.advance(now);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Latecomers<S> {
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
mod tests;
