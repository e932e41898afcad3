//! Writing the frames that have no module of their own: [`head`](crate::rh3::head) writes HEADERS, and
//! [`Settings`](crate::rh3::settings::Settings) itself.

use bytes::BufMut;

use super::kind;
use crate::rh3::varint;

/// Appends the type and length of a DATA frame, which `len` bytes of payload have to follow.
pub fn put_data_header(out: &mut impl BufMut, len: u64) {
    varint::put(out, kind::DATA);
    varint::put(out, len);
}

/// Appends a frame of a type that means nothing, without payload (RFC 9114 §7.2.8).
pub fn put_reserved(out: &mut impl BufMut) {
    varint::put(out, kind::RESERVED);
    varint::put(out, 0);
}

/// Appends a GOAWAY frame: from the HTTP server with the id of the first request stream that it will not process, from
/// the client with a push id (RFC 9114 §5.2). An id may not be greater than one that was sent before.
pub fn put_goaway(out: &mut impl BufMut, id: u64) {
    varint::put(out, kind::GOAWAY);
    varint::put(out, varint::len(id) as u64);
    varint::put(out, id);
}
