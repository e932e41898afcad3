//! Sending a message: head, body and trailers of a request or a response on one stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame};

use super::stream::SendHalf;
use crate::body::{Body, BodyError};
use crate::rh3::{frame, head};

/// What is gathered at the most before it is written: more saves little, and is memory of every call.
const GATHER: usize = 64 << 10;

/// A piece of a body up to this long is copied behind the head, so that a small call is one segment of one
/// packet; a longer one is passed on without a copy.
const COPY: usize = 4 << 10;

/// A stream that has sent this much is bulk: it lets others go first, so that it doesn't queue up before small calls.
const BULK: usize = 64 << 10;

/// Why a message was not sent to its end.
#[derive(Debug)]
pub(super) enum SendError {
    /// The peer wants no more of it.
    Stopped,
    /// The link was lost.
    LinkLost(quinn::ConnectionError),
    /// The body broke off; the stream was reset with its code.
    Body(BodyError),
}

/// Sends `head` (a HEADERS frame), then `body` as it comes, and finishes the stream.
///
/// Whatever of the body is ready leaves in the same write as what comes before it, so that head, body and end of
/// a small call share a packet. The body is polled again only when that write is done: at most
/// [`GATHER`] bytes and one frame of the body wait here.
pub(super) async fn send_message(
    send: &mut SendHalf,
    head: BytesMut,
    mut body: Body,
) -> Result<(), SendError> {
    let mut out = Outbox::new(head);
    let mut ended = body.is_end_stream();
    let mut sent = 0_usize;
    loop {
        let mut idle = false;
        while !ended && !idle && out.queued < GATHER {
            match poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await {
                Poll::Ready(Some(Ok(frame))) => ended = out.put(frame) || body.is_end_stream(),
                Poll::Ready(Some(Err(error))) => return Err(give_up(send, error)),
                Poll::Ready(None) => ended = true,
                Poll::Pending => idle = true,
            }
        }
        if out.queued > 0 {
            let mut segments = out.take();
            if sent == 0 {
                // A peer gives up a stream whose head does not come.
                let (head, rest) = segments.split_at_mut(1);
                send.write_head(head).await?;
                segments = rest;
            }
            send.write(segments).await?;
            sent += out.queued;
            out.clear();
        }
        if ended {
            send.finish();
            return Ok(());
        }
        if !send.is_bulk() && sent > BULK {
            send.lower_priority();
        }
        if idle {
            let next = {
                let mut stopped = std::pin::pin!(send.stopped());
                poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
                    Poll::Ready(frame) => Poll::Ready(Ok(frame)),
                    Poll::Pending => stopped.as_mut().poll(cx).map(Err),
                })
                .await
            };
            match next {
                Ok(Some(Ok(frame))) => ended = out.put(frame) || body.is_end_stream(),
                Ok(Some(Err(error))) => return Err(give_up(send, error)),
                Ok(None) => ended = true,
                Err(Err(quinn::StoppedError::ConnectionLost(lost))) => {
                    return Err(SendError::LinkLost(lost));
                }
                Err(_) => return Err(SendError::Stopped),
            }
        }
    }
}

fn give_up(send: &mut SendHalf, error: BodyError) -> SendError {
    send.reset(error.code());
    SendError::Body(error)
}

/// What the next write takes: segments in order, the last of them still growing.
struct Outbox {
    segments: Vec<Bytes>,
    growing: BytesMut,
    queued: usize,
}

impl Outbox {
    fn new(head: BytesMut) -> Self {
        Self {
            queued: head.len(),
            segments: Vec::new(),
            growing: head,
        }
    }

    /// Appends a frame of the body, and says whether it was the last one.
    fn put(&mut self, frame: Frame<Bytes>) -> bool {
        let before = self.growing.len();
        match frame.into_data() {
            Ok(data) if data.is_empty() => false,
            Ok(data) => {
                frame::put_data_header(&mut self.growing, data.len() as u64);
                self.queued += self.growing.len() - before;
                self.queued += data.len();
                if data.len() <= COPY {
                    self.growing.extend_from_slice(&data);
                } else {
                    self.segments.push(self.growing.split().freeze());
                    self.segments.push(data);
                }
                false
            }
            Err(frame) => {
                let Ok(trailers) = frame.into_trailers() else {
                    return false;
                };
                head::encode_trailers(&trailers, &mut self.growing);
                self.queued += self.growing.len() - before;
                true
            }
        }
    }

    fn take(&mut self) -> &mut [Bytes] {
        if !self.growing.is_empty() {
            self.segments.push(self.growing.split().freeze());
        }
        &mut self.segments
    }

    fn clear(&mut self) {
        self.segments.clear();
        self.queued = 0;
    }
}

impl From<quinn::WriteError> for SendError {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::ConnectionLost(lost) => Self::LinkLost(lost),
            // 0-RTT is never used, and a stream is closed only by its owner: the peer stopped it.
            quinn::WriteError::Stopped(_)
            | quinn::WriteError::ClosedStream
            | quinn::WriteError::ZeroRttRejected => Self::Stopped,
        }
    }
}
