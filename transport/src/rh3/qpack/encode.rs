//! Writing the field lines of a field section (RFC 9204 §4.5).
//!
//! A field is an index into the static table where the whole of it is there, else its name is one if that is there, and
//! what remains is written as it is.

use bytes::{BufMut, BytesMut};

use super::{int, static_table};

/// The prefix of every section that is written here: it requires nothing of the dynamic table (RFC 9204 §4.5.1).
pub const PREFIX: [u8; 2] = [0, 0];

/// The most bytes that a field line takes beside its name and its value.
pub const MAX_OVERHEAD: usize = 2 * int::MAX_LEN;

/// Appends one field line. With `never_indexed`, every hop is told to keep the value out of its compression state
/// (RFC 9204 §7.1.3).
pub fn put_field(out: &mut BytesMut, name: &[u8], value: &[u8], never_indexed: bool) {
    let Some(index) = static_table::find_name(name) else {
        let flags = if never_indexed { 0b0011_0000 } else { 0b0010_0000 };
        int::put(out, flags, 3, name.len() as u64);
        out.extend_from_slice(name);
        put_string(out, value);
        return;
    };
    if !never_indexed && let Some(index) = static_table::find_value(index, value) {
        put_indexed(out, index);
        return;
    }
    put_name_reference(out, index, value, never_indexed);
}

/// Appends the field line that is entry `index` of the static table.
pub fn put_indexed(out: &mut BytesMut, index: u8) {
    int::put(out, 0b1100_0000, 6, u64::from(index));
}

/// Appends a field line whose name is that of entry `index` of the static table.
pub fn put_name_reference(out: &mut BytesMut, index: u8, value: &[u8], never_indexed: bool) {
    let flags = if never_indexed { 0b0111_0000 } else { 0b0101_0000 };
    int::put(out, flags, 4, u64::from(index));
    put_string(out, value);
}

fn put_string(out: &mut BytesMut, value: &[u8]) {
    int::put(out, 0, 7, value.len() as u64);
    out.put_slice(value);
}
