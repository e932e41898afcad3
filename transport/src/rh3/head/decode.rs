//! Reading heads and trailers.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue, IntoHeaderName};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Response, StatusCode, Version};

use super::{FIELD_OVERHEAD, is_connection_specific, is_te_trailers};
use crate::rh3::code::Code;
use crate::rh3::error::ProtocolError;
use crate::rh3::qpack::decode::{FieldLine, FieldLines, QpackError};
use crate::rh3::qpack::static_table::{Name, Pseudo};

/// The most fields that one section may have. It is as many as fit in a section of 128 KiB, so it matters only where
/// that limit was raised: the cost of a field is not in its bytes alone.
pub const MAX_FIELDS: usize = 4096;

/// What a field line is seldom shorter than.
const USUAL_LINE: usize = 16;

/// What a head seldom has more of than this.
const USUAL_FIELDS: usize = 24;

/// The most of a name that an error repeats.
const EXCERPT: usize = 64;

/// Why a head or trailers were not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// More than was advertised as SETTINGS_MAX_FIELD_SECTION_SIZE. Concerns this stream alone.
    #[error("the fields exceed {limit} bytes: their names, their values and 32 for each of them")]
    TooLarge {
        /// The limit in bytes, as RFC 9114 §4.2.2 counts them.
        limit: u64,
    },
    /// More than [`MAX_FIELDS`] fields. Concerns this stream alone.
    #[error("there are more than {MAX_FIELDS} fields")]
    TooManyFields,
    /// A malformed message (RFC 9114 §4.1.2). Concerns this stream alone.
    #[error("malformed message: {0}")]
    Malformed(Cow<'static, str>),
    /// The section cannot be decompressed. Concerns the connection.
    #[error(transparent)]
    Qpack(#[from] QpackError),
}

impl From<HeadError> for ProtocolError {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::TooLarge { .. } | HeadError::TooManyFields => {
                Self::stream(Code::EXCESSIVE_LOAD, error.to_string())
            }
            HeadError::Malformed(_) => Self::stream(Code::MESSAGE_ERROR, error.to_string()),
            HeadError::Qpack(error) => error.into(),
        }
    }
}

/// Reads the head of a request from the payload of a HEADERS frame. `limit` is what was advertised as
/// SETTINGS_MAX_FIELD_SECTION_SIZE, in bytes.
///
/// The URI is `:scheme`, `:authority` and `:path`; without `:authority` it takes the authority of the `host` field,
/// as RFC 9114 §4.3.1 permits. Any method is accepted but CONNECT, which is reported as malformed. Field values are
/// those that [`HeaderValue`] accepts, unchanged; fields of one name keep their order. Values share the memory of
/// `section`.
///
/// # Errors
/// See [`HeadError`].
pub fn decode_request(section: Bytes, limit: u64) -> Result<Request<()>, HeadError> {
    let mut method = None;
    let mut scheme = None;
    let mut authority = None;
    let mut path = None;
    let headers = read_fields(section, limit, |pseudo, value| {
        let slot = match pseudo {
            Pseudo::Method => &mut method,
            Pseudo::Scheme => &mut scheme,
            Pseudo::Authority => &mut authority,
            Pseudo::Path => &mut path,
            Pseudo::Status => return Err(malformed("a request has :status")),
        };
        set_once(slot, pseudo, value)
    })?;

    let method = required(method, Pseudo::Method)?;
    let method =
        Method::from_bytes(&method).map_err(|_| malformed_bytes("the method is not a token", &method))?;
    if method == Method::CONNECT {
        return Err(malformed(
            "a request has the method CONNECT, which is not carried",
        ));
    }
    let uri = Uri::from_parts({
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(parse_scheme(&required(scheme, Pseudo::Scheme)?)?);
        parts.authority = Some(parse_authority(authority, &headers)?);
        parts.path_and_query = Some(parse_path(required(path, Pseudo::Path)?)?);
        parts
    })
    .map_err(|error| HeadError::Malformed(error.to_string().into()))?;

    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_3;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Reads the head of a response from the payload of a HEADERS frame. `limit` is what was advertised as
/// SETTINGS_MAX_FIELD_SECTION_SIZE, in bytes. Of the fields it accepts what [`decode_request`] does.
///
/// A status of 1xx makes it an interim response, after which another head follows; 101 is malformed
/// (RFC 9114 §4.5).
///
/// # Errors
/// See [`HeadError`].
pub fn decode_response(section: Bytes, limit: u64) -> Result<Response<()>, HeadError> {
    let mut status = None;
    let headers = read_fields(section, limit, |pseudo, value| match pseudo {
        Pseudo::Status => set_once(&mut status, pseudo, value),
        other => Err(HeadError::Malformed(
            format!("a response has {}", other.as_str()).into(),
        )),
    })?;
    let status = required(status, Pseudo::Status)?;
    let status = StatusCode::from_bytes(&status)
        .ok()
        .filter(|status| *status != StatusCode::SWITCHING_PROTOCOLS)
        .ok_or_else(|| malformed_bytes("not a status of HTTP/3", &status))?;

    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_3;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Reads trailers from the payload of a HEADERS frame. `limit` is what was advertised as
/// SETTINGS_MAX_FIELD_SECTION_SIZE, in bytes. Of the fields it accepts what [`decode_request`] does.
///
/// # Errors
/// See [`HeadError`].
pub fn decode_trailers(section: Bytes, limit: u64) -> Result<HeaderMap, HeadError> {
    read_fields(section, limit, |pseudo, _| {
        Err(HeadError::Malformed(
            format!("the trailers have {}", pseudo.as_str()).into(),
        ))
    })
}

/// The length of the content that a head declares, if it does.
///
/// # Errors
/// [`HeadError::Malformed`] if it is not a number, or several that differ (RFC 9110 §8.6).
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, HeadError> {
    let mut declared = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let length = value
            .to_str()
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| malformed_bytes("not a content-length", value.as_bytes()))?;
        if declared.is_some_and(|declared| declared != length) {
            return Err(malformed("there are content-length fields that differ"));
        }
        declared = Some(length);
    }
    Ok(declared)
}

