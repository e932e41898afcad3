//! Error codes of HTTP/3 and QPACK, as QUIC carries them in RESET_STREAM, STOP_SENDING and CONNECTION_CLOSE.

use std::fmt;

/// An application error code of HTTP/3 (RFC 9114 §8.1) or QPACK (RFC 9204 §6).
///
/// Any 62-bit value can be received; one that is not named here means [`Code::NO_ERROR`] (RFC 9114 §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u64);

impl Code {
    /// No error: the connection or stream is closed and there is nothing to report.
    pub const NO_ERROR: Self = Self(0x100);
    /// A violation for which there is no better code.
    pub const GENERAL_PROTOCOL_ERROR: Self = Self(0x101);
    /// This endpoint failed by itself.
    pub const INTERNAL_ERROR: Self = Self(0x102);
    /// The peer opened a stream that is not acceptable.
    pub const STREAM_CREATION_ERROR: Self = Self(0x103);
    /// A control or QPACK stream, needed as long as the connection lives, was closed.
    pub const CLOSED_CRITICAL_STREAM: Self = Self(0x104);
    /// A frame that is not permitted in this state or on this stream.
    pub const FRAME_UNEXPECTED: Self = Self(0x105);
    /// A frame whose layout or size is wrong.
    pub const FRAME_ERROR: Self = Self(0x106);
    /// The peer causes load beyond a limit.
    pub const EXCESSIVE_LOAD: Self = Self(0x107);
    /// A stream or push id was used wrongly: above a limit, below one, or reused.
    pub const ID_ERROR: Self = Self(0x108);
    /// The payload of SETTINGS is wrong.
    pub const SETTINGS_ERROR: Self = Self(0x109);
    /// The control stream did not begin with SETTINGS.
    pub const MISSING_SETTINGS: Self = Self(0x10a);
    /// The server refused the request without processing any of it: it may be sent again elsewhere.
    pub const REQUEST_REJECTED: Self = Self(0x10b);
    /// The request or its response is no longer wanted.
    pub const REQUEST_CANCELLED: Self = Self(0x10c);
    /// The request stream ended before the request was complete.
    pub const REQUEST_INCOMPLETE: Self = Self(0x10d);
    /// A malformed message: it cannot be processed.
    pub const MESSAGE_ERROR: Self = Self(0x10e);
    /// The connection that a CONNECT request established was reset or closed abnormally.
    pub const CONNECT_ERROR: Self = Self(0x10f);
    /// The request cannot be served over HTTP/3: use HTTP/1.1.
    pub const VERSION_FALLBACK: Self = Self(0x110);
    /// A field section could not be decoded.
    pub const QPACK_DECOMPRESSION_FAILED: Self = Self(0x200);
    /// An instruction on the encoder stream could not be interpreted.
    pub const QPACK_ENCODER_STREAM_ERROR: Self = Self(0x201);
    /// An instruction on the decoder stream could not be interpreted.
    pub const QPACK_DECODER_STREAM_ERROR: Self = Self(0x202);

    /// The code that stands in QUIC for an HTTP/2 error code (RFC 9113 §7), as gRPC over HTTP/3 (gRPC proposal G2)
    /// maps both to the same status.
    ///
    /// `None` for INADEQUATE_SECURITY: no HTTP/3 code means PERMISSION_DENIED, and an unknown one would be read as no
    /// error, so its meaning has to travel as a gRPC status instead. A code that RFC 9113 does not name, like those
    /// that the proposal leaves out, is a [`Code::GENERAL_PROTOCOL_ERROR`].
    #[must_use]
    pub const fn from_h2_reason(reason: u32) -> Option<Self> {
        Some(match reason {
            0x0 => Self::NO_ERROR,
            0x2 => Self::INTERNAL_ERROR,
            0x4 => Self::SETTINGS_ERROR,
            0x6 => Self::FRAME_ERROR,
            0x7 => Self::REQUEST_REJECTED,
            0x8 => Self::REQUEST_CANCELLED,
            0xa => Self::CONNECT_ERROR,
            0xb => Self::EXCESSIVE_LOAD,
            0xc => return None,
            _ => Self::GENERAL_PROTOCOL_ERROR,
        })
    }

