//! The Huffman code of HPACK (RFC 7541 Appendix B), which QPACK uses as it is.
//!
//! The code is canonical: codes of one length are consecutive numbers in the order of their symbols, and go on where
//! those one bit shorter end. So the lengths alone define it, and the tables below are computed from them when this is
//! compiled. Codes of up to 9 bits, which is every letter, digit and most punctuation, are decoded by a single
//! lookup; a longer one is found by comparing with the first code of each length.

use bytes::BytesMut;

use super::decode::QpackError;

/// The symbol that stands for the end of the string. It must never be encoded: only the beginning of its code, as
/// padding (RFC 7541 §5.2).
const EOS: usize = 256;

/// The length in bits of the code of each byte, and of [`EOS`].
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, // 0x00
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, // 0x10
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6, // 0x20
     5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10, // 0x30
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7, // 0x40
     7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6, // 0x50
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5, // 0x60
     6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28, // 0x70
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, // 0x80
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, // 0x90
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, // 0xa0
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, // 0xb0
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, // 0xc0
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, // 0xd0
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, // 0xe0
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, // 0xf0
    30, // EOS
];

/// The longest code.
const MAX_BITS: usize = 30;

/// The shortest code.
const MIN_BITS: usize = 5;

/// Codes up to this long are decoded by [`SHORT`]. The table takes 1 KiB, and stays in the fastest cache.
const SHORT_BITS: usize = 9;

/// What each sequence of [`SHORT_BITS`] begins with: length in the high byte, symbol in the low one; 0 if the code is
/// longer.
static SHORT: [u16; 1 << SHORT_BITS] = CODE.short;

/// The codes of each length.
static LONG: [Group; MAX_BITS + 1] = CODE.groups;

/// The symbols in the order of their codes.
static SYMBOLS: [u16; 257] = CODE.symbols;

const CODE: Code = Code::from_lengths();

struct Code {
    short: [u16; 1 << SHORT_BITS],
    groups: [Group; MAX_BITS + 1],
    symbols: [u16; 257],
}

/// The codes of one length.
#[derive(Clone, Copy)]
struct Group {
    /// The first of them.
    first: u32,
    /// The first code, aligned to the top of 32 bits, that is longer than these; `u32::MAX` where there is none.
    end: u32,
    /// Where their symbols begin in [`SYMBOLS`].
    offset: u16,
}

impl Code {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "evaluated when compiled: an index below 257"
    )]
    const fn from_lengths() -> Self {
        let mut code = Self {
            short: [0; 1 << SHORT_BITS],
            groups: [Group {
                first: 0,
                end: 0,
                offset: 0,
            }; MAX_BITS + 1],
            symbols: [0; 257],
        };
        let mut next: u32 = 0;
        let mut offset = 0;
        let mut bits = 1;
        while bits <= MAX_BITS {
            next <<= 1;
            code.groups[bits].first = next;
            code.groups[bits].offset = offset as u16;
            let mut symbol = 0;
            while symbol <= EOS {
                if LENGTHS[symbol] as usize == bits {
                    if bits <= SHORT_BITS {
                        let mut slot = (next as usize) << (SHORT_BITS - bits);
                        let end = (next as usize + 1) << (SHORT_BITS - bits);
                        while slot < end {
                            code.short[slot] = (bits as u16) << 8 | symbol as u16;
                            slot += 1;
                        }
                    }
                    code.symbols[offset] = symbol as u16;
                    offset += 1;
                    next += 1;
                }
                symbol += 1;
            }
            // After the last code there is none: the shift would overflow.
            code.groups[bits].end = if next == 1 << bits {
                u32::MAX
            } else {
                next << (32 - bits)
            };
            bits += 1;
        }
        code
    }
}

/// The most bytes that `len` encoded ones can decode to.
#[must_use]
pub const fn max_decoded_len(len: usize) -> usize {
    len.saturating_mul(8) / MIN_BITS
}

/// Decodes `encoded`, appending to `out`, which grows by no more than [`max_decoded_len`].
///
/// # Errors
/// [`QpackError::Huffman`] if the string contains the symbol EOS, or ends in padding that is longer than 7 bits or is not
/// the beginning of its code (RFC 7541 §5.2). What `out` has gained is then of no use.
pub fn decode(encoded: &[u8], out: &mut BytesMut) -> Result<(), QpackError> {
    let start = out.len();
    out.resize(start + max_decoded_len(encoded.len()), 0);
    let written = decode_into(encoded, &mut out[start..])?;
    out.truncate(start + written);
    Ok(())
}

