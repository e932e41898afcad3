//! Counts a service's calls and sees those that are cancelled.
//!
//! A gRPC server learns of a cancelled call only by being dropped, and tonic's request streams end as if the
//! client had finished when it in fact reset the call. So a call counts as done here when its response was
//! taken to the last byte, and as cancelled when the response, or the wait for it, is dropped before that.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Bytes, Service, http};
use tonic::server::NamedService;
use tracing::info;

/// How many calls there have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Calls that have begun.
    pub begun: u64,
    /// Of these, calls that ended because the client cancelled them or went away.
    pub cancelled: u64,
}

/// Counts the calls of the services that it follows, and logs each that is cancelled. Clones share one count.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    calls: Arc<watch::Sender<Calls>>,
}

impl Ledger {
    /// The count so far, and as it changes.
    #[must_use]
    pub fn calls(&self) -> watch::Receiver<Calls> {
        self.calls.subscribe()
    }

    /// The same service, its calls counted.
    pub fn follow<S>(&self, service: S) -> Followed<S> {
        Followed {
            service,
            ledger: self.clone(),
        }
    }

    fn begin(&self, path: &str) -> Call {
        self.calls.send_modify(|calls| calls.begun += 1);
        Call {
            path: path.to_owned(),
            calls: Arc::clone(&self.calls),
            over: false,
        }
    }
}

/// A service whose calls are counted.
#[derive(Clone, Debug)]
pub struct Followed<S> {
    service: S,
    ledger: Ledger,
}

impl<S: NamedService> NamedService for Followed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Followed<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let call = self.ledger.begin(request.uri().path());
        let response = self.service.call(request);
        Box::pin(async move {
            let response = response.await?;
            Ok(response.map(|body| Body::new(FollowedBody::new(body, call))))
        })
    }
}

/// A call under way; dropped before it is over, it was cancelled.
struct Call {
    path: String,
    calls: Arc<watch::Sender<Calls>>,
    over: bool,
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.over {
            info!(path = self.path, "call cancelled");
            self.calls.send_modify(|calls| calls.cancelled += 1);
        }
    }
}

/// A response that tells its call when it has been taken.
struct FollowedBody {
    body: Body,
    call: Call,
}

impl FollowedBody {
    fn new(body: Body, mut call: Call) -> Self {
        // A failure without a message has its status in the headers, and a body that nobody needs to ask.
        call.over = body.is_end_stream();
        Self { body, call }
    }
}

impl http_body::Body for FollowedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let next = Pin::new(&mut self.body).poll_frame(context);
        match &next {
            Poll::Ready(None | Some(Err(_))) => self.call.over = true,
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => self.call.over = true,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
