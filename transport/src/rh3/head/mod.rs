//! Message heads and trailers: the `http` crate's types to field sections and back (RFC 9114 §4.2, §4.3).

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use http::HeaderName;

pub use decode::{HeadError, MAX_FIELDS, content_length, decode_request, decode_response, decode_trailers};
pub use encode::{EncodeError, encode_request, encode_response, encode_trailers};
pub(crate) use encode::{is_permitted, is_secret, without_padding};

/// What RFC 9114 §4.2.2 adds to the lengths of a field's name and value when it measures a field section.
const FIELD_OVERHEAD: usize = 32;

/// Whether the field concerns one connection of HTTP/1.1, and so must not be in a message of HTTP/3 (RFC 9114 §4.2).
/// `te` is not one of these, because its value decides.
fn is_connection_specific(name: &HeaderName) -> bool {
    let name = name.as_str();
    // By length first: nearly every name is told apart by it.
    match name.len() {
        7 => name == "upgrade",
        10 => name == "connection" || name == "keep-alive",
        16 => name == "proxy-connection",
        17 => name == "transfer-encoding",
        _ => false,
    }
}

/// Whether this is the only value that `te` may have in HTTP/3 (RFC 9114 §4.2).
fn is_te_trailers(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"trailers")
}