/// Decodes into `out`, which is long enough, and returns how much of it was written.
fn decode_into(encoded: &[u8], out: &mut [u8]) -> Result<usize, QpackError> {
    let mut written = 0;
    let mut input = encoded.iter();
    // The bits that are not decoded yet, from the top; below the lowest of them are zeros.
    let mut window: u64 = 0;
    let mut available: usize = 0;
    loop {
        if available < MAX_BITS {
            while available <= 56
                && let Some(&byte) = input.next()
            {
                window |= u64::from(byte) << (56 - available);
                available += 8;
            }
        }
        let entry = SHORT[(window >> (64 - SHORT_BITS)) as usize];
        let (symbol, bits) = if entry != 0 {
            (entry & 0xff, usize::from(entry >> 8))
        } else {
            decode_long((window >> 32) as u32)
        };
        if bits > available {
            break;
        }
        let Some(slot) = out.get_mut(written) else {
            return Err(QpackError::Huffman);
        };
        *slot = u8::try_from(symbol).map_err(|_| QpackError::Huffman)?;
        written += 1;
        window <<= bits;
        available -= bits;
    }
    // What remains is not a code; as padding it has to be fewer than 8 bits, all of them 1 like those of EOS.
    if available < 8 && window == !(u64::MAX >> available) {
        Ok(written)
    } else {
        Err(QpackError::Huffman)
    }
}

