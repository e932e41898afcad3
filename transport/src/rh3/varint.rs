//! QUIC's variable-length integers (RFC 9000 §16): 62 bits in 1, 2, 4 or 8 bytes, the length in the top two bits.

use bytes::{Buf as _, BufMut, Bytes};

/// The largest value that has an encoding: 2^62 − 1.
pub const MAX: u64 = (1 << 62) - 1;

/// The most bytes that an encoding takes.
pub const MAX_LEN: usize = 8;

/// How many bytes the shortest encoding of `value` takes.
///
/// A value above [`MAX`] has no encoding and counts as [`MAX`], as [`put`] writes it.
#[must_use]
pub const fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Appends the shortest encoding of `value`.
///
/// A value above [`MAX`] has no encoding, and is written as [`MAX`].
pub fn put(out: &mut impl BufMut, value: u64) {
    put_with_len(out, value, len(value));
}

/// Appends `value` in `len` bytes, which may be more than it needs (RFC 9000 §16 permits that) and must not be fewer.
/// What it leaves open is for a length that is written before what it measures.
pub fn put_with_len(out: &mut impl BufMut, value: u64, len: usize) {
    debug_assert!(
        len >= self::len(value),
        "{value} does not fit a varint of {len} bytes"
    );
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the caller's length says that the value fits"
    )]
    match len {
        1 => out.put_u8(value as u8),
        2 => out.put_u16(0x4000 | value as u16),
        4 => out.put_u32(0x8000_0000 | value as u32),
        _ => out.put_u64(0xc000_0000_0000_0000 | value.min(MAX)),
    }
}

/// How many bytes the encoding takes that begins with `first`: 1, 2, 4 or 8.
#[must_use]
pub const fn len_from_first(first: u8) -> usize {
    1 << (first >> 6)
}

/// Takes the integer off the front of `bytes`, or leaves them alone and returns `None` if its end is not there.
///
/// Longer encodings than necessary are accepted, as RFC 9000 §16 has it.
pub fn get(bytes: &mut &[u8]) -> Option<u64> {
    let len = len_from_first(*bytes.first()?);
    let (encoded, rest) = bytes.split_at_checked(len)?;
    let mut value = u64::from(encoded[0] & 0x3f);
    for &byte in &encoded[1..] {
        value = value << 8 | u64::from(byte);
    }
    *bytes = rest;
    Some(value)
}

/// Reads one integer that may come in several chunks.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: [u8; MAX_LEN],
    len: usize,
}

impl Decoder {
    /// Takes the integer, or as much of it as is there, off the front of `chunk`. When it returns the integer it is
    /// ready for the next one.
    pub fn take(&mut self, chunk: &mut Bytes) -> Option<u64> {
        if self.len == 0 {
            let mut rest: &[u8] = chunk;
            if let Some(value) = get(&mut rest) {
                chunk.advance(chunk.len() - rest.len());
                return Some(value);
            }
        }
        // Part of the encoding came before, or is still to come.
        while let Some(&byte) = chunk.first() {
            chunk.advance(1);
            self.bytes[self.len] = byte;
            self.len += 1;
            if self.len == len_from_first(self.bytes[0]) {
                self.len = 0;
                return get(&mut &self.bytes[..]);
            }
        }
        None
    }

    /// Whether a part of an integer was taken and the rest of it is missing.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.len > 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;

    /// RFC 9000 Appendix A.1.
    #[test]
    fn reads_the_examples_of_the_rfc() {
        let examples: [(&[u8], u64); 5] = [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ];
        for (mut bytes, value) in examples {
            assert_eq!(get(&mut bytes), Some(value));
            assert!(bytes.is_empty());
        }
    }

    #[test]
    fn lengths_change_at_the_powers_of_two() {
        for (value, expected) in [
            (0, 1),
            (63, 1),
            (64, 2),
            (16_383, 2),
            (16_384, 4),
            ((1 << 30) - 1, 4),
            (1 << 30, 8),
            (MAX, 8),
        ] {
            assert_eq!(len(value), expected, "{value}");
        }
    }

    #[test]
    fn a_value_beyond_the_largest_is_written_as_the_largest() {
        let mut out = Vec::new();
        put(&mut out, u64::MAX);
        assert_eq!(get(&mut &out[..]), Some(MAX));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            bits in 0..=MAX,
            shift in 0u32..62,
            longer in 0usize..4,
            rest: Vec<u8>,
        ) {
            let value = bits >> shift;
            let written = (len(value) << longer).min(MAX_LEN);
            let mut out = Vec::new();
            put_with_len(&mut out, value, written);
            prop_assert_eq!(out.len(), written);
            for cut in 0..written {
                let mut short = &out[..cut];
                prop_assert_eq!(get(&mut short), None);
                prop_assert_eq!(short.len(), cut);
            }
            out.extend_from_slice(&rest);
            let mut bytes = &out[..];
            prop_assert_eq!(get(&mut bytes), Some(value));
            prop_assert_eq!(bytes, &rest[..]);
        }

        #[test]
        fn chunks_may_end_anywhere(values in prop::collection::vec(0..=MAX, 1..8), size in 1usize..10) {
            let mut out = Vec::new();
            for value in &values {
                put(&mut out, value >> (value % 62));
            }
            let mut decoder = Decoder::default();
            let mut read = Vec::new();
            for chunk in out.chunks(size) {
                let mut chunk = Bytes::copy_from_slice(chunk);
                while let Some(value) = decoder.take(&mut chunk) {
                    read.push(value);
                }
                prop_assert!(chunk.is_empty());
            }
            prop_assert!(!decoder.is_partial());
            let expected: Vec<_> = values.iter().map(|value| value >> (value % 62)).collect();
            prop_assert_eq!(read, expected);
        }
    }
}
