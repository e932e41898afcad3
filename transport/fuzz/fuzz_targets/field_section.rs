//! Field lines: those that are read are written and read again.

#![no_main]

use adit_transport::rh3::qpack::decode::{FieldLine, FieldLines, QpackError};
use adit_transport::rh3::qpack::encode;
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;

type Lines = Vec<(Vec<u8>, Vec<u8>, bool)>;

fuzz_target!(|section: &[u8]| {
    let Ok(lines) = read(Bytes::copy_from_slice(section)) else {
        return;
    };
    let mut written = BytesMut::from(&encode::PREFIX[..]);
    for (name, value, never_indexed) in &lines {
        encode::put_field(&mut written, name, value, *never_indexed);
    }
    assert_eq!(read(written.freeze()).as_ref(), Ok(&lines));
});

fn read(section: Bytes) -> Result<Lines, QpackError> {
    let mut lines = FieldLines::new(section)?;
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
