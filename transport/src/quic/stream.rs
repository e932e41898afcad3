//! QUIC streams that end as HTTP/3 wants them to when they are dropped.
//!
//! quinn finishes a dropped `SendStream`, so that a call that was given up looks like one that ended well, and
//! stops a dropped `RecvStream` with code 0, which is no code of HTTP/3.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures_util::{FutureExt as _, poll};
use quinn::{ReadError, RecvStream, SendStream, StoppedError, WriteError, Written};

use super::right_of_way::RightOfWay;
use super::tail::Tail;
use super::varint;
use crate::rh3::code::Code;

/// How many received segments are taken from quinn at once. A segment is about a packet's worth.
const SEGMENTS: usize = 8;

/// A head that waits longer than this waits for its own stream's credit, and the others needn't.
const HEAD_FIRST: Duration = Duration::from_secs(5);

/// Who goes first of those that wait for the link's credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// What the link says about itself.
    Own,
    /// The beginning of a call's message.
    Head,
    /// What follows it.
    Body,
}

/// What the sending halves of a link share.
#[derive(Debug, Default)]
pub(super) struct Senders {
    pub(super) way: RightOfWay,
    pub(super) tail: Tail,
}

/// The sending half of a call. Dropped before [`finish`](Self::finish), it is reset.
#[derive(Debug)]
pub(super) struct SendHalf {
    stream: SendStream,
    senders: Arc<Senders>,
    /// It carries what the link says about itself.
    own: bool,
    finished: bool,
    bulk: bool,
}

/// The receiving half of a call. Dropped before its end, the peer is told to stop.
#[derive(Debug)]
pub(super) struct RecvHalf {
    stream: RecvStream,
    ended: bool,
    /// What a drop before the end tells the peer.
    stop_code: Code,
}

impl SendHalf {
    /// `senders` is the link's.
    pub(super) fn new(stream: SendStream, senders: &Arc<Senders>) -> Self {
        Self {
            stream,
            senders: Arc::clone(senders),
            own: false,
            finished: false,
            bulk: false,
        }
    }

    /// The stream's id: RFC 9000 §2.1.
    pub(super) fn id(&self) -> u64 {
        quinn::VarInt::from(self.stream.id()).into_inner()
    }

