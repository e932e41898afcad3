//! One call on an upstream's connection: the request's body one way, the response the other.
//!
//! It is written on `h2` and not on hyper, which drops what a proxy needs: a call that is given up while the
//! upstream does not read its request would never be reset (hyper looks for a cancelled response only until the head
//! has come, and looks at the request's body only while the upstream takes data), a reset with NO_ERROR would be a
//! clean end, and the upstream's limit of concurrent calls could be read too late.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_proto::failure::Failure;
use adit_transport::{Body, BodyError, Code, Reset};
use bytes::Bytes;
use futures_util::future::poll_fn;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, debug};

use super::connection::Slot;
use super::peer::Peer;

/// Bytes of a response's head, or of its trailers, that are passed on: each field's name and value and 32 more
/// (RFC 9113 §6.5.2). A longer section fails its call, and no other.
pub const MAX_HEADERS: usize = 128 << 10;

/// Makes the call in `slot`. `upstream` is who is called, for messages.
pub(super) async fn call(
    slot: Slot,
    upstream: &Arc<Peer>,
    request: Request<Body>,
) -> Result<Response<Body>, Reset> {
    let (head, body) = request.into_parts();
    // The head never ends the stream, even where nothing follows: gRPC wants an empty DATA frame then, and servers on
    // grpc-go before 1.84 wait for one forever.
    let (response, send) = slot
        .sender()
        .send_request(Request::from_parts(head, ()), false)
        .map_err(|error| unsent(&error))?;
    let mut upload = Some(Upload {
        body,
        send,
        chunk: None,
    });
    let mut response = std::pin::pin!(response);
    let response = poll_fn(|cx| {
        if let Some(running) = &mut upload
            && let Poll::Ready(end) = running.poll(cx)
        {
            upload = None;
            if let Err(GivenUp(code)) = end {
                return Poll::Ready(Err(Failed::Reset(code)));
            }
        }
        response
            .as_mut()
            .poll(cx)
            .map_err(|error| Failed::from_h2(&error, upstream))
    })
    .await;

    let (head, recv) = match response {
        Ok(response) => response.into_parts(),
        Err(Failed::Reset(code)) => return Err(Reset(code)),
        Err(Failed::Told(failure)) => return Ok(tell(failure, upstream)),
    };
    if let Some(failure) = upstream.too_large(&head.headers, "response metadata") {
        return Ok(tell(failure, upstream));
    }
    if recv.is_end_stream() {
        return Ok(Response::from_parts(head, Body::empty()));
    }
    let upload = upload.map(|mut upload| {
        let rest = async move {
            // It has reset the stream if it failed, and the response ends with that.
            let _ = poll_fn(|cx| upload.poll(cx)).await;
        };
        AbortOnDropHandle::new(tokio::spawn(rest.in_current_span()))
    });
    let download = Download {
        recv,
        upstream: Arc::clone(upstream),
        state: State::Data,
        _upload: upload,
        slot: Some(slot),
    };
    Ok(Response::from_parts(head, Body::new(download)))
}

fn tell(failure: Failure, upstream: &Peer) -> Response<Body> {
    debug!(%upstream, %failure, "the upstream failed a call");
    failure.into_response(Body::empty())
}

/// Nothing was sent: the connection ended just before, or the request is none that HTTP/2 can carry.
fn unsent(error: &h2::Error) -> Reset {
    let connection_ended = error.is_io() || error.is_go_away();
    Reset(if connection_ended {
        Code::REQUEST_REJECTED
    } else {
        Code::MESSAGE_ERROR
    })
}

/// The request's body on its way to the upstream.
struct Upload {
    body: Body,
    send: SendStream<Bytes>,
    /// Waits for room in the upstream's window; with it, whether it is the last one.
    chunk: Option<(Bytes, bool)>,
}

/// Whoever feeds the request gave the call up, with this code.
struct GivenUp(Code);

