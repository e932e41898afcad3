//! What tonic's clients reach an upstream through.

use std::pin::Pin;
use std::task::{Context, Poll};

use adit_transport::{Body, BodyError, Code, Reset};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tower_service::Service;

use crate::upstream::{Monitor, Upstream};

/// An upstream as tonic's clients see it.
#[derive(Clone, Debug)]
pub(crate) enum Channel {
    /// On the connections that calls have.
    Pool(Upstream),
    /// On a connection of its own.
    Monitor(Monitor),
}

impl Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<Body>;
    type Error = Reset;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Reset>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Reset>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let channel = self.clone();
        let request = request.map(|body| Body::new(body.map_err(|_| BodyError::Reset(Code::INTERNAL_ERROR))));
        Box::pin(async move {
            match channel {
                Self::Pool(upstream) => upstream.call(request).await,
                Self::Monitor(monitor) => monitor.call(request).await,
            }
        })
    }
}