/// The symbol and the length of the code, longer than [`SHORT_BITS`], that `window` begins with.
fn decode_long(window: u32) -> (u16, usize) {
    let mut bits = SHORT_BITS + 1;
    while bits < MAX_BITS && window >= LONG[bits].end {
        bits += 1;
    }
    let group = &LONG[bits];
    let index = usize::from(group.offset) + ((window >> (32 - bits)) - group.first) as usize;
    (SYMBOLS[index], bits)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::cast_possible_truncation,
        reason = "tests fail by panicking"
    )]

    use proptest::prelude::*;

    use super::*;

    /// Every code, found in another way than the tables: by length and symbol, each is the one before it plus one.
    fn codes() -> Vec<(u32, usize)> {
        let mut order: Vec<usize> = (0..=EOS).collect();
        order.sort_by_key(|&symbol| (LENGTHS[symbol], symbol));
        let mut codes = vec![(0, 0); EOS + 1];
        let (mut code, mut bits) = (0_u32, usize::from(LENGTHS[order[0]]));
        for symbol in order {
            let length = usize::from(LENGTHS[symbol]);
            code <<= length - bits;
            bits = length;
            codes[symbol] = (code, bits);
            code += 1;
        }
        codes
    }

    fn bits_of(code: u32, length: usize) -> impl Iterator<Item = bool> {
        (0..length).rev().map(move |bit| code >> bit & 1 == 1)
    }

    /// Bits in bytes, the last of them padded with ones.
    fn pack(mut bits: Vec<bool>) -> Vec<u8> {
        while !bits.len().is_multiple_of(8) {
            bits.push(true);
        }
        bits.chunks(8)
            .map(|byte| byte.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit)))
            .collect()
    }

    fn encode(bytes: &[u8]) -> Vec<u8> {
        let codes = codes();
        let symbols = bytes.iter().map(|&byte| codes[usize::from(byte)]);
        pack(symbols.flat_map(|(code, bits)| bits_of(code, bits)).collect())
    }

    /// Bit by bit, as the RFC describes the code.
    fn decode_slowly(encoded: &[u8]) -> Result<Vec<u8>, QpackError> {
        let codes = codes();
        let mut decoded = Vec::new();
        let (mut code, mut bits) = (0_u32, 0);
        for bit in encoded.iter().flat_map(|&byte| bits_of(u32::from(byte), 8)) {
            code = code << 1 | u32::from(bit);
            bits += 1;
            if let Some(symbol) = codes.iter().position(|&known| known == (code, bits)) {
                decoded.push(u8::try_from(symbol).map_err(|_| QpackError::Huffman)?);
                (code, bits) = (0, 0);
            }
        }
        let is_padding = bits < 8 && code == (1 << bits) - 1;
        if is_padding {
            Ok(decoded)
        } else {
            Err(QpackError::Huffman)
        }
    }

    fn decoded(encoded: &[u8]) -> Result<Vec<u8>, QpackError> {
        let mut out = BytesMut::new();
        decode(encoded, &mut out).map(|()| out.to_vec())
    }

    /// Codes from the list in RFC 7541 Appendix B, the shortest and the longest among them.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let codes = codes();
        for (symbol, code) in [
            (0, (0x1ff8, 13)),
            (1, (0x007f_ffd8, 23)),
            (10, (0x3fff_fffc, 30)),
            (22, (0x3fff_fffe, 30)),
            (32, (0x14, 6)),
            (48, (0x0, 5)),
            (92, (0x7fff0, 19)),
            (97, (0x3, 5)),
            (122, (0x7b, 7)),
            (249, (0x0fff_fffe, 28)),
            (255, (0x03ff_ffee, 26)),
            (EOS, (0x3fff_ffff, 30)),
        ] {
            assert_eq!(codes[symbol], code, "symbol {symbol}");
        }
    }

    /// The strings of RFC 7541 Appendix C.4 and C.6.
    #[test]
    fn strings_of_the_rfc() {
        let strings: [(&[u8], &[u8]); 9] = [
            (
                b"www.example.com",
                b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
            ),
            (b"no-cache", b"\xa8\xeb\x10\x64\x9c\xbf"),
            (b"custom-key", b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f"),
            (b"custom-value", b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf"),
            (b"302", b"\x64\x02"),
            (b"private", b"\xae\xc3\x77\x1a\x4b"),
            (
                b"Mon, 21 Oct 2013 20:13:21 GMT",
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
            ),
            (
                b"https://www.example.com",
                b"\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3",
            ),
            (
                b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
                b"\x94\xe7\x82\x1d\xd7\xf2\xe6\xc7\xb3\x35\xdf\xdf\xcd\x5b\x39\x60\xd5\xaf\x27\x08\
                  \x7f\x36\x72\xc1\xab\x27\x0f\xb5\x29\x1f\x95\x87\x31\x60\x65\xc0\x03\xed\x4e\xe5\
                  \xb1\x06\x3d\x50\x07",
            ),
        ];
        for (text, bytes) in strings {
            assert_eq!(decoded(bytes).unwrap(), text);
            assert_eq!(encode(text), bytes);
        }
    }

    #[test]
    fn every_byte_is_decoded_at_every_position_in_a_byte() {
        for byte in 0..=u8::MAX {
            for before in 0..8 {
                let mut text = vec![b'0'; before];
                text.extend([byte, b'a', byte]);
                assert_eq!(decoded(&encode(&text)).unwrap(), text);
            }
        }
    }

    #[test]
    fn padding_is_the_beginning_of_eos_and_no_longer_than_7_bits() {
        assert_eq!(decoded(&[]).unwrap(), b"");
        assert_eq!(decoded(&[0b0001_1111]).unwrap(), b"a");
        // Zeros, a zero at the end, and a whole byte of ones.
        for bytes in [&[0b0001_1000][..], &[0b0001_1110], &[0b0001_1111, 0xff], &[0xff]] {
            assert_eq!(decoded(bytes), Err(QpackError::Huffman), "{bytes:x?}");
        }
    }

    #[test]
    fn eos_is_refused_wherever_it_stands() {
        let codes = codes();
        let (eos, a) = (codes[EOS], codes[usize::from(b'a')]);
        for symbols in [vec![eos], vec![a, eos], vec![eos, a], vec![a, a, a, eos, a, a]] {
            let bits = symbols.iter().flat_map(|&(code, bits)| bits_of(code, bits));
            assert_eq!(decoded(&pack(bits.collect())), Err(QpackError::Huffman));
        }
    }

    #[test]
    fn what_was_there_stays() {
        let mut out = BytesMut::from(&b"before "[..]);
        decode(&encode(b"after"), &mut out).unwrap();
        assert_eq!(out, "before after");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text: Vec<u8>) {
            let encoded = encode(&text);
            prop_assert!(text.len() <= max_decoded_len(encoded.len()));
            prop_assert_eq!(decoded(&encoded), Ok(text));
        }

        #[test]
        fn any_bytes_are_decoded_as_they_are_bit_by_bit(
            mut bytes in prop::collection::vec(any::<u8>(), 0..50),
            ones in 0usize..6,
        ) {
            // Long runs of ones, which arbitrary bytes hardly have, lead to the longest codes.
            let middle = bytes.len() / 2;
            bytes.splice(middle..middle, std::iter::repeat_n(0xff, ones));
            prop_assert_eq!(decoded(&bytes), decode_slowly(&bytes));
        }
    }
}