impl Upload {
    /// Ready when the upstream has the whole body or wants no more of it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GivenUp>> {
        loop {
            // Also wakes the task when the upstream resets the stream. The response tells why.
            if self.send.poll_reset(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            // One chunk waits at a time: this is where an upstream that doesn't read holds its client back.
            if self.chunk.as_ref().is_some_and(|(chunk, _)| !chunk.is_empty()) && self.send.capacity() == 0 {
                match ready!(self.send.poll_capacity(cx)) {
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => return Poll::Ready(Ok(())),
                }
            }
            if let Some((chunk, last)) = self.chunk.take()
                && (self.send.send_data(chunk, last).is_err() || last)
            {
                return Poll::Ready(Ok(()));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() && !self.body.is_end_stream() => {}
                    Ok(data) => {
                        // Any room will do: h2 keeps what is beyond it, and gives no more room until that is gone.
                        self.send.reserve_capacity(usize::from(!data.is_empty()));
                        self.chunk = Some((data, self.body.is_end_stream()));
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            let _ = self.send.send_trailers(trailers);
                            return Poll::Ready(Ok(()));
                        }
                    }
                },
                Some(Err(error)) => {
                    // Whatever the client's code was, to an upstream it is a call that is no longer wanted.
                    self.send.send_reset(h2::Reason::CANCEL);
                    return Poll::Ready(Err(GivenUp(error.code())));
                }
                None => {
                    let _ = self.send.send_data(Bytes::new(), true);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

/// The response's body as the upstream sends it. Dropping it cancels the call.
struct Download {
    recv: RecvStream,
    upstream: Arc<Peer>,
    state: State,
    /// Ends with the response, which ends the call.
    _upload: Option<AbortOnDropHandle<()>>,
    slot: Option<Slot>,
}

enum State {
    Data,
    Trailers,
    Ended,
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if matches!(this.state, State::Data) {
            match ready!(this.recv.poll_data(cx)) {
                Some(Ok(data)) => {
                    // The reader asks for a frame when it has room for it, so this lets the upstream send as much.
                    let released = this.recv.flow_control().release_capacity(data.len());
                    return Poll::Ready(match released {
                        Ok(()) => Some(Ok(Frame::data(data))),
                        Err(error) => this.fail(&error),
                    });
                }
                Some(Err(error)) => return Poll::Ready(this.fail(&error)),
                None => this.state = State::Trailers,
            }
        }
        if matches!(this.state, State::Trailers) {
            let trailers = ready!(this.recv.poll_trailers(cx));
            return Poll::Ready(match trailers {
                Ok(Some(trailers)) => {
                    this.end();
                    match this.upstream.too_large(&trailers, "response trailers") {
                        None => Some(Ok(Frame::trailers(trailers))),
                        Some(failure) => this.tell(&failure),
                    }
                }
                Ok(None) => {
                    this.end();
                    None
                }
                Err(error) => this.fail(&error),
            });
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Ended) || self.recv.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Download {
    fn end(&mut self) {
        self.state = State::Ended;
        self.slot = None;
    }

    fn fail(&mut self, error: &h2::Error) -> Option<Result<Frame<Bytes>, BodyError>> {
        self.end();
        match Failed::from_h2(error, &self.upstream) {
            Failed::Reset(code) => Some(Err(BodyError::Reset(code))),
            Failed::Told(failure) => self.tell(&failure),
        }
    }

    /// The response's head is gone, so a failure is told in the trailers.
    fn tell(&self, failure: &Failure) -> Option<Result<Frame<Bytes>, BodyError>> {
        debug!(upstream = %self.upstream, %failure, "the upstream failed a call");
        Some(Ok(Frame::trailers(failure.trailers())))
    }
}

/// How a call failed at the upstream.
enum Failed {
    /// A reset is passed on as one.
    Reset(Code),
    /// There is no code for it.
    Told(Failure),
}

impl Failed {
    fn from_h2(error: &h2::Error, upstream: &Peer) -> Self {
        if error.is_reset() && !error.is_library() {
            // The upstream's reset, or this end's own after the client's.
            let reason = error.reason().unwrap_or(h2::Reason::INTERNAL_ERROR);
            return match Code::from_h2_reason(reason.into()) {
                Some(code) => Self::Reset(code),
                None => Self::Told(upstream.wants_tls(reason)),
            };
        }
        if error.is_go_away() && error.is_remote() {
            // A GOAWAY ends only the calls above the id in it, which the upstream did not and will not process
            // (RFC 9113 §6.8): they may be made again.
            return Self::Reset(Code::REQUEST_REJECTED);
        }
        if error.is_reset() {
            return Self::Told(upstream.broke_http2(error));
        }
        Self::Told(upstream.lost(error))
    }
}
