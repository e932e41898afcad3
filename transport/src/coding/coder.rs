//! The codings of one link: what it sends with, and what it decodes.

use std::io;
use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request};
use tracing::warn;

use super::{Coding, Codings, MARK, body};
use crate::body::Body;
use crate::link::{CallError, Reset, Standing};
use crate::metadata;
use crate::rh3::code::Code;

static MARKED: HeaderName = HeaderName::from_static(MARK);

/// Metadata that says that a body's bytes are compressed already: a gRPC message's, and a body's of other protocols.
const COMPRESSED: [&str; 2] = ["grpc-encoding", "content-encoding"];

/// One end of a link encodes what it sends and decodes what comes.
#[derive(Debug)]
pub(crate) struct Coder {
    known: Codings,
    sends: OnceLock<Arc<dyn Coding>>,
}

impl Coder {
    pub(crate) fn new(known: Codings) -> Self {
        Self {
            known,
            sends: OnceLock::new(),
        }
    }

    /// What the other end may send with.
    pub(crate) fn known(&self) -> impl Iterator<Item = &'static str> {
        self.known.names()
    }

    /// Sends with the first of `accepted`, in the other end's order, that is known here. The first word stands.
    pub(crate) fn send_with(&self, accepted: &[String]) -> Option<&'static str> {
        if let Some(coding) = self.known.first_of(accepted) {
            let _ = self.sends.set(Arc::clone(coding));
        }
        self.name()
    }

    /// What is sent with, unless it is nothing.
    pub(crate) fn name(&self) -> Option<&'static str> {
        self.sends.get().map(|coding| coding.name())
    }

    /// A request as it is sent, with its encoded body: `None` where both are sent as they are.
    pub(crate) fn encode_request(
        &self,
        head: &request::Parts,
        body: Body,
    ) -> Result<(Option<request::Parts>, Body), CallError> {
        let is_standing = head.extensions.get::<Standing>().is_some();
        let coding = self.coding(&head.headers, &body, is_standing);
        if coding.is_none() && !head.headers.contains_key(&MARKED) {
            return Ok((None, body));
        }
        let mut head = head.clone();
        let body = mark(&mut head.headers, body, coding)
            .map_err(|error| CallError::Unsendable(format!("its body cannot be encoded: {error}")))?;
        Ok((Some(head), body))
    }

    /// A response as it is sent.
    pub(crate) fn encode_response(&self, response: Response<Body>) -> Result<Response<Body>, Reset> {
        let is_standing = response.extensions().get::<Standing>().is_some();
        let coding = self.coding(response.headers(), response.body(), is_standing);
        if coding.is_none() && !response.headers().contains_key(&MARKED) {
            return Ok(response);
        }
        let (mut head, body) = response.into_parts();
        let body = mark(&mut head.headers, body, coding).map_err(|error| {
            warn!(%error, "a response cannot be encoded");
            Reset(Code::INTERNAL_ERROR)
        })?;
        Ok(Response::from_parts(head, body))
    }

    /// A request as it was before its link.
    pub(crate) fn decode_request(&self, request: Request<Body>) -> Result<Request<Body>, Reset> {
        if !request.headers().contains_key(&MARKED) {
            return Ok(request);
        }
        let (mut head, body) = request.into_parts();
        let body = self.decode(&mut head.headers, body).map_err(|error| {
            warn!(%error, "a request cannot be decoded");
            Reset(Code::MESSAGE_ERROR)
        })?;
        Ok(Request::from_parts(head, body))
    }

    /// A response as it was before its link.
    pub(crate) fn decode_response(&self, response: Response<Body>) -> Result<Response<Body>, CallError> {
        if !response.headers().contains_key(&MARKED) {
            return Ok(response);
        }
        let (mut head, body) = response.into_parts();
        let body = self
            .decode(&mut head.headers, body)
            .map_err(|error| CallError::Malformed(error.to_string()))?;
        Ok(Response::from_parts(head, body))
    }

    /// What such a message is sent with.
    fn coding(&self, headers: &HeaderMap, body: &Body, is_standing: bool) -> Option<&dyn Coding> {
        let coding = self.sends.get()?;
        let is_compressed = COMPRESSED
            .iter()
            .any(|name| headers.get(*name).is_some_and(|encoding| encoding != "identity"));
        let plain = is_compressed || is_standing || http_body::Body::is_end_stream(body);
        (!plain).then_some(&**coding)
    }

    fn decode(&self, headers: &mut HeaderMap, body: Body) -> Result<Body, Undecodable> {
        let name = headers
            .get(&MARKED)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        let known = std::str::from_utf8(name)
            .ok()
            .and_then(|name| self.known.find(name));
        let Some(coding) = known else {
            return Err(Undecodable::Unknown(crate::printable(name)));
        };
        let decoded = body::decoded(body, &**coding)?;
        unmark(headers);
        Ok(decoded)
    }
}

/// Why the body of a message has to stay as it came.
#[derive(Debug, thiserror::Error)]
enum Undecodable {
    #[error("its coding is {0:?}, which this end did not offer")]
    Unknown(String),
    #[error("its decoder cannot be made: {0}")]
    NoDecoder(#[from] io::Error),
}

/// Encodes a body, and says so in its head. What else claims to be such a mark is taken out.
fn mark(headers: &mut HeaderMap, body: Body, coding: Option<&dyn Coding>) -> io::Result<Body> {
    unmark(headers);
    let Some(coding) = coding else {
        return Ok(body);
    };
    let encoded = body::encoded(body, coding)?;
    headers.insert(MARKED.clone(), HeaderValue::from_static(coding.name()));
    Ok(encoded)
}

fn unmark(headers: &mut HeaderMap) {
    *headers = metadata::without(std::mem::take(headers), &[&MARKED]);
}
