//! Reading the field lines of a field section (RFC 9204 §4.5).

use bytes::{Bytes, BytesMut};

use super::static_table::{self, Entry};
use super::{huffman, int};
use crate::rh3::code::Code;
use crate::rh3::error::ProtocolError;

/// Why a field section cannot be read. All of these end the connection, with [`Code::QPACK_DECOMPRESSION_FAILED`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QpackError {
    /// The section ends within an integer or a string.
    #[error("the field section ends within a field line")]
    Truncated,
    /// An integer of more than 62 bits or ten bytes.
    #[error("a QPACK integer is longer than 62 bits")]
    IntegerOverflow,
    /// The section depends on entries of the dynamic table, which has none.
    #[error("the field section requires {0} dynamic table entries, but the capacity that was offered is 0")]
    RequiredInsertCount(u64),
    /// The Base of the section is below 0.
    #[error("the Base of the field section is negative")]
    NegativeBase,
    /// A field line refers to the dynamic table, which has no entries.
    #[error("a field line refers to the dynamic table, but the capacity that was offered is 0")]
    DynamicReference,
    /// A field line refers to an entry that the static table does not have.
    #[error("a field line refers to static table entry {0}, but the last one is {last}", last = static_table::LEN - 1)]
    StaticIndex(u64),
    /// A Huffman-coded string contains EOS, or is padded with anything but up to 7 bits of it.
    #[error("a Huffman-coded string contains EOS or is padded wrongly")]
    Huffman,
}

impl From<QpackError> for ProtocolError {
    fn from(error: QpackError) -> Self {
        Self::connection(Code::QPACK_DECOMPRESSION_FAILED, error.to_string())
    }
}

/// A field line. Whether names and values are valid in HTTP is not decided here.
#[derive(Debug)]
pub enum FieldLine<'a> {
    /// Name and value are those of a static table entry.
    Indexed(&'static Entry),
    /// The name is that of a static table entry.
    NameReference {
        /// The entry; its value means nothing here.
        entry: &'static Entry,
        /// The value.
        value: Bytes,
        /// Whether the field must stay a literal on every further hop (RFC 9204 §7.1.3).
        never_indexed: bool,
    },
    /// The name is spelled out.
    Literal {
        /// The name.
        name: &'a [u8],
        /// The value.
        value: Bytes,
        /// Whether the field must stay a literal on every further hop (RFC 9204 §7.1.3).
        never_indexed: bool,
    },
}

/// The field lines of one field section, in order.
///
/// Values are slices of the section, and keep its memory for as long as they live. Those that were Huffman-coded share
/// one more allocation, of at most 8/5 of the section's length.
#[derive(Debug)]
pub struct FieldLines {
    section: Bytes,
    position: usize,
    /// The last name that was Huffman-coded.
    name: BytesMut,
    /// Where Huffman-coded values are decoded to.
    values: BytesMut,
}

impl FieldLines {
    /// Reads the prefix of `section`, the payload of a HEADERS frame.
    ///
    /// # Errors
    /// If there is no whole prefix, or it says that the section needs the dynamic table.
    pub fn new(section: Bytes) -> Result<Self, QpackError> {
        let (required, first) = int::decode(&section, 8)?;
        if required != 0 {
            // Whatever the encoding of a count that is not 0 (RFC 9204 §4.5.1.1), no insertion can have happened.
            return Err(QpackError::RequiredInsertCount(required));
        }
        let rest = &section[first..];
        let (_, second) = int::decode(rest, 7)?;
        if rest.first().is_some_and(|byte| byte & 0x80 != 0) {
            return Err(QpackError::NegativeBase);
        }
        // Any other Base is permitted where nothing refers to it (RFC 9204 §4.5.1.2).
        Ok(Self {
            position: first + second,
            section,
            name: BytesMut::new(),
            values: BytesMut::new(),
        })
    }

