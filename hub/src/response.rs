//! A response on its way to the client: what the upstream sent, ended by the hub where nobody else does.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use adit_proto::failure::{ADIT_ERROR, Failure};
use adit_transport::{Body, BodyError};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;
use tracing::debug;

use crate::deadline::{self, Timer};
use crate::member::InFlight;
use crate::status::{self, Ending};

const GRPC_STATUS: &str = "grpc-status";

/// The body of a response. Passes on what comes, and makes sure that a gRPC client learns how its call ended.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    /// `None` once the response is over, so that the call is let go at once.
    call: Option<Call>,
    /// What the hub answers itself, in place of an agent.
    own: Option<tonic::body::Body>,
    /// No status has come yet, and the client waits for one.
    owes_status: bool,
}

/// A call whose response has begun.
#[derive(Debug)]
struct Call {
    body: Body,
    /// What the body begins with, where it had to be looked at before the head was passed on.
    first: Option<Result<Frame<Bytes>, BodyError>>,
    timer: Option<Timer>,
    in_flight: InFlight,
}

/// Whether a message says that it is gRPC (gRPC over HTTP/2, "Content-Type").
fn is_grpc(metadata: &HeaderMap) -> bool {
    metadata
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The content type of a request, if it is one of gRPC: `application/grpc`, as a rule with the messages' form behind it.
pub(crate) fn grpc_type(metadata: &HeaderMap) -> Option<HeaderValue> {
    is_grpc(metadata).then(|| metadata[CONTENT_TYPE].clone())
}

/// Gives a failure of the tunnel's making the content type of its request: there are clients to which another one is no
/// answer of gRPC's.
pub(crate) fn answer_in_kind<B>(response: &mut Response<B>, wanted: Option<HeaderValue>) {
    if let Some(wanted) = wanted
        && response.headers().contains_key(ADIT_ERROR)
    {
        response.headers_mut().insert(CONTENT_TYPE, wanted);
    }
}

/// A response that the hub makes itself.
pub(crate) fn failed(failure: Failure) -> Response<ResponseBody> {
    failure.into_response(ResponseBody {
        call: None,
        own: None,
        owes_status: false,
    })
}

/// The response to a call that the hub itself serves.
pub(crate) fn own(response: Response<tonic::body::Body>) -> Response<ResponseBody> {
    response.map(|body| ResponseBody {
        call: None,
        own: Some(body),
        owes_status: false,
    })
}

/// Passes a response on. `wants_grpc` says that the request was one of gRPC.
pub(crate) async fn passed_on(
    response: Response<Body>,
    in_flight: InFlight,
    mut timer: Option<Timer>,
    wants_grpc: bool,
) -> Response<ResponseBody> {
    let (head, mut body) = response.into_parts();
    if wants_grpc && !(head.status == http::StatusCode::OK && is_grpc(&head.headers)) {
        let content_type = head.headers.get(CONTENT_TYPE);
        let content_type = content_type.map_or_else(String::new, |value| format!("{value:?}"));
        return failed(status::not_grpc(in_flight.member(), head.status, &content_type));
    }
    let owes_status = wants_grpc && !head.headers.contains_key(GRPC_STATUS);
    let mut over = body.is_end_stream();
    if over && owes_status {
        return failed(status::ended_without_status(in_flight.member()));
    }
    let mut first = None;
    if !over && !owes_status {
        // The status came with the head: a trailers-only response has to stay one, and its end may come a packet
        // later than its head. What never ends is no such response, and must not outlast the call's deadline.
        match deadline::in_time(&mut timer, pin!(body.frame())).await {
            None => return failed(status::deadline_passed()),
            Some(None) => over = true,
            // Nothing has been passed on yet, so that there is still time to say why the call has failed.
            Some(Some(Err(error))) if wants_grpc => match status::body_failed(in_flight.member(), &error) {
                Ending::Failed(failure) => return failed(failure),
                Ending::Reset(_) => first = Some(Err(error)),
            },
            Some(Some(next)) => first = Some(next),
        }
    }
    let call = Call {
        body,
        first,
        timer,
        in_flight,
    };
    let call = (!over).then_some(call);
    Response::from_parts(
        head,
        ResponseBody {
            call,
            own: None,
            owes_status,
        },
    )
}

impl ResponseBody {
    fn end(&mut self, ending: Ending) -> Result<Frame<Bytes>, h2::Error> {
        self.call = None;
        match ending {
            // A client that has its status already, or wants none, is given none.
            Ending::Failed(failure) if self.owes_status => {
                debug!(%failure, "ended a call");
                Ok(Frame::trailers(failure.trailers()))
            }
            Ending::Failed(failure) => {
                debug!(%failure, "broke off a call");
                Err(h2::Reason::INTERNAL_ERROR.into())
            }
            Ending::Reset(reason) => Err(reason.into()),
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    /// Its reason is the code that the client's stream is reset with.
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = &mut *self;
        if let Some(own) = &mut this.own {
            let frame = ready!(Pin::new(own).poll_frame(cx));
            return Poll::Ready(frame.map(|frame| frame.map_err(|_| h2::Reason::INTERNAL_ERROR.into())));
        }
        let Some(call) = &mut this.call else {
            return Poll::Ready(None);
        };
        if let Some(timer) = &mut call.timer
            && timer.poll(cx).is_ready()
        {
            return Poll::Ready(Some(this.end(Ending::Failed(status::deadline_passed()))));
        }
        let next = match call.first.take() {
            Some(first) => Some(first),
            None => ready!(Pin::new(&mut call.body).poll_frame(cx)),
        };
        let frame = match next {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let ending = status::body_failed(call.in_flight.member(), &error);
                return Poll::Ready(Some(this.end(ending)));
            }
            None if this.owes_status => {
                let ending = Ending::Failed(status::ended_without_status(call.in_flight.member()));
                return Poll::Ready(Some(this.end(ending)));
            }
            None => {
                this.call = None;
                return Poll::Ready(None);
            }
        };
        if let Some(trailers) = frame.trailers_ref() {
            if this.owes_status && !trailers.contains_key(GRPC_STATUS) {
                let ending = Ending::Failed(status::ended_without_status(call.in_flight.member()));
                return Poll::Ready(Some(this.end(ending)));
            }
            this.call = None;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        if let Some(own) = &self.own {
            return own.is_end_stream();
        }
        !self.owes_status
            && self
                .call
                .as_ref()
                .is_none_or(|call| call.first.is_none() && call.body.is_end_stream())
    }
}
