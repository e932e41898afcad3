//! Bodies that are encoded or decoded as they pass.

use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};

use super::{Coding, Decoder, Encoder};
use crate::body::{Body, BodyError};
use crate::rh3::code::Code;

/// What is encoded at the most before it is passed on, and what is decoded at a time: the memory that a coded body holds
/// beside its encoder and decoder.
const PIECE: usize = 16 << 10;

/// A body that is encoded.
pub(super) fn encoded(body: Body, coding: &dyn Coding) -> io::Result<Body> {
    Ok(Body::new(Encoded {
        body,
        encoder: coding.encoder()?,
        out: Vec::new(),
        next: Next::More,
    }))
}

/// A body that is decoded.
pub(super) fn decoded(body: Body, coding: &dyn Coding) -> io::Result<Body> {
    Ok(Body::new(Decoded {
        body,
        name: coding.name(),
        decoder: coding.decoder()?,
        data: Bytes::new(),
        out: Vec::new(),
        is_full: false,
        is_empty: true,
        ended: false,
    }))
}

struct Encoded {
    body: Body,
    encoder: Box<dyn Encoder>,
    out: Vec<u8>,
    next: Next,
}

/// What follows the bytes that were encoded.
enum Next {
    /// What the body still has.
    More,
    Trailers(HeaderMap),
    Error(BodyError),
    Nothing,
}

impl HttpBody for Encoded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Next::More = this.next {
            let is_pending = match this.gather(cx) {
                Ok(is_pending) => is_pending,
                Err(_) => {
                    this.next = Next::Nothing;
                    return Poll::Ready(Some(Err(BodyError::Reset(Code::INTERNAL_ERROR))));
                }
            };
            if !this.out.is_empty() {
                let coded = Bytes::copy_from_slice(&this.out);
                this.out.clear();
                return Poll::Ready(Some(Ok(Frame::data(coded))));
            }
            if is_pending {
                return Poll::Pending;
            }
        }
        Poll::Ready(match mem::replace(&mut this.next, Next::Nothing) {
            Next::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Next::Error(error) => Some(Err(error)),
            Next::More | Next::Nothing => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }
}

impl Encoded {
    /// Encodes what is there, up to a piece of it: whether more is to come later.
    fn gather(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut taken = 0;
        while taken < PIECE {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending if taken == 0 => return Ok(true),
                Poll::Pending => break,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        taken += data.len();
                        self.encoder.encode(&data, &mut self.out)?;
                    }
                    Err(frame) => {
                        self.next = frame.into_trailers().map_or(Next::Nothing, Next::Trailers);
                        self.encoder.finish(&mut self.out)?;
                        return Ok(false);
                    }
                },
                // Who decodes it is to hear of the error, and of nothing before it that it could take for an end.
                Poll::Ready(Some(Err(error))) => {
                    self.next = Next::Error(error);
                    return Ok(false);
                }
                Poll::Ready(None) => {
                    self.next = Next::Nothing;
                    self.encoder.finish(&mut self.out)?;
                    return Ok(false);
                }
            }
        }
        // It waits for nothing that may never come.
        self.encoder.flush(&mut self.out)?;
        Ok(false)
    }
}

struct Decoded {
    body: Body,
    name: &'static str,
    decoder: Box<dyn Decoder>,
    /// Came, and is not decoded yet.
    data: Bytes,
    out: Vec<u8>,
    /// The decoder has filled `out`, and may have more.
    is_full: bool,
    /// Nothing came so far.
    is_empty: bool,
    ended: bool,
}

impl HttpBody for Decoded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        while !this.ended {
            match this.decode() {
                Ok(()) if this.out.is_empty() => {}
                Ok(()) => return Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(&this.out))))),
                Err(error) => return Poll::Ready(Some(Err(this.malformed(&error.to_string())))),
            }
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    this.ended = true;
                    return Poll::Ready(this.cut_off().map(Err));
                }
            };
            match frame.into_data() {
                Ok(data) => {
                    this.is_empty &= data.is_empty();
                    this.data = data;
                }
                Err(frame) => {
                    this.ended = true;
                    return Poll::Ready(Some(this.cut_off().map_or(Ok(frame), Err)));
                }
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || (self.is_empty && self.body.is_end_stream())
    }
}

impl Decoded {
    /// Decodes the next piece, if one is there.
    fn decode(&mut self) -> io::Result<()> {
        self.out.clear();
        if self.data.is_empty() && !self.is_full {
            return Ok(());
        }
        self.out.reserve_exact(PIECE);
        let mut left = &self.data[..];
        self.decoder.decode(&mut left, &mut self.out)?;
        let taken = self.data.len() - left.len();
        self.data.advance(taken);
        if taken == 0 && self.out.is_empty() && !self.is_full {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "no more of it can be decoded",
            ));
        }
        self.is_full = self.out.spare_capacity_mut().is_empty();
        Ok(())
    }

    /// The body is at its end: whether it ended too early.
    fn cut_off(&mut self) -> Option<BodyError> {
        // A body of nothing needs no encoder's end.
        (!self.is_empty && !self.decoder.is_finished()).then(|| self.malformed("it is cut off"))
    }

    fn malformed(&mut self, why: &str) -> BodyError {
        self.ended = true;
        BodyError::Malformed(format!("its coding is {}, and {why}", self.name))
    }
}
