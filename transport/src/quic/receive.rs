//! Receiving a message: head, body and trailers of a request or a response from one stream.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame as BodyFrame};
use quinn::ConnectionError;
use tokio_util::task::AbortOnDropHandle;

use super::readers::Reader;
use super::send::SendError;
use super::{close_for, code_of};
use crate::body::BodyError;
use crate::rh3::Role;
use crate::rh3::code::Code;
use crate::rh3::error::{ProtocolError, Scope};
use crate::rh3::frame::{Frame, FrameDecoder};
use crate::rh3::head::{self, HeadError};
use crate::rh3::message::{MessageState, Section};

/// What is put together of a body before it is passed on. A packet holds about 1.2 KiB; passing each on by itself
/// would cost the next leg a frame and a system call for every one of them.
const GATHER: usize = 16 << 10;

/// Why a message did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    #[error("the peer gave the call up: {0}")]
    Reset(Code),
    #[error("the link was lost: {0}")]
    LinkLost(ConnectionError),
    #[error("the call was given up because its reader stood still and the memory was needed")]
    SlowReader,
    #[error("a header section longer than this end takes")]
    HeaderSectionTooLarge,
    #[error(transparent)]
    Malformed(ProtocolError),
}

/// Reads one message's frames off its stream.
#[derive(Debug)]
pub(super) struct MessageReader {
    role: Role,
    reader: Reader,
    /// Received and not yet decoded.
    segments: VecDeque<Bytes>,
    frames: FrameDecoder,
    message: MessageState,
    max_header_section: u64,
    /// The stream's end was seen.
    ended: bool,
}

/// A piece of a message.
enum Piece {
    Head(Bytes),
    Data(Bytes),
    Trailers(Bytes),
}

impl MessageReader {
    /// `role` is this end's.
    pub(super) fn new(role: Role, reader: Reader, max_header_section: u32) -> Self {
        let max_header_section = u64::from(max_header_section);
        Self {
            role,
            reader,
            segments: VecDeque::new(),
            frames: FrameDecoder::message(role, max_header_section),
            message: MessageState::new(),
            max_header_section,
            ended: false,
        }
    }

    pub(super) async fn request_head(&mut self) -> Result<Request<()>, ReceiveError> {
        let section = self.head().await?;
        let request = head::decode_request(section, self.max_header_section);
        let request = request.map_err(|error| self.bad_fields(error))?;
        self.expect_content(request.headers())?;
        self.look_for_end().await?;
        Ok(request)
    }

    /// `method` is the request's: what a response to HEAD declares does not come (RFC 9110 §8.6).
    pub(super) async fn response_head(&mut self, method: &Method) -> Result<Response<()>, ReceiveError> {
        let response = loop {
            let section = self.head().await?;
            let response = head::decode_response(section, self.max_header_section);
            let response = response.map_err(|error| self.bad_fields(error))?;
            if !response.status().is_informational() {
                break response;
            }
            // Interim responses (RFC 9114 §4.1) mean nothing to gRPC.
            self.message.interim();
        };
        if method != Method::HEAD && response.status() != StatusCode::NOT_MODIFIED {
            self.expect_content(response.headers())?;
        }
        self.look_for_end().await?;
        Ok(response)
    }

    async fn head(&mut self) -> Result<Bytes, ReceiveError> {
        match poll_fn(|cx| self.poll_piece(cx)).await? {
            Some(Piece::Head(section)) => Ok(section),
            // The message's state lets nothing else come first, and no end before a head.
            Some(Piece::Data(_) | Piece::Trailers(_)) | None => {
                Err(ReceiveError::Reset(Code::INTERNAL_ERROR))
            }
        }
    }

    /// A declared length is held against what comes: RFC 9114 §4.1.2.
    fn expect_content(&mut self, headers: &HeaderMap) -> Result<(), ReceiveError> {
        match head::content_length(headers) {
            Ok(None) => {}
            Ok(Some(length)) => self.message.declare_length(length),
            Err(error) => return Err(self.bad_fields(error)),
        }
        Ok(())
    }

    /// Sees an end that came along with the head, so that a message without a body is known for one.
    async fn look_for_end(&mut self) -> Result<(), ReceiveError> {
        if !self.segments.is_empty() || !self.frames.is_idle() || self.ended {
            return Ok(());
        }
        match poll_fn(|cx| Poll::Ready(self.poll_read(cx))).await {
            Poll::Ready(read) => read,
            Poll::Pending => Ok(()),
        }
    }

    /// Nothing follows what has been taken, and nothing of it is missing.
    fn is_at_end(&self) -> bool {
        self.ended
            && self.segments.is_empty()
            && self.frames.is_idle()
            && self.message.finish(self.role).is_ok()
    }

