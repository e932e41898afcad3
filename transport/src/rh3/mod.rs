//! HTTP/3 (RFC 9114) and QPACK (RFC 9204) as pure functions of bytes: no socket, no runtime, no clock.
//!
//! `rh3` is HTTP/3 with the HTTP roles swapped: who accepted the QUIC connection is the HTTP client. Nothing in this
//! module depends on that, except the stream ids that a GOAWAY may carry, so both ends use the same code.
//!
//! Receiving a message: the chunks of a stream go into a [`frame::FrameDecoder`], its frames past a
//! [`message::MessageState`] that knows their order, and each HEADERS payload through [`head::decode_request`],
//! [`head::decode_response`] or [`head::decode_trailers`]. DATA payloads come out as slices of the chunks that went in.
//!
//! Sending one: [`head::encode_request`] and its siblings append a whole HEADERS frame to a buffer, and
//! [`frame::put_data_header`] what precedes a body's bytes.
//!
//! QPACK's dynamic table has capacity 0 in both directions: every field section stands alone, no stream ever waits for
//! another, and a peer can make nothing grow. What that costs in bytes on a link is small beside a call's messages.

pub mod code;
pub mod error;
pub mod frame;
pub mod head;
pub mod message;
pub mod qpack;
pub mod settings;
pub mod varint;

/// The side of HTTP that this endpoint is on, which is not its side of QUIC: on `rh3` the hub accepts the connection
/// and is the HTTP client, the agent dials it and is the HTTP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Makes requests and reads responses: the hub.
    Client,
    /// Reads requests and makes responses: the agent.
    Server,
}
