//! Sending a body on a stream of HTTP/2.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;
use http_body::Body as _;

use super::h2_reset;
use crate::body::{Body, BodyError};

/// A stream that has sent this much is bulk.
const BULK: usize = 64 << 10;

/// A body on its way to the peer.
pub(super) struct Sending {
    body: Body,
    stream: SendStream<Bytes>,
    /// Waits for room in the peer's window.
    chunk: Option<Bytes>,
    last: bool,
    sent: usize,
}

/// What ends a message.
pub(super) enum Last {
    /// The last of its data, or none.
    Data(Bytes),
    Trailers(HeaderMap),
}

/// Why there is nothing more to send.
#[derive(Debug)]
pub(super) enum SendError {
    /// The peer wants no more of it, or the link was lost: what comes from the peer says which.
    Stopped,
    /// The body broke off; the stream was reset with its code.
    Body(BodyError),
}

impl Sending {
    pub(super) fn new(body: Body, stream: SendStream<Bytes>) -> Self {
        Self {
            last: body.is_end_stream(),
            body,
            stream,
            chunk: None,
            sent: 0,
        }
    }

    /// Whether so much is sent that some of it may be on its way for long after `last` was written.
    pub(super) fn is_bulk(&self, last: &Last) -> bool {
        let rest = match last {
            Last::Data(data) => data.len(),
            Last::Trailers(_) => 0,
        };
        self.sent + rest > BULK
    }

    pub(super) fn stream_id(&self) -> u32 {
        self.stream.stream_id().as_u32()
    }

    /// Sends the body as it comes, but for its end: ready with that one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Last, SendError>> {
        loop {
            // Also wakes the task when the peer resets the stream.
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(SendError::Stopped));
            }
            // One chunk waits at a time: this is where a peer that doesn't read holds the sender back.
            if self.chunk.as_ref().is_some_and(|chunk| !chunk.is_empty()) && self.stream.capacity() == 0 {
                match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => return Poll::Ready(Err(SendError::Stopped)),
                }
            }
            if self.last {
                return Poll::Ready(Ok(Last::Data(self.chunk.take().unwrap_or_default())));
            }
            if let Some(chunk) = self.chunk.take() {
                self.sent += chunk.len();
                if self.stream.send_data(chunk, false).is_err() {
                    return Poll::Ready(Err(SendError::Stopped));
                }
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.last = self.body.is_end_stream();
                        // An empty frame in the middle says nothing, and h2 counts how many there are.
                        if !data.is_empty() {
                            // Any room will do: h2 keeps what is beyond it, and gives no more room until that is gone.
                            self.stream.reserve_capacity(1);
                            self.chunk = Some(data);
                        }
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            return Poll::Ready(Ok(Last::Trailers(trailers)));
                        }
                    }
                },
                Some(Err(error)) => {
                    self.stream.send_reset(h2_reset(error.code()));
                    return Poll::Ready(Err(SendError::Body(error)));
                }
                None => self.last = true,
            }
        }
    }

    /// Sends what ends the message.
    pub(super) fn finish(&mut self, last: Last) {
        // An error says that the stream has ended already: reset, or lost with its link.
        let _ = match last {
            Last::Data(data) => self.stream.send_data(data, true),
            Last::Trailers(trailers) => self.stream.send_trailers(super::carried(trailers)),
        };
    }

    /// Ready when the peer wants no more of the stream.
    pub(super) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(drop)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // h2 resets a stream that is dropped before its end, as one that is no longer wanted.
        if std::thread::panicking() {
            self.stream.send_reset(h2::Reason::INTERNAL_ERROR);
        }
    }
}