    /// The next piece of the message: `None` at its end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, ReceiveError>> {
        loop {
            if let Some(frame) = self.decode()? {
                if let Some(piece) = self.place(frame)? {
                    return Poll::Ready(Ok(Some(piece)));
                }
            } else if self.ended {
                let end = self.frames.finish().and_then(|()| self.message.finish(self.role));
                return Poll::Ready(end.map(|()| None).map_err(|error| self.broken(error)));
            } else {
                ready!(self.poll_read(cx))?;
            }
        }
    }

    /// The next frame of what has been received already.
    fn decode(&mut self) -> Result<Option<Frame>, ReceiveError> {
        loop {
            match self.frames.next_frame() {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(error) => return Err(self.broken(error)),
            }
            match self.segments.pop_front() {
                Some(segment) => self.frames.push(segment),
                None => return Ok(None),
            }
        }
    }

    /// What a frame is in its message.
    fn place(&mut self, frame: Frame) -> Result<Option<Piece>, ReceiveError> {
        let placed = match frame {
            Frame::Headers(section) => self.message.headers().map(|is| {
                Some(match is {
                    Section::Head => Piece::Head(section),
                    Section::Trailers => Piece::Trailers(section),
                })
            }),
            Frame::Data(data) => self.message.data(data.len()).map(|()| Some(Piece::Data(data))),
            // Not on a request stream: the decoder has seen to it.
            Frame::Settings(_) | Frame::GoAway(_) => Ok(None),
        };
        placed.map_err(|error| self.broken(error))
    }

    /// Whether more data is here already, so that it can be put together with what came before it.
    fn has_data(&mut self) -> bool {
        while !self.frames.has_data() {
            if !self.frames.wants_chunk() {
                return false;
            }
            match self.segments.pop_front() {
                Some(segment) => self.frames.push(segment),
                None => return false,
            }
        }
        true
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReceiveError>> {
        let read = match &mut *self.reader.recv() {
            Some(recv) => ready!(recv.poll_read(cx, &mut self.segments)),
            None => return Poll::Ready(Err(ReceiveError::SlowReader)),
        };
        match read {
            Ok(Some(())) => {}
            Ok(None) => self.ended = true,
            Err(quinn::ReadError::Reset(code)) => {
                return Poll::Ready(Err(ReceiveError::Reset(code_of(code))));
            }
            Err(quinn::ReadError::ConnectionLost(lost)) => {
                return Poll::Ready(Err(ReceiveError::LinkLost(lost)));
            }
            // 0-RTT and unordered reads are never used, and a stopped stream is not read again.
            Err(_) => return Poll::Ready(Err(ReceiveError::Reset(Code::INTERNAL_ERROR))),
        }
        Poll::Ready(Ok(()))
    }

    fn bad_fields(&mut self, error: HeadError) -> ReceiveError {
        self.broken(error.into())
    }

    fn stop(&self, code: Code) {
        if let Some(recv) = &mut *self.reader.recv() {
            recv.stop(code);
        }
    }

    /// Ends the stream, or the link where the rules ask for it.
    fn broken(&mut self, error: ProtocolError) -> ReceiveError {
        match error.scope {
            Scope::Stream => self.stop(error.code),
            Scope::Connection => close_for(self.reader.connection(), &error),
        }
        if error.is_too_large() {
            return ReceiveError::HeaderSectionTooLarge;
        }
        ReceiveError::Malformed(error)
    }
}

/// What follows a message's head on its stream.
#[derive(Debug)]
pub(super) struct ReceivedBody {
    reader: MessageReader,
    /// Of a response: the rest of the request, which is given up when the response is.
    sending: Option<AbortOnDropHandle<Result<(), SendError>>>,
    /// The trailers, or what broke the body off, have been handed out: nothing follows.
    finished: bool,
}

impl ReceivedBody {
    pub(super) fn new(
        reader: MessageReader,
        sending: Option<AbortOnDropHandle<Result<(), SendError>>>,
    ) -> Self {
        // Nobody has asked for the body yet; one that is over holds nothing.
        if !reader.is_at_end() {
            reader.reader.stands_still();
        }
        Self {
            reader,
            sending,
            finished: false,
        }
    }

    /// `first`, and the data that is here after it, as one piece.
    fn gather(&mut self, first: Bytes) -> Result<Bytes, ReceiveError> {
        let reader = &mut self.reader;
        if first.len() >= GATHER || !reader.has_data() {
            return Ok(first);
        }
        let mut gathered = BytesMut::with_capacity(GATHER);
        gathered.extend_from_slice(&first);
        while gathered.len() < GATHER && reader.has_data() {
            if let Some(frame) = reader.decode()?
                && let Some(Piece::Data(data)) = reader.place(frame)?
            {
                gathered.extend_from_slice(&data);
            }
        }
        Ok(gathered.freeze())
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<BodyFrame<Bytes>>, ReceiveError>> {
        self.reader.reader.reads();
        let frame = match ready!(self.reader.poll_piece(cx))? {
            Some(Piece::Data(data)) => {
                let data = self.gather(data)?;
                self.reader.reader.stands_still();
                BodyFrame::data(data)
            }
            Some(Piece::Trailers(section)) => {
                let trailers = head::decode_trailers(section, self.reader.max_header_section);
                let trailers = trailers.map_err(|error| self.reader.bad_fields(error))?;
                self.finish(cx);
                BodyFrame::trailers(trailers)
            }
            Some(Piece::Head(_)) | None => {
                self.finish(cx);
                return Poll::Ready(Ok(None));
            }
        };
        Poll::Ready(Ok(Some(frame)))
    }

    /// The message is complete, whether its stream's end is here yet or not: what is dropped now was not cancelled.
    fn finish(&mut self, cx: &mut Context<'_>) {
        self.finished = true;
        let _ = self.reader.poll_read(cx);
        if let Some(recv) = &mut *self.reader.reader.recv() {
            recv.set_stop_code(Code::NO_ERROR);
        }
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, BodyError>>> {
        if self.finished {
            return Poll::Ready(None);
        }
        let next = ready!(self.next(cx));
        Poll::Ready(match next {
            Ok(frame) => frame.map(Ok),
            Err(error) => {
                self.finished = true;
                // Nobody reads the response any more, so nobody needs the rest of the request.
                self.sending = None;
                Some(Err(error.into()))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.finished || self.reader.is_at_end()
    }
}

impl From<ReceiveError> for BodyError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Reset(code) => Self::Reset(code),
            ReceiveError::LinkLost(lost) => Self::LinkLost(lost.into()),
            ReceiveError::SlowReader => Self::SlowReader,
            ReceiveError::HeaderSectionTooLarge | ReceiveError::Malformed(_) => {
                Self::Malformed(error.to_string())
            }
        }
    }
}
