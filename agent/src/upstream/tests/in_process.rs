//! Services in the agent's process.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use adit_transport::{Body, BodyError, Code, Reset};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::StreamBody;
use tower_service::Service;

use super::support::{collect, full, get, request, soon};
use crate::upstream::Upstream;

/// A service that answers with what a function makes of the path.
#[derive(Clone)]
struct Answering<F>(F, bool);

impl<F, B, E> Service<Request<Body>> for Answering<F>
where
    F: Fn(&str) -> Result<Response<B>, E> + Clone,
{
    type Response = Response<B>;
    type Error = E;
    type Future = std::future::Ready<Result<Response<B>, E>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.1 = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        assert!(std::mem::take(&mut self.1), "called before it was ready");
        std::future::ready((self.0)(request.uri().path()))
    }
}

#[tokio::test]
async fn tonics_routes_are_called_without_a_port() {
    let upstream = Upstream::service(tonic::service::Routes::default());
    let response = soon(upstream.call(request("/a.B/C", full("x")))).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "12");
    assert!(response.body().is_end_stream(), "trailers-only");
}

#[tokio::test]
async fn a_service_that_fails_resets_its_call() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Reset);

    let busy = Outer(Reset(Code::EXCESSIVE_LOAD));
    assert_eq!(busy.to_string(), "outer");
    let upstream = Upstream::service(Answering(
        |path: &str| -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
            match path {
                "/plain" => Err(io::Error::other("no").into()),
                "/reset" => Err(Outer(Reset(Code::EXCESSIVE_LOAD)).into()),
                _ => Err(BodyError::Reset(Code::REQUEST_CANCELLED).into()),
            }
        },
        false,
    ));
    for (path, code) in [
        ("/plain", Code::INTERNAL_ERROR),
        ("/reset", Code::EXCESSIVE_LOAD),
        ("/cancelled", Code::REQUEST_CANCELLED),
    ] {
        assert_eq!(
            soon(upstream.call(get(path))).await.unwrap_err(),
            Reset(code),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_body_that_fails_resets_its_call() {
    type Frames = Pin<Box<dyn futures_util::Stream<Item = Result<Frame<Bytes>, Reset>> + Send>>;
    let upstream = Upstream::service(Answering(
        |_: &str| -> Result<_, Infallible> {
            let frames = [
                Ok(Frame::data(Bytes::from_static(b"x"))),
                Err(Reset(Code::REQUEST_REJECTED)),
            ];
            let frames: Frames = Box::pin(stream::iter(frames));
            Ok(Response::new(StreamBody::new(frames)))
        },
        false,
    ));
    let response = soon(upstream.call(get("/a.B/C"))).await.unwrap();
    let end = soon(collect(response.into_body())).await.unwrap_err();
    assert!(matches!(end, BodyError::Reset(Code::REQUEST_REJECTED)), "{end:?}");
}
