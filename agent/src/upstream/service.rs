//! An upstream in the agent's own process.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use adit_transport::{Body, BodyError, Code, Reset};
use bytes::Bytes;
use futures_util::future::poll_fn;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tower_service::Service;

type BoxError = Box<dyn Error + Send + Sync>;

/// A service whose type is forgotten.
#[derive(Clone)]
pub(super) struct InProcess(Arc<dyn Call>);

trait Call: Send + Sync {
    fn call(&self, request: Request<Body>) -> Answer;
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Reset>> + Send>>;

struct Typed<S>(S);

impl InProcess {
    pub(super) fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError> + Send,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Arc::new(Typed(service)))
    }

    pub(super) async fn call(&self, request: Request<Body>) -> Result<Response<Body>, Reset> {
        self.0.call(request).await
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess")
    }
}

impl<S, B> Call for Typed<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + Send,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn call(&self, request: Request<Body>) -> Answer {
        // `call` may only follow `poll_ready` of the same clone.
        let mut service = self.0.clone();
        Box::pin(async move {
            let failed = |error: S::Error| Reset(code(error.into().as_ref()));
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(failed)?;
            let response = service.call(request).await.map_err(failed)?;
            Ok(response
                .map(|body| Body::new(body.map_err(|error| BodyError::Reset(code(error.into().as_ref()))))))
        })
    }
}

/// The code to reset a call with whose service failed with `error`.
fn code(error: &(dyn Error + 'static)) -> Code {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(Reset(code)) = error.downcast_ref() {
            return *code;
        }
        if let Some(error) = error.downcast_ref::<BodyError>() {
            return error.code();
        }
        source = error.source();
    }
    Code::INTERNAL_ERROR
}
