//! Reading the frames of a stream whose chunks come as they please.

use bytes::{Buf as _, Bytes, BytesMut};

use super::Frame;
use super::rules::{Payload, Rules, Stream};
use crate::rh3::Role;
use crate::rh3::code::Code;
use crate::rh3::error::ProtocolError;
use crate::rh3::varint;

/// Reads the frames of one stream: a request stream, or the peer's control stream behind its type.
///
/// Give it chunks as they are received with [`push`](Self::push), after each of them take frames with
/// [`next_frame`](Self::next_frame) until it returns `None`, and at the end of the stream ask
/// [`finish`](Self::finish). It holds at most one frame that is neither DATA nor unknown, so no more memory than the
/// limit on field sections, whatever lengths the peer claims.
///
/// After an error every further call returns that error and chunks are dropped. An error whose scope is the stream
/// leaves the rest of the connection alone.
#[derive(Debug)]
pub struct FrameDecoder {
    rules: Rules,
    state: State,
    /// What was received and not read yet.
    chunk: Bytes,
    /// The type or the length that is being read.
    integer: varint::Decoder,
    /// The beginning of a payload that came in several chunks.
    payload: BytesMut,
}

/// What is awaited next.
#[derive(Debug)]
enum State {
    Type,
    Length {
        kind: u64,
    },
    /// A payload that is wanted whole.
    Payload {
        kind: u64,
        len: usize,
    },
    Data {
        remaining: u64,
    },
    Unknown {
        remaining: u64,
    },
    Failed(ProtocolError),
}

impl State {
    /// The next frame's type, if nothing remains of this one's payload.
    fn or_type(self) -> Self {
        match self {
            Self::Data { remaining: 0 } | Self::Unknown { remaining: 0 } => Self::Type,
            other => other,
        }
    }
}

impl FrameDecoder {
    /// A decoder for a request stream, of which this endpoint reads the requests ([`Role::Server`]) or the responses.
    ///
    /// `max_field_section` is the limit, in bytes, that is advertised as SETTINGS_MAX_FIELD_SECTION_SIZE. That counts
    /// the *decoded* fields, 32 bytes of overhead for each, and is enforced when they are decoded. Here it bounds what
    /// is buffered: a HEADERS frame with a *longer payload* is refused from its length alone, with a stream error of
    /// code [`Code::EXCESSIVE_LOAD`]. A section within the limit is that long only if its encoder made it longer than
    /// its fields, by Huffman codes that expand or by padded integers: the 32 bytes are more than a field line needs.
    #[must_use]
    pub fn message(role: Role, max_field_section: u64) -> Self {
        Self::new(Rules::new(Stream::Message, role, max_field_section))
    }

    /// A decoder for the peer's control stream.
    #[must_use]
    pub fn control(role: Role) -> Self {
        Self::new(Rules::new(Stream::Control, role, 0))
    }

    fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: State::Type,
            chunk: Bytes::new(),
            integer: varint::Decoder::default(),
            payload: BytesMut::new(),
        }
    }

    /// Takes the next chunk of the stream.
    ///
    /// Frames that the chunk before contained are to be taken first: what was left of it is copied together with this
    /// one.
    pub fn push(&mut self, chunk: Bytes) {
        if matches!(self.state, State::Failed(_)) {
            return;
        }
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut joined = BytesMut::with_capacity(self.chunk.len() + chunk.len());
            joined.extend_from_slice(&self.chunk);
            joined.extend_from_slice(&chunk);
            self.chunk = joined.freeze();
        }
    }

    /// The next frame, or `None` if more of the stream is needed.
    ///
    /// # Errors
    /// What the peer did wrong, or a HEADERS frame that is too large.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ProtocolError> {
        let frame = self.read().inspect_err(|error| self.fail(error));
        self.let_go();
        frame
    }

    /// Whether a piece of DATA is here, so that [`next_frame`](Self::next_frame) returns it without another chunk.
    ///
    /// With this a reader can put small pieces together and stop before the trailers.
    pub fn has_data(&mut self) -> bool {
        // An error is kept: next_frame returns it.
        let is_here = self.advance().inspect_err(|error| self.fail(error));
        self.let_go();
        is_here == Ok(true) && matches!(self.state, State::Data { .. })
    }

    /// Whether all that was pushed is read, so that there is nothing more to be had without another chunk.
    #[must_use]
    pub fn wants_chunk(&self) -> bool {
        self.chunk.is_empty()
    }

    /// Whether all that was received was also taken, and ends where a frame ends: if the stream ends too,
    /// [`finish`](Self::finish) succeeds.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Type) && !self.integer.is_partial() && self.chunk.is_empty()
    }

    /// Takes note that the stream ended, after every frame was taken.
    ///
    /// # Errors
    /// A connection error: [`Code::FRAME_ERROR`] if the stream ends within a frame (RFC 9114 §7.1), or
    /// [`Code::CLOSED_CRITICAL_STREAM`] in any case if it is the control stream.
    pub fn finish(&self) -> Result<(), ProtocolError> {
        if let State::Failed(error) = &self.state {
            return Err(error.clone());
        }
        if self.rules.is_control() {
            return Err(ProtocolError::connection(
                Code::CLOSED_CRITICAL_STREAM,
                "the control stream was closed",
            ));
        }
        let missing = match self.state {
            _ if self.is_idle() => return Ok(()),
            State::Data { remaining } => {
                format!("{remaining} bytes before the end of a DATA frame")
            }
            State::Unknown { remaining } => {
                format!("{remaining} bytes before the end of a frame of unknown type")
            }
            State::Payload { kind, len } => {
                format!("within the {len} bytes of a frame of type {kind:#x}")
            }
            _ => "within the type or the length of a frame".to_owned(),
        };
        Err(ProtocolError::connection(
            Code::FRAME_ERROR,
            format!("the stream ended {missing}"),
        ))
    }

    fn read(&mut self) -> Result<Option<Frame>, ProtocolError> {
        while self.advance()? {
            match self.state {
                State::Data { remaining } => {
                    let len = self.available(remaining);
                    self.state = State::Data {
                        remaining: remaining - len as u64,
                    }
                    .or_type();
                    return Ok(Some(Frame::Data(self.chunk.split_to(len))));
                }
                State::Payload { kind, len } => {
                    let Some(payload) = self.take_payload(len) else {
                        break;
                    };
                    self.state = State::Type;
                    if let Some(frame) = self.rules.read(kind, payload)? {
                        return Ok(Some(frame));
                    }
                }
                _ => break,
            }
        }
        Ok(None)
    }

    /// Reads on to the payload of a DATA frame or of one that is wanted whole. Returns whether there is something of it
    /// to read, or else more of the stream is needed.
    fn advance(&mut self) -> Result<bool, ProtocolError> {
        loop {
            match self.state {
                State::Type => {
                    let Some(kind) = self.integer.take(&mut self.chunk) else {
                        return Ok(false);
                    };
                    self.rules.expects(kind)?;
                    self.state = State::Length { kind };
                }
                State::Length { kind } => {
                    let Some(len) = self.integer.take(&mut self.chunk) else {
                        return Ok(false);
                    };
                    self.state = match self.rules.payload(kind, len)? {
                        Payload::Data => State::Data { remaining: len }.or_type(),
                        Payload::Unknown => State::Unknown { remaining: len }.or_type(),
                        Payload::Whole(len) => State::Payload { kind, len },
                    };
                }
                State::Unknown { remaining } => {
                    let len = self.available(remaining);
                    if len == 0 {
                        return Ok(false);
                    }
                    self.chunk.advance(len);
                    self.state = State::Unknown {
                        remaining: remaining - len as u64,
                    }
                    .or_type();
                }
                State::Data { .. } => return Ok(!self.chunk.is_empty()),
                State::Payload { len, .. } => return Ok(len == 0 || !self.chunk.is_empty()),
                State::Failed(ref error) => return Err(error.clone()),
            }
        }
    }

    /// How much of the next `remaining` bytes is in the chunk.
    fn available(&self, remaining: u64) -> usize {
        usize::try_from(remaining).map_or(self.chunk.len(), |remaining| remaining.min(self.chunk.len()))
    }

    /// Lets go of a chunk that is read: even an empty slice would keep the memory of the datagrams that it came in.
    fn let_go(&mut self) {
        if self.chunk.is_empty() {
            self.chunk = Bytes::new();
        }
    }

    fn fail(&mut self, error: &ProtocolError) {
        self.state = State::Failed(error.clone());
        self.chunk = Bytes::new();
        self.payload = BytesMut::new();
    }

    /// The whole payload of `len` bytes, once it is there.
    ///
    /// It is copied: it is short, and a slice of the chunk would keep the whole datagram, and those received with it,
    /// for as long as one field of a call's head lives.
    fn take_payload(&mut self, len: usize) -> Option<Bytes> {
        let missing = len - self.payload.len();
        if self.chunk.len() < missing {
            self.payload.extend_from_slice(&self.chunk);
            self.chunk = Bytes::new();
            return None;
        }
        let last = &self.chunk[..missing];
        let payload = if self.payload.is_empty() {
            Bytes::copy_from_slice(last)
        } else {
            self.payload.extend_from_slice(last);
            std::mem::take(&mut self.payload).freeze()
        };
        self.chunk.advance(missing);
        Some(payload)
    }
}