    /// The name that the RFC gives the code, if it is one of those above.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0x100 => "H3_NO_ERROR",
            0x101 => "H3_GENERAL_PROTOCOL_ERROR",
            0x102 => "H3_INTERNAL_ERROR",
            0x103 => "H3_STREAM_CREATION_ERROR",
            0x104 => "H3_CLOSED_CRITICAL_STREAM",
            0x105 => "H3_FRAME_UNEXPECTED",
            0x106 => "H3_FRAME_ERROR",
            0x107 => "H3_EXCESSIVE_LOAD",
            0x108 => "H3_ID_ERROR",
            0x109 => "H3_SETTINGS_ERROR",
            0x10a => "H3_MISSING_SETTINGS",
            0x10b => "H3_REQUEST_REJECTED",
            0x10c => "H3_REQUEST_CANCELLED",
            0x10d => "H3_REQUEST_INCOMPLETE",
            0x10e => "H3_MESSAGE_ERROR",
            0x10f => "H3_CONNECT_ERROR",
            0x110 => "H3_VERSION_FALLBACK",
            0x200 => "QPACK_DECOMPRESSION_FAILED",
            0x201 => "QPACK_ENCODER_STREAM_ERROR",
            0x202 => "QPACK_DECODER_STREAM_ERROR",
            _ => return None,
        })
    }
}

impl From<u64> for Code {
    fn from(code: u64) -> Self {
        Self(code)
    }
}

impl From<Code> for u64 {
    fn from(code: Code) -> Self {
        code.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({:#x})", self.0),
            None => write!(f, "unknown code {:#x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_name_and_number() {
        assert_eq!(Code(0x10c).to_string(), "H3_REQUEST_CANCELLED (0x10c)");
        assert_eq!(
            Code::QPACK_DECOMPRESSION_FAILED.to_string(),
            "QPACK_DECOMPRESSION_FAILED (0x200)"
        );
        assert_eq!(Code(0x21).to_string(), "unknown code 0x21");
    }

    #[test]
    fn every_code_of_the_rfcs_has_a_name() {
        for code in (0x100..=0x110).chain(0x200..=0x202) {
            assert!(Code(code).name().is_some(), "{code:#x}");
        }
        for code in [0, 0xff, 0x111, 0x1ff, 0x203, u64::MAX] {
            assert_eq!(Code(code).name(), None, "{code:#x}");
        }
    }

    #[test]
    fn maps_http2_codes_as_grpc_over_http3_does() {
        let expected = [
            (0x0, 0x100), // NO_ERROR
            (0x1, 0x101), // PROTOCOL_ERROR
            (0x2, 0x102), // INTERNAL_ERROR
            (0x3, 0x101), // FLOW_CONTROL_ERROR
            (0x4, 0x109), // SETTINGS_TIMEOUT
            (0x5, 0x101), // STREAM_CLOSED
            (0x6, 0x106), // FRAME_SIZE_ERROR
            (0x7, 0x10b), // REFUSED_STREAM
            (0x8, 0x10c), // CANCEL
            (0x9, 0x101), // COMPRESSION_ERROR
            (0xa, 0x10f), // CONNECT_ERROR
            (0xb, 0x107), // ENHANCE_YOUR_CALM
            (0xd, 0x101), // HTTP_1_1_REQUIRED
            (0xdead_beef, 0x101),
        ];
        for (reason, code) in expected {
            assert_eq!(Code::from_h2_reason(reason), Some(Code(code)), "{reason:#x}");
        }
        assert_eq!(Code::from_h2_reason(0xc), None); // INADEQUATE_SECURITY
    }
}
