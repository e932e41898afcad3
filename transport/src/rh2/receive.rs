//! Receiving a body from a stream of HTTP/2.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio_util::task::AbortOnDropHandle;

use super::driver::Shared;
use super::hub::Place;
use super::readers::Reader;
use super::{code_of, section_size};
use crate::body::BodyError;
use crate::link::LinkError;

/// What follows a message's head on its stream.
pub(super) struct ReceivedBody {
    reader: Reader,
    shared: Arc<Shared>,
    state: State,
    /// Of a response: the rest of the request, which is given up when the response is.
    sending: Option<AbortOnDropHandle<()>>,
    /// Of a response: its call's place on the link.
    place: Option<Place>,
}

enum State {
    Data,
    Trailers,
    Ended,
    /// The link was lost, and the reason is still to come.
    Lost(Pin<Box<dyn Future<Output = LinkError> + Send>>),
}

impl ReceivedBody {
    pub(super) fn new(shared: &Arc<Shared>, recv: RecvStream) -> Self {
        Self {
            reader: shared.readers.enter(recv),
            shared: Arc::clone(shared),
            state: State::Data,
            sending: None,
            place: None,
        }
    }

    /// The body of a response, with which the rest of its request and its call's place end.
    pub(super) fn response(mut self, sending: Option<AbortOnDropHandle<()>>, place: Place) -> Self {
        if let Some(sending) = &sending {
            self.reader.gives_up(sending.abort_handle());
        }
        self.sending = sending;
        self.place = Some(place);
        self
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        self.reader.reads();
        let failed = {
            let mut guard = self.reader.recv();
            let Some(recv) = &mut *guard else {
                return Poll::Ready(Err(BodyError::SlowReader));
            };
            match ready!(poll_message(&mut self.state, recv, cx)) {
                Ok(frame) => {
                    drop(guard);
                    self.reader.stands_still();
                    return Poll::Ready(match frame.as_ref().and_then(Frame::trailers_ref) {
                        Some(trailers) => self.check(trailers).map(|()| frame),
                        None => Ok(frame),
                    });
                }
                Err(error) => error,
            }
        };
        match Failed::from_h2(&failed) {
            Failed::CleanEnd => Poll::Ready(Ok(None)),
            Failed::Call(error) => Poll::Ready(Err(error)),
            Failed::Link => {
                let shared = Arc::clone(&self.shared);
                let mut lost: Pin<Box<dyn Future<Output = _> + Send>> =
                    Box::pin(async move { shared.ended().await });
                let polled = lost.as_mut().poll(cx);
                self.state = State::Lost(lost);
                polled.map(|reason| Err(BodyError::LinkLost(reason)))
            }
        }
    }

    fn check(&self, trailers: &HeaderMap) -> Result<(), BodyError> {
        let (size, limit) = (section_size(trailers), self.shared.max_header_section);
        match size > limit as usize {
            true => Err(BodyError::Malformed(format!(
                "trailers of {size} bytes, and {limit} are taken at the most"
            ))),
            false => Ok(()),
        }
    }

    fn end(&mut self) {
        self.state = State::Ended;
        self.place = None;
    }
}

fn poll_message(
    state: &mut State,
    recv: &mut RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Frame<Bytes>>, h2::Error>> {
    while matches!(state, State::Data) {
        match ready!(recv.poll_data(cx)) {
            // As a rule it only ends the stream.
            Some(Ok(data)) if data.is_empty() => {}
            Some(Ok(data)) => {
                // The reader asks for a frame when it has room for it, so this lets the peer send as much. It fails for a
                // stream that was reset meanwhile, which the next read says.
                let _ = recv.flow_control().release_capacity(data.len());
                return Poll::Ready(Ok(Some(Frame::data(data))));
            }
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => *state = State::Trailers,
        }
    }
    recv.poll_trailers(cx)
        .map_ok(|trailers| trailers.map(Frame::trailers))
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let next = match &mut this.state {
            State::Ended => return Poll::Ready(None),
            State::Lost(lost) => Err(BodyError::LinkLost(ready!(lost.as_mut().poll(cx)))),
            State::Data | State::Trailers => ready!(this.next(cx)),
        };
        match &next {
            Ok(Some(frame)) if frame.is_data() => {}
            Ok(_) => this.end(),
            Err(_) => {
                this.end();
                // Nobody reads the response any more, so nobody needs the rest of the request.
                this.sending = None;
            }
        }
        Poll::Ready(next.transpose())
    }

    fn is_end_stream(&self) -> bool {
        match self.state {
            State::Ended => true,
            State::Lost(_) => false,
            State::Data | State::Trailers => {
                self.reader.recv().as_ref().is_some_and(RecvStream::is_end_stream)
            }
        }
    }
}

/// What it means that nothing more can be received.
pub(super) enum Failed {
    /// The message had ended: HTTP/2 allows its sender to say in this way that it wants nothing more (RFC 9113 §8.1).
    CleanEnd,
    Call(BodyError),
    Link,
}

impl Failed {
    pub(super) fn from_h2(error: &h2::Error) -> Self {
        if !error.is_reset() {
            return Self::Link;
        }
        match error.reason().unwrap_or(Reason::INTERNAL_ERROR) {
            _ if error.is_library() => Self::Call(BodyError::Malformed(error.to_string())),
            Reason::NO_ERROR => Self::CleanEnd,
            reason => Self::Call(BodyError::Reset(code_of(reason))),
        }
    }
}
