//! The calls of one connection: counted, and watched for a client that gives up what it has just begun.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limits::{Connected, RAPID, Running};
use crate::call::Calls;
use crate::principal::Principal;
use crate::response::{self, ResponseBody};
use crate::status;

/// Carries the calls of one connection.
#[derive(Debug)]
pub(super) struct Service {
    calls: Arc<Calls>,
    principal: Principal,
    connected: Connected,
    /// The client has made a rapid reset too many.
    abused: CancellationToken,
}

/// The body of a request. Knows whether its client gave the call up, which the call is told of as an error like others.
#[derive(Debug)]
pub(super) struct RequestBody {
    body: Incoming,
    given_up: Arc<AtomicBool>,
}

/// The client gave a call up before the whole of its request had come.
#[derive(Debug, thiserror::Error)]
#[error("the client gave the call up")]
pub(super) struct GivenUp;

/// The body of a response, whose call counts until it is dropped.
#[derive(Debug)]
pub(super) struct CountedBody {
    body: ResponseBody,
    _running: Option<Running>,
}

/// A call that has no response yet.
struct Unanswered<'a> {
    service: &'a Service,
    since: Instant,
    given_up: Arc<AtomicBool>,
    answered: bool,
}

impl Service {
    pub(super) fn new(calls: Arc<Calls>, principal: Principal, connected: Connected) -> Self {
        Self {
            calls,
            principal,
            connected,
            abused: CancellationToken::new(),
        }
    }

    /// Ready once the connection has to be closed.
    pub(super) async fn abused(&self) {
        self.abused.cancelled().await;
    }

    /// Carries one call; dropped before it is ready when the client gives the call up.
    pub(super) async fn call(&self, request: Request<Incoming>) -> Result<Response<CountedBody>, h2::Error> {
        let running = match self.connected.begin() {
            Ok(running) => running,
            Err(full) => {
                let failure = status::too_many_calls(&self.principal, full.limit);
                tracing::debug!(%failure, "a call failed");
                let mut response = response::failed(failure);
                response::answer_in_kind(&mut response, response::grpc_type(request.headers()));
                return Ok(response.map(CountedBody::free));
            }
        };
        let given_up = Arc::new(AtomicBool::new(false));
        let mut unanswered = Unanswered {
            service: self,
            since: Instant::now(),
            given_up: Arc::clone(&given_up),
            answered: false,
        };
        let request = request.map(|body| RequestBody { body, given_up });
        let response = self.calls.handle(request, &self.principal).await;
        unanswered.answered = true;
        Ok(response?.map(|body| CountedBody {
            body,
            _running: Some(running),
        }))
    }
}

impl CountedBody {
    /// Of a call that is over.
    fn free(body: ResponseBody) -> Self {
        Self { body, _running: None }
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let given_up = !self.answered || self.given_up.load(Ordering::Relaxed);
        let rapid = given_up && self.since.elapsed() < RAPID;
        if rapid && !self.service.connected.reset_rapidly() {
            self.service.abused.cancel();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
            None if self.body.is_end_stream() => return Poll::Ready(None),
            // To hyper a reset with NO_ERROR is an end like others, and so is a connection's after a GOAWAY with that
            // code: only h2 knows that the client has not said END_STREAM. An upstream must not take what came so far
            // for all of it.
            None | Some(Err(_)) => {}
        }
        self.given_up.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(GivenUp)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
