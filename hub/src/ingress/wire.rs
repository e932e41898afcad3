//! How a client's connection is read: in turns with others, with a bound on what carries no call, and without what h2 would
//! take amiss.

mod frames;
mod late;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::bucket::Bucket;
use frames::Frames;
use late::Late;

/// Bytes that are taken off a connection before it is the others' turn: as much as a good client sends in a round
/// trip or two. A client that sends more than can be dealt with always has more.
const TURN: usize = 16 << 10;

/// What a frame counts in a turn at the least, in bytes. The smallest ones may be the most work: a call, or its end.
const FRAME: usize = 128;

/// Bytes that are read at once beyond the frame that has begun: not many of the smallest.
const AHEAD: usize = 4 << 10;

/// Frames that carry no call (SETTINGS, PING, PRIORITY and unknown ones) that a connection may send at once,
const CALLLESS_FRAMES: u32 = 100_000;

/// and each second. A library that measures the bandwidth of a connection by PINGs sends one in a round trip, which may be
/// no longer than 50 µs.
const CALLLESS_FRAMES_PER_SECOND: u32 = 20_000;

/// The client sends little but frames that carry no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it sends more than {CALLLESS_FRAMES_PER_SECOND} frames a second that carry no call")]
pub(super) struct Callless;

/// A connection that begins with the preface of HTTP/2.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    turn: Turn,
    frames: Frames,
    callless: Bucket,
    late: Option<Late>,
}

/// A connection's turn: what has been taken of it, in bytes, each frame being [`FRAME`] at the least.
///
/// HTTP/2 reads until there is nothing more, and then again for every call that it has found: what it is told in the
/// middle of that is no end. So a turn ends where the connection's task does, which begins the next one.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn(Arc<AtomicUsize>);

impl Turn {
    /// The connection's task has its turn.
    pub(super) fn begin(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= TURN
    }
}

impl<S> Wire<S> {
    /// `stream` is at its preface.
    pub(super) fn of(stream: S, turn: Turn) -> Self {
        Self {
            stream,
            turn,
            frames: Frames::behind_preface(),
            callless: Bucket::new(CALLLESS_FRAMES, CALLLESS_FRAMES_PER_SECOND),
            late: None,
        }
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Reads, if it is this connection's turn.
    fn poll_turn(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.turn.is_over() {
            // The end of the queue, behind everybody who is ready now.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = buffer.remaining().min(self.frames.unended() + AHEAD);
        let mut piece = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
        let count = piece.filled().len();
        buffer.advance(count);
        self.turn.take(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(mut late) = this.late.take() else {
            let before = buffer.filled().len();
            ready!(this.poll_turn(cx, buffer))?;
            let read = &buffer.filled()[before..];
            let answered = this.frames.follow(read);
            let counts = this.frames.counts();
            this.turn.take(counts.frames * FRAME);
            if !this.callless.take_many(counts.callless) {
                buffer.set_filled(before);
                return Poll::Ready(Err(io::Error::other(Callless)));
            }
            if let Some(end) = answered {
                this.late = Some(Late::behind(this.frames.highest(), &read[end..]));
                buffer.set_filled(before + end);
            }
            return Poll::Ready(Ok(()));
        };
        let read = late.poll_read(buffer, |chunk| this.poll_turn(cx, chunk));
        this.late = Some(late);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
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
