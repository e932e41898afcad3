//! Frames (RFC 9114 §7.2): a type, a length, a payload.

mod decode;
mod encode;
mod rules;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::settings::Settings;

pub use decode::FrameDecoder;
pub use encode::{put_data_header, put_goaway, put_reserved};

/// The types of frames (RFC 9114 §11.2.1).
pub mod kind {
    /// A part of a message's content.
    pub const DATA: u64 = 0x00;
    /// A field section.
    pub const HEADERS: u64 = 0x01;
    /// A push is not wanted, or will not come.
    pub const CANCEL_PUSH: u64 = 0x03;
    /// The sender's settings.
    pub const SETTINGS: u64 = 0x04;
    /// The request that a server pushes the response to.
    pub const PUSH_PROMISE: u64 = 0x05;
    /// The sender takes no requests, or pushes, from an id on.
    pub const GOAWAY: u64 = 0x07;
    /// How many pushes the client permits.
    pub const MAX_PUSH_ID: u64 = 0x0d;
    /// The first of the types that mean nothing, and that are ignored (RFC 9114 §7.2.8).
    pub const RESERVED: u64 = 0x21;

    /// Whether this type is one that HTTP/2 used and HTTP/3 forbids (RFC 9114 §7.2.8).
    #[must_use]
    pub const fn is_http2_only(kind: u64) -> bool {
        matches!(kind, 0x02 | 0x06 | 0x08 | 0x09)
    }
}

/// The types of unidirectional streams, which stand at their start (RFC 9114 §6.2, RFC 9204 §4.2).
pub mod stream_type {
    /// Carries SETTINGS and GOAWAY: one in each direction, open as long as the connection.
    pub const CONTROL: u64 = 0x00;
    /// A pushed response. Nothing permits one here.
    pub const PUSH: u64 = 0x01;
    /// QPACK encoder instructions: at most one in each direction.
    pub const QPACK_ENCODER: u64 = 0x02;
    /// QPACK decoder instructions: at most one in each direction.
    pub const QPACK_DECODER: u64 = 0x03;
    /// The first of the types that mean nothing, and that a peer stops or reads without looking (RFC 9114 §6.2.3).
    pub const RESERVED: u64 = 0x21;
}

/// A frame, or a piece of one, that the peer sent.
///
/// Frames of unknown types, which must be ignored, do not appear; neither do MAX_PUSH_ID and CANCEL_PUSH, which are
/// checked by the decoder and mean nothing where nothing is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The whole payload of a HEADERS frame, in memory of its own.
    Headers(Bytes),
    /// A part of the payload of a DATA frame: what one chunk of the stream held of it, in the chunk's memory. Never
    /// empty. Where one DATA frame ends and the next begins means nothing in HTTP.
    Data(Bytes),
    /// The peer's settings; the first frame of a control stream, and only there.
    Settings(Settings),
    /// The peer is going away: a request stream's id if it is the HTTP server, else a push id. On control streams only.
    GoAway(u64),
}
