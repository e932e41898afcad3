//! Which frames a stream permits, how long they may be, and what they say.

use bytes::Bytes;

use super::{Frame, kind};
use crate::rh3::Role;
use crate::rh3::code::Code;
use crate::rh3::error::{ProtocolError, Scope};
use crate::rh3::qpack;
use crate::rh3::settings::{MAX_SETTINGS_LEN, Settings};
use crate::rh3::varint;

/// A stream, and what has come on it that decides what may come next.
#[derive(Debug)]
pub(super) struct Rules {
    stream: Stream,
    /// That of this endpoint.
    role: Role,
    max_field_section: u64,
    settings_received: bool,
    last_goaway: Option<u64>,
    last_max_push: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Message,
    Control,
}

/// What is done with a payload.
pub(super) enum Payload {
    /// Passed on piece by piece.
    Data,
    /// Gathered, all of its bytes.
    Whole(usize),
    /// Skipped.
    Unknown,
}

impl Rules {
    pub(super) const fn new(stream: Stream, role: Role, max_field_section: u64) -> Self {
        Self {
            stream,
            role,
            max_field_section,
            settings_received: false,
            last_goaway: None,
            last_max_push: None,
        }
    }

    pub(super) fn is_control(&self) -> bool {
        self.stream == Stream::Control
    }

    /// Whether a frame of this type may come now (RFC 9114 §7.2, table 1).
    pub(super) fn expects(&self, kind: u64) -> Result<(), ProtocolError> {
        let is_client = self.role == Role::Client;
        let code = match (self.stream, kind) {
            (Stream::Control, kind) if !self.settings_received && kind != kind::SETTINGS => {
                Code::MISSING_SETTINGS
            }
            (_, kind) if kind::is_http2_only(kind) => Code::FRAME_UNEXPECTED,
            // No MAX_PUSH_ID ever permitted the server to push.
            (Stream::Message, kind::PUSH_PROMISE) if is_client => Code::ID_ERROR,
            (
                Stream::Message,
                kind::CANCEL_PUSH | kind::SETTINGS | kind::PUSH_PROMISE | kind::GOAWAY | kind::MAX_PUSH_ID,
            )
            | (Stream::Control, kind::DATA | kind::HEADERS | kind::PUSH_PROMISE) => Code::FRAME_UNEXPECTED,
            (Stream::Control, kind::SETTINGS) if self.settings_received => Code::FRAME_UNEXPECTED,
            (Stream::Control, kind::MAX_PUSH_ID) if is_client => Code::FRAME_UNEXPECTED,
            _ => return Ok(()),
        };
        let stream = match self.stream {
            Stream::Message => "on a request stream",
            Stream::Control if code == Code::MISSING_SETTINGS => "first on the control stream",
            Stream::Control => "on the control stream",
        };
        Err(ProtocolError::connection(
            code,
            format!("received a frame of type {kind:#x} {stream}, which does not permit it"),
        ))
    }

    /// What to do with a payload of `len` bytes.
    pub(super) fn payload(&self, kind: u64, len: u64) -> Result<Payload, ProtocolError> {
        let (limit, code, scope) = match kind {
            kind::DATA => return Ok(Payload::Data),
            kind::HEADERS => (
                // The prefix of the section is no part of what the limit counts.
                self.max_field_section
                    .saturating_add(qpack::encode::PREFIX.len() as u64),
                Code::EXCESSIVE_LOAD,
                Scope::Stream,
            ),
            kind::SETTINGS => (MAX_SETTINGS_LEN as u64, Code::EXCESSIVE_LOAD, Scope::Connection),
            kind::GOAWAY | kind::CANCEL_PUSH | kind::MAX_PUSH_ID => {
                (varint::MAX_LEN as u64, Code::FRAME_ERROR, Scope::Connection)
            }
            _ => return Ok(Payload::Unknown),
        };
        match usize::try_from(len) {
            Ok(whole) if len <= limit => Ok(Payload::Whole(whole)),
            _ => Err(ProtocolError {
                code,
                scope,
                reason: format!(
                    "received a frame of type {kind:#x} with {len} bytes, more than the limit of {limit}"
                )
                .into(),
            }),
        }
    }

    /// What a whole payload says, if that matters here.
    pub(super) fn read(&mut self, kind: u64, payload: Bytes) -> Result<Option<Frame>, ProtocolError> {
        match kind {
            kind::HEADERS => Ok(Some(Frame::Headers(payload))),
            kind::SETTINGS => {
                self.settings_received = true;
                Ok(Some(Frame::Settings(Settings::decode(&payload)?)))
            }
            kind::GOAWAY => {
                let id = only_integer(kind, &payload)?;
                self.goaway(id).map(Some)
            }
            kind::MAX_PUSH_ID => {
                let id = only_integer(kind, &payload)?;
                if let Some(last) = self.last_max_push.filter(|&last| id < last) {
                    return Err(id_error(&format!("MAX_PUSH_ID with {id} after {last}")));
                }
                self.last_max_push = Some(id);
                Ok(None)
            }
            // CANCEL_PUSH: this client never permitted a push, this server never promised one (RFC 9114 §7.2.3).
            _ => {
                let id = only_integer(kind, &payload)?;
                Err(id_error(&format!(
                    "CANCEL_PUSH of push {id}, which does not exist"
                )))
            }
        }
    }

    fn goaway(&mut self, id: u64) -> Result<Frame, ProtocolError> {
        // A server's is a stream id, and requests are on bidirectional streams that the QUIC server opened. 0 is none
        // of these, and accepted: servers that know HTTP/3 only send it before the first request.
        if self.role == Role::Client && id != 0 && id % 4 != 1 {
            return Err(id_error(&format!("GOAWAY with {id}, which is no request stream")));
        }
        if let Some(last) = self.last_goaway.filter(|&last| id > last) {
            return Err(id_error(&format!("GOAWAY with {id} after {last}")));
        }
        self.last_goaway = Some(id);
        Ok(Frame::GoAway(id))
    }
}

/// The integer that the whole of a payload is.
fn only_integer(kind: u64, payload: &[u8]) -> Result<u64, ProtocolError> {
    let mut rest = payload;
    varint::get(&mut rest).filter(|_| rest.is_empty()).ok_or_else(|| {
        ProtocolError::connection(
            Code::FRAME_ERROR,
            format!(
                "the {} bytes of a frame of type {kind:#x} are not exactly one integer",
                payload.len(),
            ),
        )
    })
}

fn id_error(received: &str) -> ProtocolError {
    ProtocolError::connection(Code::ID_ERROR, format!("received {received}"))
}
