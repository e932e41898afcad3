//! QPACK's own two streams (RFC 9204 §4.3, §4.4), on which a dynamic table of capacity 0 leaves nothing to say.

use super::int;
use crate::rh3::code::Code;
use crate::rh3::error::ProtocolError;

/// Checks bytes of the peer's encoder stream, as they come.
///
/// The only instruction that a capacity of 0 permits is Set Dynamic Table Capacity to 0 (RFC 9204 §3.2.3, §4.3.1), and
/// that is the single byte 0x20: so every byte can be judged by itself.
///
/// # Errors
/// A connection error, [`Code::QPACK_ENCODER_STREAM_ERROR`], at any other instruction.
pub fn check_encoder_instructions(bytes: &[u8]) -> Result<(), ProtocolError> {
    let Some(&byte) = bytes.iter().find(|&&byte| byte != 0b0010_0000) else {
        return Ok(());
    };
    let instruction = match byte {
        0b1000_0000.. => "Insert with Name Reference",
        0b0100_0000.. => "Insert with Literal Name",
        0b0010_0000.. => "Set Dynamic Table Capacity to more than 0",
        _ => "Duplicate",
    };
    Err(ProtocolError::connection(
        Code::QPACK_ENCODER_STREAM_ERROR,
        format!("received {instruction}, but the dynamic table capacity that was offered is 0"),
    ))
}

/// Checks the peer's decoder stream.
///
/// Nothing is ever inserted, so nothing can be acknowledged; a Stream Cancellation is permitted for any stream, and
/// means nothing (RFC 9204 §2.2.2.2).
#[derive(Debug, Default)]
pub struct DecoderInstructions {
    /// How many bytes of a Stream Cancellation have come, whose end is missing.
    partial: usize,
}

impl DecoderInstructions {
    /// Checks the next bytes of the stream.
    ///
    /// # Errors
    /// A connection error, [`Code::QPACK_DECODER_STREAM_ERROR`], at any instruction but a Stream Cancellation, or at
    /// one whose stream id is too long.
    pub fn check(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        for &byte in bytes {
            let ends = if self.partial > 0 {
                byte & 0x80 == 0
            } else {
                match byte {
                    0b1000_0000.. => return Err(unexpected("Section Acknowledgment")),
                    0b0100_0000.. => byte & 0b0011_1111 != 0b0011_1111,
                    _ => return Err(unexpected("Insert Count Increment")),
                }
            };
            self.partial = if ends { 0 } else { self.partial + 1 };
            if self.partial == int::MAX_LEN {
                return Err(ProtocolError::connection(
                    Code::QPACK_DECODER_STREAM_ERROR,
                    "the stream id of a Stream Cancellation is longer than 62 bits",
                ));
            }
        }
        Ok(())
    }
}

fn unexpected(instruction: &str) -> ProtocolError {
    ProtocolError::connection(
        Code::QPACK_DECODER_STREAM_ERROR,
        format!("received {instruction}, but nothing was inserted into the dynamic table"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;
    use crate::rh3::error::Scope;

    #[test]
    fn only_capacity_0_may_be_said_to_a_decoder_without_a_table() {
        assert_eq!(check_encoder_instructions(&[]), Ok(()));
        assert_eq!(check_encoder_instructions(&[0x20, 0x20]), Ok(()));
        for (bytes, instruction) in [
            // RFC 9204 Appendix B.2 to B.4: capacity 220, inserts, a duplicate.
            (&[0x3f, 0xbd, 0x01][..], "Set Dynamic Table Capacity"),
            (&[0x21], "Set Dynamic Table Capacity"),
            (&[0xc0, 0x0f], "Insert with Name Reference"),
            (&[0x4a], "Insert with Literal Name"),
            (&[0x02], "Duplicate"),
            (&[0x20, 0x00], "Duplicate"),
        ] {
            let error = check_encoder_instructions(bytes).unwrap_err();
            assert_eq!(error.code, Code::QPACK_ENCODER_STREAM_ERROR);
            assert_eq!(error.scope, Scope::Connection);
            assert!(error.reason.contains(instruction), "{error}");
        }
    }

    #[test]
    fn only_cancellations_may_be_said_to_an_encoder_without_a_table() {
        // Streams 8 (RFC 9204 Appendix B.4), 62, 63, and 2^62 − 1.
        let mut accepted = vec![0x48, 0x7e, 0x7f, 0x00, 0x7f];
        accepted.extend([0xc0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f]);
        accepted.push(0x48);
        let mut decoder = DecoderInstructions::default();
        decoder.check(&accepted).unwrap();
        for (byte, instruction) in [
            (0x84, "Section Acknowledgment"),
            (0x01, "Insert Count Increment"),
            (0x00, "Insert Count Increment"),
        ] {
            let error = DecoderInstructions::default().check(&[0x48, byte]).unwrap_err();
            assert_eq!(error.code, Code::QPACK_DECODER_STREAM_ERROR);
            assert_eq!(error.scope, Scope::Connection);
            assert!(error.reason.contains(instruction), "{error}");
        }
    }

    #[test]
    fn a_stream_id_without_an_end_is_refused() {
        let mut endless = vec![0x7f];
        endless.resize(int::MAX_LEN, 0x80);
        let mut decoder = DecoderInstructions::default();
        decoder.check(&endless[..int::MAX_LEN - 1]).unwrap();
        let error = decoder.check(&endless[int::MAX_LEN - 1..]).unwrap_err();
        assert_eq!(error.code, Code::QPACK_DECODER_STREAM_ERROR);
    }

    proptest! {
        #[test]
        fn chunks_may_end_anywhere(ids in prop::collection::vec(0u64..1 << 40, 0..8), size in 1usize..8) {
            let mut bytes = Vec::new();
            for id in ids {
                int::put(&mut bytes, 0b0100_0000, 6, id);
            }
            let mut decoder = DecoderInstructions::default();
            for chunk in bytes.chunks(size) {
                prop_assert_eq!(decoder.check(chunk), Ok(()));
            }
        }

        #[test]
        fn arbitrary_bytes_are_judged_alike_in_any_chunks(bytes: Vec<u8>, size in 1usize..8) {
            let whole = DecoderInstructions::default().check(&bytes);
            let mut decoder = DecoderInstructions::default();
            let chunked = bytes.chunks(size).try_for_each(|chunk| decoder.check(chunk));
            prop_assert_eq!(whole, chunked);
        }
    }
}
