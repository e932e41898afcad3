//! Writing heads and trailers.

use bytes::{BufMut, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, request};

use super::{FIELD_OVERHEAD, is_connection_specific, is_te_trailers};
use crate::rh3::frame::kind;
use crate::rh3::qpack;
use crate::rh3::qpack::static_table::{self, Pseudo};
use crate::rh3::varint;

/// Static table entries of the pseudo-header fields, or the first of those with the name (RFC 9204 Appendix A).
const AUTHORITY: u8 = 0;
const PATH: u8 = 1;
const METHOD: u8 = 15;
const SCHEME_HTTPS: u8 = 23;
const STATUS: u8 = 24;

/// Why a request cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// CONNECT is not carried.
    #[error("cannot send a request with method CONNECT: it is not carried")]
    Connect,
    /// `:authority` is mandatory for https (RFC 9114 §4.3.1).
    #[error("cannot send a request without authority: its URI has none, and it has no host field")]
    MissingAuthority,
}

/// Appends the HEADERS frame of a request, and returns the size of its field section as RFC 9114 §4.2.2 measures it,
/// to be compared with what the peer accepts.
///
/// `:scheme` is always https. `:authority` is the URI's, or else the `host` field; `host` itself is not written, nor
/// are the fields that concern an HTTP/1.1 connection, nor `te` with any value but `trailers`. `authorization`,
/// `cookie` and every value that is marked sensitive are written as never indexed (RFC 9204 §7.1.3).
///
/// # Errors
/// If there is no authority, or the method is CONNECT. Then nothing is appended.
pub fn encode_request(parts: &request::Parts, out: &mut BytesMut) -> Result<u64, EncodeError> {
    if parts.method == Method::CONNECT {
        return Err(EncodeError::Connect);
    }
    let authority = match parts.uri.authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => match parts.headers.get(header::HOST) {
            Some(host) => host.as_bytes(),
            None => return Err(EncodeError::MissingAuthority),
        },
    };
    let method = parts.method.as_str().as_bytes();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    // A URI may have a query and no path; `:path` may not.
    let slash = if path.starts_with('/') || path == "*" {
        ""
    } else {
        "/"
    };
    let pseudo_size = size_of(Pseudo::Method.as_str().len(), method.len())
        + size_of(Pseudo::Scheme.as_str().len(), "https".len())
        + size_of(Pseudo::Authority.as_str().len(), authority.len())
        + size_of(Pseudo::Path.as_str().len(), slash.len() + path.len());

    // The authority is in `:authority`.
    let is_written =
        |name: &HeaderName, value: &HeaderValue| *name != header::HOST && is_permitted(name, value);
    Ok(put_headers_frame(
        &parts.headers,
        is_written,
        pseudo_size,
        out,
        |out| {
            put_pseudo(out, METHOD, method);
            qpack::encode::put_indexed(out, SCHEME_HTTPS);
            put_pseudo(out, AUTHORITY, authority);
            if slash.is_empty() {
                put_pseudo(out, PATH, path.as_bytes());
            } else {
                put_pseudo(out, PATH, format!("{slash}{path}").as_bytes());
            }
        },
    ))
}

/// Appends the HEADERS frame of a response, interim ones included, and returns the size of its field section as
/// RFC 9114 §4.2.2 measures it, to be compared with what the peer accepts. Of the fields it writes what
/// [`encode_request`] does, and `host` too.
pub fn encode_response(status: StatusCode, headers: &HeaderMap, out: &mut BytesMut) -> u64 {
    let pseudo_size = size_of(Pseudo::Status.as_str().len(), status.as_str().len());
    put_headers_frame(headers, is_permitted, pseudo_size, out, |out| {
        put_pseudo(out, STATUS, status.as_str().as_bytes());
    })
}

/// Appends the HEADERS frame of trailers, and returns the size of its field section as RFC 9114 §4.2.2 measures it, to
/// be compared with what the peer accepts. Of the fields it writes what [`encode_request`] does, and `host` too.
pub fn encode_trailers(trailers: &HeaderMap, out: &mut BytesMut) -> u64 {
    put_headers_frame(trailers, is_permitted, 0, out, |_| {})
}

/// Appends a HEADERS frame of those fields that `is_written` selects; before them `put_pseudo_fields` appends the
/// pseudo-header fields, whose size is `pseudo_size`.
fn put_headers_frame(
    headers: &HeaderMap,
    is_written: impl Fn(&HeaderName, &HeaderValue) -> bool,
    pseudo_size: usize,
    out: &mut BytesMut,
    put_pseudo_fields: impl FnOnce(&mut BytesMut),
) -> u64 {
    let size = pseudo_size
        + headers
            .iter()
            .filter(|(name, value)| is_written(name, value))
            .map(|(name, value)| size_of(name.as_str().len(), without_padding(value).len()))
            .sum::<usize>();
    // A field line takes fewer than 32 bytes beside name and value, so the size of the section bounds its encoding.
    const { assert!(qpack::encode::MAX_OVERHEAD <= FIELD_OVERHEAD) };
    let longest = qpack::encode::PREFIX.len() + size;
    // The length comes first, and is known last: it gets the room that the longest encoding would need.
    let length_len = varint::len(longest as u64);
    out.reserve(varint::len(kind::HEADERS) + length_len + longest);

    varint::put(out, kind::HEADERS);
    let length_at = out.len();
    out.put_bytes(0, length_len);
    let section_at = out.len();
    out.put_slice(&qpack::encode::PREFIX);
    put_pseudo_fields(out);
    for (name, value) in headers {
        if is_written(name, value) {
            let never_indexed = value.is_sensitive() || is_secret(name);
            let value = without_padding(value);
            qpack::encode::put_field(out, name.as_str().as_bytes(), value, never_indexed);
        }
    }
    let length = (out.len() - section_at) as u64;
    varint::put_with_len(&mut &mut out[length_at..section_at], length, length_len);
    size as u64
}

fn put_pseudo(out: &mut BytesMut, first_index: u8, value: &[u8]) {
    match static_table::find_value(first_index, value) {
        Some(index) => qpack::encode::put_indexed(out, index),
        None => qpack::encode::put_name_reference(out, first_index, value, false),
    }
}

/// The size of a field as RFC 9114 §4.2.2 measures it.
fn size_of(name_len: usize, value_len: usize) -> usize {
    name_len + value_len + FIELD_OVERHEAD
}

/// The value without spaces and tabs around it: they are no part of a field's value (RFC 9110 §5.5), gRPC lets them be
/// stripped, and some peers close the whole connection over them (RFC 9113 §8.2.1).
pub(crate) fn without_padding(value: &HeaderValue) -> &[u8] {
    // Of the white space of ASCII, a value can hold these two only.
    value.as_bytes().trim_ascii()
}

/// Whether the field may be in a message of HTTP/3 (RFC 9114 §4.2).
pub(crate) fn is_permitted(name: &HeaderName, value: &HeaderValue) -> bool {
    if *name == header::TE {
        return is_te_trailers(value.as_bytes());
    }
    !is_connection_specific(name)
}

/// Whether the field's values are secrets that no hop may keep in a compression state (RFC 7541 §7.1.3).
pub(crate) fn is_secret(name: &HeaderName) -> bool {
    *name == header::AUTHORIZATION || *name == header::COOKIE
}
