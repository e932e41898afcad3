//! The body of a call's request or response, whatever it comes from.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;

use crate::link::LinkError;
use crate::rh3::code::Code;

/// The bytes and trailers of one direction of a call, passed on as they come.
///
/// A body ends in one of three ways: with its trailers, at its end, or with a [`BodyError`]. Dropping one that
/// has not ended tells whoever feeds it that nobody wants the rest.
#[derive(Debug)]
pub struct Body(UnsyncBoxBody<Bytes, BodyError>);

/// Why a body ended before its end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BodyError {
    /// Whoever feeds this body gave the call up with a code.
    #[error("the stream was reset: {0}")]
    Reset(Code),
    /// What came was not a body of HTTP/3.
    #[error("malformed body: {0}")]
    Malformed(String),
    /// Nobody read the body for long, and the memory that it held was needed.
    #[error("nobody read it for long, and the memory that it held was needed")]
    SlowReader,
    /// The link ended first.
    #[error("the link was lost in the body: {0}")]
    LinkLost(#[source] LinkError),
}

impl Body {
    /// A body that is at its end: a head with nothing after it.
    pub fn empty() -> Self {
        Self::new(http_body_util::Empty::new().map_err(|never| match never {}))
    }

    /// Passes on `body`, whose errors already say how the call is to be given up.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error = BodyError> + Send + 'static,
    {
        Self(body.boxed_unsync())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl BodyError {
    /// The code that gives up the next leg of the call: the same one where there is one.
    pub fn code(&self) -> Code {
        match self {
            Self::Reset(code) => *code,
            Self::Malformed(_) => Code::MESSAGE_ERROR,
            Self::SlowReader => Code::EXCESSIVE_LOAD,
            Self::LinkLost(_) => Code::REQUEST_CANCELLED,
        }
    }
}