/// Reads the field lines of a section: pseudo-header fields go to `on_pseudo`, all others are returned.
fn read_fields(
    section: Bytes,
    limit: u64,
    mut on_pseudo: impl FnMut(Pseudo, Bytes) -> Result<(), HeadError>,
) -> Result<HeaderMap, HeadError> {
    let mut fields = Fields {
        // A guess, so that the map of a usual head does not grow while it is filled.
        headers: HeaderMap::with_capacity((section.len() / USUAL_LINE).min(USUAL_FIELDS)),
        limit,
        size: 0,
        lines: 0,
    };
    let mut lines = FieldLines::new(section)?;
    while let Some(line) = lines.next_line()? {
        let (pseudo, value) = match line {
            FieldLine::Indexed(entry) => {
                fields.charge(entry.name.as_str().len(), entry.text.len())?;
                match &entry.name {
                    Name::Pseudo(pseudo) => (*pseudo, Bytes::from_static(entry.text.as_bytes())),
                    Name::Field(name) => {
                        fields.append(name, entry.value.clone())?;
                        continue;
                    }
                }
            }
            FieldLine::NameReference {
                entry,
                value,
                never_indexed,
            } => {
                fields.charge(entry.name.as_str().len(), value.len())?;
                match &entry.name {
                    Name::Pseudo(pseudo) => (*pseudo, value),
                    Name::Field(name) => {
                        fields.append(name, field_value(name, value, never_indexed)?)?;
                        continue;
                    }
                }
            }
            FieldLine::Literal {
                name,
                value,
                never_indexed,
            } => {
                fields.charge(name.len(), value.len())?;
                if name.first() == Some(&b':') {
                    let pseudo = Pseudo::from_name(name)
                        .ok_or_else(|| malformed_bytes("unknown pseudo-header field", name))?;
                    (pseudo, value)
                } else {
                    fields.append_literal(name, value, never_indexed)?;
                    continue;
                }
            }
        };
        if !fields.headers.is_empty() {
            return Err(HeadError::Malformed(
                format!("{} comes after another field", pseudo.as_str()).into(),
            ));
        }
        on_pseudo(pseudo, value)?;
    }
    Ok(fields.headers)
}

/// The fields of a section so far, and what they amount to.
struct Fields {
    headers: HeaderMap,
    limit: u64,
    size: u64,
    lines: usize,
}

impl Fields {
    /// Counts a field, before anything is made of it.
    fn charge(&mut self, name_len: usize, value_len: usize) -> Result<(), HeadError> {
        self.size += (name_len + value_len + FIELD_OVERHEAD) as u64;
        self.lines += 1;
        if self.size > self.limit {
            return Err(HeadError::TooLarge { limit: self.limit });
        }
        if self.lines > MAX_FIELDS {
            return Err(HeadError::TooManyFields);
        }
        Ok(())
    }

    /// Adds a field. A name that is only lent is cloned if it is the first of its kind, which allocates nothing for
    /// those in the tables.
    fn append(&mut self, name: impl IntoHeaderName, value: HeaderValue) -> Result<(), HeadError> {
        self.headers
            .try_append(name, value)
            .map(|_| ())
            .map_err(|_| HeadError::TooManyFields)
    }

    /// Adds a field whose name was spelled out.
    fn append_literal(&mut self, name: &[u8], value: Bytes, never_indexed: bool) -> Result<(), HeadError> {
        if let Some(name) = known_name(name) {
            return self.append(name, field_value(name, value, never_indexed)?);
        }
        let name = HeaderName::from_lowercase(name)
            .map_err(|_| malformed_bytes("not a field name in lower case", name))?;
        let value = field_value(&name, value, never_indexed)?;
        check_permitted(&name, &value)?;
        self.append(name, value)
    }
}

