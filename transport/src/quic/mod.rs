//! The `quic` carrier: HTTP/3 with the roles swapped (`rh3`) on quinn.
//!
//! The agent is the QUIC client and the HTTP server, the hub is the QUIC server and the HTTP client, as
//! draft-thomson-ptth-potato describes it. A call rides a bidirectional stream that the hub opens.

pub(crate) mod agent;
mod config;
mod congestion;
mod connection_ids;
mod control;
pub(crate) mod endpoint;
pub(crate) mod hub;
pub(crate) mod readers;
mod receive;
mod right_of_way;
mod send;
mod starved;
mod stream;
mod tail;

use rustls::pki_types::CertificateDer;
use tracing::warn;

use crate::link::LinkError;
use crate::liveness::Activity;
use crate::printable;
use crate::rh3::code::Code;
use crate::rh3::error::ProtocolError;

/// The ALPN label of HTTP/3 with its roles swapped (draft-thomson-ptth-potato).
pub const ALPN: &[u8] = b"rh3";

impl From<quinn::ConnectionError> for LinkError {
    fn from(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as E;
        match error {
            E::ApplicationClosed(close) if is_orderly(close.error_code) => {
                Self::Closed(printable(&close.reason))
            }
            E::ApplicationClosed(close) if code_of(close.error_code) == Code::REQUEST_REJECTED => {
                Self::Refused(printable(&close.reason))
            }
            E::ApplicationClosed(close) => Self::Protocol(format!(
                "the peer closed the link: {} {}",
                code_of(close.error_code),
                printable(&close.reason),
            )),
            E::ConnectionClosed(close) => Self::Protocol(printable(close.to_string().as_bytes())),
            E::TransportError(error) => Self::Protocol(printable(error.to_string().as_bytes())),
            E::TimedOut => Self::TimedOut,
            E::Reset => Self::Reset,
            E::LocallyClosed => Self::LocallyClosed,
            E::VersionMismatch | E::CidsExhausted => Self::Protocol(error.to_string()),
        }
    }
}

/// The certificates that the peer's handshake was verified with.
fn certificates(connection: &quinn::Connection) -> Vec<CertificateDer<'static>> {
    let identity = connection.peer_identity();
    let certificates = identity.and_then(|identity| identity.downcast::<Vec<_>>().ok());
    certificates.map(|certificates| *certificates).unwrap_or_default()
}

/// Whether a close code says that nothing went wrong: H3_NO_ERROR, or the 0 of peers that name none.
fn is_orderly(code: quinn::VarInt) -> bool {
    matches!(code_of(code), Code(0) | Code::NO_ERROR)
}

/// What a connection has received and sent, counted in frames of authenticated packets.
///
/// A process that stands still reads and writes nothing: QUIC sends for it what was written before, and acknowledges. So the
/// frames of streams, and those that give credit for what was read, are counted by themselves.
///
/// Of the frames sent, those count that a peer has to acknowledge (RFC 9000 §13.2.1), and whose loss says something of
/// the link: a packet that probes for a larger MTU holds a PING, and is lost wherever the path takes no larger ones. A
/// peer that knows of IMMEDIATE_ACK is sent one with it, and one instead of a PING where an acknowledgement is overdue.
fn activity(connection: &quinn::Connection) -> Activity {
    let stats = connection.stats();
    let (rx, tx) = (&stats.frame_rx, &stats.frame_tx);
    let carried = |frames: &quinn::FrameStats| {
        frames.stream
            + frames.reset_stream
            + frames.stop_sending
            + frames.max_data
            + frames.max_stream_data
            + frames.max_streams_bidi
            + frames.max_streams_uni
    };
    let either = |frames: &quinn::FrameStats| {
        carried(frames)
            + frames.data_blocked
            + frames.stream_data_blocked
            + frames.streams_blocked_bidi
            + frames.streams_blocked_uni
            + frames.ping
    };
    let mtu_probes = stats.path.sent_plpmtud_probes;
    Activity {
        received: either(rx) + rx.acks,
        sent: either(tx).saturating_sub(mtu_probes) + tx.immediate_ack.saturating_sub(mtu_probes),
        carried: carried(rx),
    }
}

/// Closes a connection. One that has ended already keeps what ended it, which quinn would forget.
fn close(connection: &quinn::Connection, code: Code, reason: &[u8]) {
    if connection.close_reason().is_none() {
        congestion::let_close(connection);
        connection.close(varint(code), reason);
    }
}

/// Closes a connection whose peer broke a rule that concerns all of it. Whoever waits for its end hears only that this
/// end closed it, so the rule is said here.
fn close_for(connection: &quinn::Connection, error: &ProtocolError) {
    warn!(peer = %connection.remote_address(), %error, "the peer broke the protocol: closing the link");
    close(connection, error.code, error.reason.as_bytes());
}

/// A code as quinn wants it. No code is too large for that: ours are small, and a peer's came as such an integer.
fn varint(code: Code) -> quinn::VarInt {
    quinn::VarInt::from_u64(code.0).unwrap_or(quinn::VarInt::MAX)
}

/// The code that quinn was told by the peer.
fn code_of(code: quinn::VarInt) -> Code {
    Code(code.into_inner())
}

#[cfg(test)]
pub(crate) mod tests;
