//! Integers with a prefix of 3 to 8 bits (RFC 7541 §5.1, RFC 9204 §4.1.1).

use bytes::BufMut;

use super::decode::QpackError;
use crate::rh3::varint;

/// The most bytes that an integer is read from, its prefix included: 62 bits need nine behind the prefix, and what is
/// longer is padding.
pub const MAX_LEN: usize = 10;

/// Reads the integer whose prefix is the low `prefix_bits` of the first byte of `bytes`: its value, and how many bytes
/// it took.
///
/// # Errors
/// [`QpackError::Truncated`] if `bytes` ends within the integer; [`QpackError::IntegerOverflow`] if it takes more than
/// [`MAX_LEN`] bytes or exceeds 62 bits, the largest that RFC 9204 §4.1.1 asks a decoder to read.
pub fn decode(bytes: &[u8], prefix_bits: u32) -> Result<(u64, usize), QpackError> {
    let mask = u8::MAX >> (8 - prefix_bits);
    let Some((&first, rest)) = bytes.split_first() else {
        return Err(QpackError::Truncated);
    };
    let prefix = first & mask;
    if prefix < mask {
        return Ok((u64::from(prefix), 1));
    }
    let mut value = u64::from(mask);
    let mut shift = 0;
    for (index, &byte) in rest.iter().take(MAX_LEN - 1).enumerate() {
        // Nine bytes carry 63 bits: the shift cannot overflow, and the sum stays below 2^64.
        value += u64::from(byte & 0x7f) << shift;
        if value > varint::MAX {
            return Err(QpackError::IntegerOverflow);
        }
        if byte & 0x80 == 0 {
            return Ok((value, index + 2));
        }
        shift += 7;
    }
    if rest.len() < MAX_LEN - 1 {
        Err(QpackError::Truncated)
    } else {
        Err(QpackError::IntegerOverflow)
    }
}

/// Appends `value` with a prefix of `prefix_bits`; `flags` are the bits above it.
pub fn put(out: &mut impl BufMut, flags: u8, prefix_bits: u32, value: u64) {
    let mask = u8::MAX >> (8 - prefix_bits);
    debug_assert_eq!(flags & mask, 0, "flags reach into the prefix");
    match u8::try_from(value) {
        Ok(value) if value < mask => out.put_u8(flags | value),
        _ => put_long(out, flags | mask, value - u64::from(mask)),
    }
}

#[cold]
fn put_long(out: &mut impl BufMut, first: u8, mut rest: u64) {
    out.put_u8(first);
    while rest >= 0x80 {
        out.put_u8(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.put_u8((rest & 0x7f) as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn encoded(flags: u8, prefix_bits: u32, value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, flags, prefix_bits, value);
        out
    }

    /// RFC 7541 Appendix C.1.
    #[test]
    fn examples_of_the_rfc() {
        for (value, prefix_bits, bytes) in [
            (10, 5, &[0x0a][..]),
            (1337, 5, &[0x1f, 0x9a, 0x0a]),
            (42, 8, &[0x2a]),
        ] {
            assert_eq!(encoded(0, prefix_bits, value), bytes);
            assert_eq!(decode(bytes, prefix_bits), Ok((value, bytes.len())));
        }
    }

    #[test]
    fn the_prefix_is_told_from_the_bits_above_it() {
        assert_eq!(encoded(0b1110_0000, 5, 30), [0b1111_1110]);
        assert_eq!(encoded(0b1110_0000, 5, 31), [0b1111_1111, 0]);
        assert_eq!(decode(&[0b1111_1110], 5), Ok((30, 1)));
        assert_eq!(decode(&[0b1111_1111, 0], 5), Ok((31, 2)));
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_overflows() {
        assert_eq!(encoded(0, 3, varint::MAX).len(), MAX_LEN);
        assert_eq!(decode(&encoded(0, 3, varint::MAX), 3), Ok((varint::MAX, MAX_LEN)));
        assert_eq!(
            decode(&encoded(0, 3, varint::MAX + 1), 3),
            Err(QpackError::IntegerOverflow)
        );
        // Zeros without end, and ones.
        let mut padded = vec![0x80; 100];
        padded[0] = 0x07;
        assert_eq!(decode(&padded, 3), Err(QpackError::IntegerOverflow));
        assert_eq!(decode(&[0xff; 100], 3), Err(QpackError::IntegerOverflow));
    }

    #[test]
    fn padding_with_zeros_is_accepted() {
        assert_eq!(decode(&[0x1f, 0x80, 0x80, 0x00], 5), Ok((31, 4)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            value in 0..=varint::MAX,
            shift in 0u32..62,
            prefix_bits in 3u32..=8,
            rest: Vec<u8>,
        ) {
            let value = value >> shift;
            let mut bytes = encoded(0, prefix_bits, value);
            for cut in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..cut], prefix_bits), Err(QpackError::Truncated));
            }
            let len = bytes.len();
            prop_assert!(len <= MAX_LEN);
            bytes.extend(rest);
            prop_assert_eq!(decode(&bytes, prefix_bits), Ok((value, len)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, prefix_bits in 3u32..=8) {
            if let Ok((value, len)) = decode(&bytes, prefix_bits) {
                prop_assert!(value <= varint::MAX && len <= bytes.len());
            }
        }
    }
}