    /// The next field line, or `None` at the end of the section.
    ///
    /// # Errors
    /// If the line is cut short, refers to what does not exist, or has a bad Huffman code. There is no going on
    /// after that.
    pub fn next_line(&mut self) -> Result<Option<FieldLine<'_>>, QpackError> {
        let Some(&first) = self.section.get(self.position) else {
            return Ok(None);
        };
        if first & 0b1000_0000 != 0 {
            return Ok(Some(FieldLine::Indexed(self.entry(first & 0b0100_0000 != 0, 6)?)));
        }
        if first & 0b0100_0000 != 0 {
            let entry = self.entry(first & 0b0001_0000 != 0, 4)?;
            let value = self.value()?;
            return Ok(Some(FieldLine::NameReference {
                entry,
                value,
                never_indexed: first & 0b0010_0000 != 0,
            }));
        }
        if first & 0b0010_0000 == 0 {
            // An index or a name reference that counts from the Base: there are only dynamic ones.
            return Err(QpackError::DynamicReference);
        }
        let (start, end) = self.string(3)?;
        let huffman = first & 0b0000_1000 != 0;
        if huffman {
            self.name.clear();
            huffman::decode(&self.section[start..end], &mut self.name)?;
        }
        let value = self.value()?;
        Ok(Some(FieldLine::Literal {
            name: if huffman {
                &self.name
            } else {
                &self.section[start..end]
            },
            value,
            never_indexed: first & 0b0001_0000 != 0,
        }))
    }

    /// The table entry whose index has a prefix of `prefix_bits`.
    fn entry(&mut self, is_static: bool, prefix_bits: u32) -> Result<&'static Entry, QpackError> {
        let (index, len) = int::decode(&self.section[self.position..], prefix_bits)?;
        if !is_static {
            return Err(QpackError::DynamicReference);
        }
        self.position += len;
        static_table::get(index).ok_or(QpackError::StaticIndex(index))
    }

    /// The string literal whose length has a prefix of 7 bits, decoded.
    fn value(&mut self) -> Result<Bytes, QpackError> {
        let huffman = self
            .section
            .get(self.position)
            .is_some_and(|byte| byte & 0b1000_0000 != 0);
        let (start, end) = self.string(7)?;
        if !huffman {
            return Ok(self.section.slice(start..end));
        }
        if self.values.capacity() == 0 {
            // Room for all the values that can follow, so that nothing is allocated again.
            self.values
                .reserve(huffman::max_decoded_len(self.section.len() - start));
        }
        huffman::decode(&self.section[start..end], &mut self.values)?;
        Ok(self.values.split().freeze())
    }

    /// Where the string is, still encoded, whose length has a prefix of `prefix_bits`; goes on behind it.
    fn string(&mut self, prefix_bits: u32) -> Result<(usize, usize), QpackError> {
        let (len, int_len) = int::decode(&self.section[self.position..], prefix_bits)?;
        let start = self.position + int_len;
        let end = usize::try_from(len)
            .ok()
            .and_then(|len| start.checked_add(len))
            .filter(|&end| end <= self.section.len())
            .ok_or(QpackError::Truncated)?;
        self.position = end;
        Ok((start, end))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;
    use crate::rh3::qpack::encode;

    /// Name, value and whether it is never indexed, of each line.
    type Lines = Vec<(Vec<u8>, Vec<u8>, bool)>;

    fn lines(section: &[u8]) -> Result<Lines, QpackError> {
        let mut lines = FieldLines::new(Bytes::copy_from_slice(section))?;
        let mut read = Vec::new();
        while let Some(line) = lines.next_line()? {
            read.push(match line {
                FieldLine::Indexed(entry) => (entry.name.as_str().into(), entry.text.into(), false),
                FieldLine::NameReference {
                    entry,
                    value,
                    never_indexed,
                } => (entry.name.as_str().into(), value.to_vec(), never_indexed),
                FieldLine::Literal {
                    name,
                    value,
                    never_indexed,
                } => (name.to_vec(), value.to_vec(), never_indexed),
            });
        }
        Ok(read)
    }

    fn line(name: &str, value: &str) -> (Vec<u8>, Vec<u8>, bool) {
        (name.into(), value.into(), false)
    }

    /// RFC 9204 Appendix B.1.
    #[test]
    fn the_example_of_the_rfc() {
        let section = b"\x00\x00\x51\x0b/index.html";
        assert_eq!(lines(section), Ok(vec![line(":path", "/index.html")]));

        let mut out = BytesMut::from(&encode::PREFIX[..]);
        encode::put_field(&mut out, b":path", b"/index.html", false);
        assert_eq!(out, &section[..]);
    }

    /// RFC 9204 Appendix B.2 to B.5: all of these need a dynamic table.
    #[test]
    fn what_needs_the_dynamic_table_is_refused() {
        for section in [&b"\x03\x81\x10\x11"[..], b"\x05\x00\x80\xc1\x81"] {
            assert!(matches!(lines(section), Err(QpackError::RequiredInsertCount(_))));
        }
        // An index, a name reference, and both counted from the Base, without the count that should announce them.
        for line in [&[0x80][..], &[0x40, 0x00], &[0x10], &[0x00, 0x00], &[0x08, 0x00]] {
            let section = [&[0, 0], line].concat();
            assert_eq!(lines(&section), Err(QpackError::DynamicReference), "{line:x?}");
        }
    }

    #[test]
    fn the_base_may_be_anything_but_negative() {
        assert_eq!(lines(b"\x00\x05\xd1"), Ok(vec![line(":method", "GET")]));
        assert_eq!(lines(b"\x00\x7f\x21\xd1"), Ok(vec![line(":method", "GET")]));
        assert_eq!(lines(b"\x00\x80\xd1"), Err(QpackError::NegativeBase));
    }

    #[test]
    fn an_index_beyond_the_static_table_is_refused() {
        assert_eq!(
            lines(b"\x00\x00\xff\x23"),
            Ok(vec![line("x-frame-options", "sameorigin")])
        );
        assert_eq!(lines(b"\x00\x00\xff\x24"), Err(QpackError::StaticIndex(99)));
        assert_eq!(lines(b"\x00\x00\x5f\x54\x00"), Err(QpackError::StaticIndex(99)));
    }

    #[test]
    fn a_section_cut_short_is_refused() {
        let section = b"\x00\x00\x5f\x1d\x10application/grpc\x27\x00x-bytes\x03abc";
        assert_eq!(
            lines(section),
            Ok(vec![
                line("content-type", "application/grpc"),
                line("x-bytes", "abc")
            ])
        );
        let whole = [2, 21, section.len()];
        for cut in 0..section.len() {
            let expected_ok = whole.contains(&cut);
            assert_eq!(lines(&section[..cut]).is_ok(), expected_ok, "{cut}");
        }
        // A length that no memory holds.
        let mut huge = vec![0, 0];
        int::put(&mut huge, 0b0010_0000, 3, crate::rh3::varint::MAX);
        assert_eq!(lines(&huge), Err(QpackError::Truncated));
    }

    #[test]
    fn values_share_the_memory_of_the_section_or_one_more_allocation() {
        // Two values in Huffman code ("302", "private") and a plain one.
        let section = Bytes::from_static(b"\x00\x00\x21a\x82\x64\x02\x21b\x85\xae\xc3\x77\x1a\x4b\x21c\x01x");
        let within = section.as_ptr_range();
        let mut lines = FieldLines::new(section).unwrap();
        let mut values = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            if let FieldLine::Literal { value, .. } = line {
                values.push(value);
            }
        }
        assert_eq!(values, ["302", "private", "x"]);
        assert_eq!(values[0].as_ptr_range().end, values[1].as_ptr_range().start);
        assert!(within.contains(&values[2].as_ptr()));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            fields in prop::collection::vec((".*", any::<Vec<u8>>(), any::<bool>()), 0..20),
        ) {
            let fields: Lines = fields
                .into_iter()
                .map(|(name, value, never_indexed)| (name.into_bytes(), value, never_indexed))
                .collect();
            let mut out = BytesMut::from(&encode::PREFIX[..]);
            for (name, value, never_indexed) in &fields {
                let before = out.len();
                encode::put_field(&mut out, name, value, *never_indexed);
                prop_assert!(out.len() - before <= name.len() + value.len() + encode::MAX_OVERHEAD);
            }
            prop_assert_eq!(lines(&out), Ok(fields));
        }

        #[test]
        fn static_entries_are_written_short(index in 0..static_table::LEN as u64, never_indexed: bool) {
            let entry = static_table::get(index).unwrap();
            let (name, value) = (entry.name.as_str().as_bytes(), entry.text.as_bytes());
            let mut out = BytesMut::from(&encode::PREFIX[..]);
            encode::put_field(&mut out, name, value, never_indexed);
            if !never_indexed {
                prop_assert!(out.len() <= 4);
            }
            prop_assert_eq!(lines(&out), Ok(vec![(name.to_vec(), value.to_vec(), never_indexed)]));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = lines(&bytes);
            let _ = lines(&[&[0, 0], &bytes[..]].concat());
        }
    }
}