fn field_value(name: &HeaderName, value: Bytes, never_indexed: bool) -> Result<HeaderValue, HeadError> {
    let mut value = HeaderValue::from_maybe_shared(value)
        .map_err(|_| HeadError::Malformed(format!("the value of {name} has a forbidden character").into()))?;
    value.set_sensitive(never_indexed);
    Ok(value)
}

/// The names of gRPC and of tracing that come with nearly every call, so that they are not parsed and allocated each
/// time.
fn known_name(name: &[u8]) -> Option<&'static HeaderName> {
    static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
    static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
    static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
    static GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
    static GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
    static GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
    static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
    static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
    static BAGGAGE: HeaderName = HeaderName::from_static("baggage");
    static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    Some(match name {
        b"grpc-status" => &GRPC_STATUS,
        b"grpc-message" => &GRPC_MESSAGE,
        b"grpc-timeout" => &GRPC_TIMEOUT,
        b"grpc-encoding" => &GRPC_ENCODING,
        b"grpc-accept-encoding" => &GRPC_ACCEPT_ENCODING,
        b"grpc-status-details-bin" => &GRPC_STATUS_DETAILS,
        b"traceparent" => &TRACEPARENT,
        b"tracestate" => &TRACESTATE,
        b"baggage" => &BAGGAGE,
        b"x-request-id" => &REQUEST_ID,
        _ => return None,
    })
}

/// Refuses what concerns a connection of HTTP/1.1 (RFC 9114 §4.2); none of that is in the tables of names.
/// `te: trailers` is accepted in responses too: an echo of the request's metadata is no reason to break the call.
fn check_permitted(name: &HeaderName, value: &HeaderValue) -> Result<(), HeadError> {
    if is_connection_specific(name) {
        return Err(HeadError::Malformed(
            format!("{name} concerns one connection, and must not be in HTTP/3").into(),
        ));
    }
    if *name == header::TE && !is_te_trailers(value.as_bytes()) {
        return Err(malformed("te has a value that is not \"trailers\""));
    }
    Ok(())
}

fn set_once(slot: &mut Option<Bytes>, pseudo: Pseudo, value: Bytes) -> Result<(), HeadError> {
    if slot.replace(value).is_some() {
        return Err(HeadError::Malformed(
            format!("{} appears twice", pseudo.as_str()).into(),
        ));
    }
    Ok(())
}

fn required(value: Option<Bytes>, pseudo: Pseudo) -> Result<Bytes, HeadError> {
    value.ok_or_else(|| HeadError::Malformed(format!("{} is missing", pseudo.as_str()).into()))
}

fn parse_scheme(value: &[u8]) -> Result<Scheme, HeadError> {
    match value {
        b"https" => Ok(Scheme::HTTPS),
        b"http" => Ok(Scheme::HTTP),
        other => Scheme::try_from(other).map_err(|_| malformed_bytes("not a :scheme", other)),
    }
}

/// The authority, from the `host` field if it has no pseudo-header field. Where there are both they have to agree.
fn parse_authority(value: Option<Bytes>, headers: &HeaderMap) -> Result<Authority, HeadError> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let authority = match (value, hosts.next()) {
        (Some(authority), None) => authority,
        (Some(authority), Some(host)) => {
            if !authority.eq_ignore_ascii_case(host.as_bytes()) {
                return Err(malformed(":authority and host differ"));
            }
            authority
        }
        (None, Some(host)) => Bytes::copy_from_slice(host.as_bytes()),
        (None, None) => return Err(malformed("there is neither :authority nor host")),
    };
    if hosts.next().is_some() {
        return Err(malformed("host appears twice"));
    }
    if authority.contains(&b'@') {
        // RFC 9114 §4.3.1. Not repeated: there may be a password in it.
        return Err(malformed(":authority has user information"));
    }
    Authority::from_maybe_shared(authority.clone())
        .map_err(|_| malformed_bytes("not an :authority", &authority))
}

fn parse_path(value: Bytes) -> Result<PathAndQuery, HeadError> {
    // The parser would cut off a fragment, and what is passed on has to be what was received.
    if value.contains(&b'#') {
        return Err(malformed(":path has a fragment"));
    }
    if !value.starts_with(b"/") && value != "*" {
        return Err(malformed_bytes(":path does not begin with a slash", &value));
    }
    PathAndQuery::from_maybe_shared(value)
        .map_err(|error| HeadError::Malformed(format!(":path is not a path: {error}").into()))
}

fn malformed(what: &'static str) -> HeadError {
    HeadError::Malformed(what.into())
}

/// With the beginning of what was received, printable. Not for values of fields, which may be secrets.
fn malformed_bytes(what: &str, received: &[u8]) -> HeadError {
    let excerpt = &received[..received.len().min(EXCERPT)];
    HeadError::Malformed(format!("{what}: \"{}\"", excerpt.escape_ascii()).into())
}