    /// Writes all of `chunks` without copying them; waits for the peer's and the path's credit.
    pub(super) async fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), WriteError> {
        let turn = if self.own { Turn::Own } else { Turn::Body };
        self.write_in(turn, chunks).await
    }

    /// The same for a head, which goes before the bodies of all calls: its peer doesn't wait for it for ever.
    pub(super) async fn write_head(&mut self, chunks: &mut [Bytes]) -> Result<(), WriteError> {
        let turn = if self.own { Turn::Own } else { Turn::Head };
        self.write_in(turn, chunks).await
    }

    async fn write_in(&mut self, turn: Turn, chunks: &mut [Bytes]) -> Result<(), WriteError> {
        let mut rest = chunks;
        while !rest.is_empty() {
            let written = self.write_some(turn, rest).await?;
            rest = &mut rest[written.chunks..];
        }
        if !self.own {
            self.senders.tail.written();
        }
        Ok(())
    }

    /// Writes what there is credit for now, and takes that off the front of `bytes`.
    pub(super) fn write_now(&mut self, bytes: &mut Bytes) -> Result<(), WriteError> {
        if let Some(written) = self.stream.write(bytes).now_or_never() {
            bytes.advance(written?);
        }
        Ok(())
    }

    /// Writes what there is credit for, once it is this stream's turn and there is some.
    async fn write_some(&mut self, turn: Turn, chunks: &mut [Bytes]) -> Result<Written, WriteError> {
        // As a rule there is credit.
        if (turn != Turn::Body || !self.senders.way.is_taken())
            && let Poll::Ready(written) = poll!(pin!(self.stream.write_chunks(chunks)))
        {
            return written;
        }
        let stopped = self.stream.stopped();
        let writing = async {
            if turn != Turn::Body {
                let _taken = self.senders.way.take();
                let write = self.stream.write_chunks(chunks);
                if turn == Turn::Own {
                    return write.await;
                }
                if let Ok(written) = tokio::time::timeout(HEAD_FIRST, write).await {
                    return written;
                }
            }
            loop {
                self.senders.way.clear().await;
                let written = poll_fn(|cx| {
                    if self.senders.way.is_taken() {
                        return Poll::Ready(None);
                    }
                    pin!(self.stream.write_chunks(chunks)).poll(cx).map(Some)
                });
                if let Some(written) = written.await {
                    return written;
                }
            }
        };
        tokio::select! {
            written = writing => written,
            // Where the link has no credit, quinn's write does not look whether the peer wants any more of this stream.
            stopped = stopped => Err(match stopped {
                Ok(Some(code)) => WriteError::Stopped(code),
                Ok(None) => WriteError::ClosedStream,
                Err(StoppedError::ConnectionLost(lost)) => WriteError::ConnectionLost(lost),
                Err(StoppedError::ZeroRttRejected) => WriteError::ZeroRttRejected,
            }),
        }
    }

    /// Ends the stream in order: everything written arrives.
    pub(super) fn finish(&mut self) {
        self.finished = true;
        // An error says that the stream has ended already: stopped, or lost with its link.
        let _ = self.stream.finish();
        self.senders.tail.written();
    }

    /// Gives the stream up: what has not arrived yet may never do so.
    pub(super) fn reset(&mut self, code: Code) {
        self.finished = true;
        let _ = self.stream.reset(varint(code));
    }

    /// Waits until the peer wants no more of this half, or the link is lost.
    pub(super) fn stopped(
        &self,
    ) -> impl Future<Output = Result<Option<quinn::VarInt>, StoppedError>> + Send + 'static {
        self.stream.stopped()
    }

    /// Goes before all calls from now on: this is what the link says about itself.
    pub(super) fn raise_priority(&mut self) {
        self.own = true;
        let _ = self.stream.set_priority(1);
    }

    /// Lets other streams go first from now on: this one is bulk.
    pub(super) fn lower_priority(&mut self) {
        self.bulk = true;
        if !self.own {
            let _ = self.stream.set_priority(-1);
        }
    }

    /// Whether so much was sent that some of it may be on its way for long after [`finish`](Self::finish).
    pub(super) fn is_bulk(&self) -> bool {
        self.bulk
    }

    /// Sends nothing before all other streams have sent what they may.
    pub(super) fn let_all_others_go_first(&self) {
        let _ = self.stream.set_priority(i32::MIN);
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if !self.finished {
            self.reset(if std::thread::panicking() {
                Code::INTERNAL_ERROR
            } else {
                Code::REQUEST_CANCELLED
            });
        }
    }
}

impl RecvHalf {
    /// `stop_code` is what the peer is told when this half is dropped before its end.
    pub(super) fn new(stream: RecvStream, stop_code: Code) -> Self {
        Self {
            stream,
            ended: false,
            stop_code,
        }
    }

    /// Takes what has arrived, in order: `None` at the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut impl Extend<Bytes>,
    ) -> Poll<Result<Option<()>, ReadError>> {
        let mut segments = [const { Bytes::new() }; SEGMENTS];
        let read = pin!(self.stream.read_chunks(&mut segments)).poll(cx);
        read.map_ok(|count| match count {
            Some(count) => {
                into.extend(segments.into_iter().take(count));
                Some(())
            }
            None => {
                self.ended = true;
                None
            }
        })
    }

    /// Tells the peer to stop. Nothing can be read afterwards.
    pub(super) fn stop(&mut self, code: Code) {
        self.ended = true;
        let _ = self.stream.stop(varint(code));
    }

    /// Changes what the peer is told when this half is dropped before its end.
    pub(super) fn set_stop_code(&mut self, code: Code) {
        self.stop_code = code;
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        if !self.ended {
            self.stop(self.stop_code);
        }
    }
}
