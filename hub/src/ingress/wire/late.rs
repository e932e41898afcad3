//! What a client sends of calls that the hub's last GOAWAY rules out.
//!
//! A hub that drains sends GOAWAY in two steps, and a PING between them: what the client sends behind its answer to that is
//! not looked at (RFC 9113 §6.8), and the client may make those calls elsewhere. h2 up to 0.4.20 ignores all of it but
//! a WINDOW_UPDATE, which it takes for one of a stream that was never opened, and so for an error that ends the connection
//! with every call that still runs. gRPC's C core (C++, Python, Ruby and others) answers a PING before it sends the calls that
//! it had begun by then, and a WINDOW_UPDATE with each. These are taken out of what h2 reads.

use std::io;
use std::task::{Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::ReadBuf;

use super::frames::{HEAD, Head, WINDOW_UPDATE};

/// What follows the head of a WINDOW_UPDATE.
pub(super) const CREDIT: usize = 4;

/// Bytes that are read at a time.
const CHUNK: usize = 16 << 10;

/// What comes behind the answer to the hub's PING.
#[derive(Debug)]
pub(super) struct Late {
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

impl Late {
    /// `read` has been read behind the answer already.
    pub(super) fn behind(last: u32, read: &[u8]) -> Self {
        let mut late = Self {
            last,
            pass: 0,
            begun: BytesMut::from(read),
            sifted: BytesMut::new(),
            chunk: vec![0; CHUNK],
        };
        late.sift();
        late
    }

    /// Gives what is left of what `poll_more` reads.
    pub(super) fn poll_read(
        &mut self,
        buffer: &mut ReadBuf<'_>,
        mut poll_more: impl FnMut(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        while self.sifted.is_empty() {
            let mut chunk = ReadBuf::new(&mut self.chunk);
            ready!(poll_more(&mut chunk))?;
            if chunk.filled().is_empty() {
                // The end, and what had begun is nothing without the rest.
                return Poll::Ready(Ok(()));
            }
            self.begun.extend_from_slice(chunk.filled());
            self.sift();
        }
        let now = self.sifted.len().min(buffer.remaining());
        buffer.put_slice(&self.sifted[..now]);
        self.sifted.advance(now);
        Poll::Ready(Ok(()))
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
