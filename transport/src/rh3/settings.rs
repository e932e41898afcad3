//! SETTINGS (RFC 9114 §7.2.4): what each side tells the other once, at the start of its control stream.

use bytes::BufMut;

use super::code::Code;
use super::error::ProtocolError;
use super::frame::kind;
use super::varint;

/// The longest SETTINGS payload that is read. Eight settings are defined today; what is left is for those to come and
/// for the reserved ones that some peers send to keep others tolerant.
pub const MAX_SETTINGS_LEN: usize = 1024;

const QPACK_MAX_TABLE_CAPACITY: u64 = 0x01;
const MAX_FIELD_SECTION_SIZE: u64 = 0x06;
const QPACK_BLOCKED_STREAMS: u64 = 0x07;

/// The settings that matter here. All others are ignored, as RFC 9114 §7.2.4 demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// The largest field section that the sender of these settings accepts, in bytes: of names, of values, and 32 for
    /// each field (RFC 9114 §4.2.2). `None`: it named no limit.
    pub max_field_section_size: Option<u64>,
    /// The largest dynamic table, in bytes, that the sender keeps as a decoder. 0 is the default and what is sent here.
    pub qpack_max_table_capacity: u64,
    /// How many streams may wait for the dynamic table. 0 is the default and what is sent here.
    pub qpack_blocked_streams: u64,
}

impl Settings {
    /// The settings that are sent here: this limit on field sections, and no dynamic table.
    #[must_use]
    pub const fn new(max_field_section_size: u64) -> Self {
        Self {
            max_field_section_size: Some(max_field_section_size),
            qpack_max_table_capacity: 0,
            qpack_blocked_streams: 0,
        }
    }

    /// Reads the payload of a SETTINGS frame.
    ///
    /// # Errors
    /// A connection error: [`Code::FRAME_ERROR`] if the payload ends within a setting, [`Code::SETTINGS_ERROR`] if a
    /// setting appears twice or is one of those that only HTTP/2 has (RFC 9114 §7.2.4.1).
    pub fn decode(mut payload: &[u8]) -> Result<Self, ProtocolError> {
        let mut settings = Self::default();
        let mut seen = Vec::new();
        while !payload.is_empty() {
            let (Some(id), Some(value)) = (varint::get(&mut payload), varint::get(&mut payload)) else {
                return Err(ProtocolError::connection(
                    Code::FRAME_ERROR,
                    "SETTINGS ends within a setting",
                ));
            };
            // Linear, in a list that MAX_SETTINGS_LEN keeps short.
            if seen.contains(&id) {
                return Err(ProtocolError::connection(
                    Code::SETTINGS_ERROR,
                    format!("setting {id:#x} appears twice in SETTINGS"),
                ));
            }
            seen.push(id);
            match id {
                QPACK_MAX_TABLE_CAPACITY => settings.qpack_max_table_capacity = value,
                MAX_FIELD_SECTION_SIZE => settings.max_field_section_size = Some(value),
                QPACK_BLOCKED_STREAMS => settings.qpack_blocked_streams = value,
                0x02..=0x05 => {
                    return Err(ProtocolError::connection(
                        Code::SETTINGS_ERROR,
                        format!("setting {id:#x} exists in HTTP/2 only"),
                    ));
                }
                _ => {}
            }
        }
        Ok(settings)
    }

    /// Appends a SETTINGS frame, which has to be the first frame of a control stream.
    pub fn encode(&self, out: &mut impl BufMut) {
        let settings = [
            (QPACK_MAX_TABLE_CAPACITY, Some(self.qpack_max_table_capacity)),
            (MAX_FIELD_SECTION_SIZE, self.max_field_section_size),
            (QPACK_BLOCKED_STREAMS, Some(self.qpack_blocked_streams)),
        ];
        let given = settings.iter().filter_map(|&(id, value)| Some((id, value?)));
        let len: usize = given
            .clone()
            .map(|(id, value)| varint::len(id) + varint::len(value))
            .sum();
        varint::put(out, kind::SETTINGS);
        varint::put(out, len as u64);
        for (id, value) in given {
            varint::put(out, id);
            varint::put(out, value);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn are_written_as_a_whole_frame() {
        let mut out = Vec::new();
        Settings::new(128 << 10).encode(&mut out);
        assert_eq!(
            out,
            [0x04, 0x09, 0x01, 0x00, 0x06, 0x80, 0x02, 0x00, 0x00, 0x07, 0x00]
        );
    }

    #[test]
    fn unknown_ones_are_ignored() {
        // SETTINGS_ENABLE_CONNECT_PROTOCOL, SETTINGS_H3_DATAGRAM and a reserved one.
        let payload = [0x08, 0x01, 0x33, 0x01, 0x40, 0x40, 0x05, 0x06, 0x3f];
        let expected = Settings {
            max_field_section_size: Some(63),
            ..Settings::default()
        };
        assert_eq!(Settings::decode(&payload), Ok(expected));
        assert_eq!(Settings::decode(&[]), Ok(Settings::default()));
    }

    #[test]
    fn those_of_http2_and_repeated_ones_are_refused() {
        for payload in [
            [0x02, 0, 0x07, 0],
            [0x03, 0, 0x07, 0],
            [0x07, 0, 0x04, 0],
            [0x05, 1, 0x07, 0],
        ] {
            assert_eq!(Settings::decode(&payload).unwrap_err().code, Code::SETTINGS_ERROR);
        }
        for payload in [[0x07, 0, 0x07, 0], [0x21, 0, 0x21, 1]] {
            assert_eq!(Settings::decode(&payload).unwrap_err().code, Code::SETTINGS_ERROR);
        }
    }

    #[test]
    fn a_payload_cut_short_is_refused() {
        for payload in [&[0x06][..], &[0x06, 0x40], &[0x07, 0x00, 0x80]] {
            assert_eq!(Settings::decode(payload).unwrap_err().code, Code::FRAME_ERROR);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(size in prop::option::of(0..=varint::MAX), capacity in 0..=varint::MAX) {
            let settings = Settings {
                max_field_section_size: size,
                qpack_max_table_capacity: capacity,
                qpack_blocked_streams: capacity / 2,
            };
            let mut out = Vec::new();
            settings.encode(&mut out);
            let mut payload = &out[..];
            prop_assert_eq!(varint::get(&mut payload), Some(kind::SETTINGS));
            prop_assert_eq!(varint::get(&mut payload), Some(payload.len() as u64));
            prop_assert_eq!(Settings::decode(payload), Ok(settings));
        }

        #[test]
        fn arbitrary_bytes_never_panic(payload in prop::collection::vec(any::<u8>(), 0..MAX_SETTINGS_LEN)) {
            let _ = Settings::decode(&payload);
        }
    }
}
