//! Links over TCP: HTTP/2 with the roles swapped (`rh2`), over any two-way stream of bytes that is authenticated.
//!
//! The agent has dialled, and is the HTTP server; the hub is the HTTP client, as draft-thomson-ptth-potato describes it. A
//! call is a stream of HTTP/2 that the hub opens.
//!
//! It is written on the `h2` crate and not on hyper, which keeps from a proxy what it needs: the code of a reset that comes
//! after a response's head, a call that is given up while its request is not read, whether a call that failed was covered by
//! a GOAWAY, and the trailers of a request.
//!
//! * `frames`: what passes by, frame by frame. Pure bytes.
//! * `pipe`: the bytes below h2, watched.
//! * `pulse`: PINGs, the round-trip time, the idle timeout. No clock of its own.
//! * `driver`: the one task of a link.
//! * `readers`: what received bytes may cost.
//! * `send`, `receive`: the two directions of a call.
//! * `hub`, `agent`: the two ends.

pub(crate) mod agent;
mod driver;
mod frames;
pub(crate) mod hub;
pub(crate) mod pipe;
mod pulse;
mod readers;
mod receive;
mod send;

use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::link::LinkError;
use crate::printable;
use crate::rh3::code::Code;
use crate::rh3::head::{is_permitted, is_secret, without_padding};
use crate::tuning::Tuning;

/// The ALPN label of HTTP/2 with its roles swapped (draft-thomson-ptth-potato).
pub const ALPN: &[u8] = b"rh2";

/// What each field counts beyond its name and value (RFC 9113 §6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// Bytes of one message that wait in h2 for the wire.
const SEND_BUFFER: usize = 1 << 20;

/// The largest window of HTTP/2 (RFC 9113 §6.9.1).
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// h2's own limit of header sections, which is the one advertised. It lies above the one that is enforced on each call, because
/// beyond it h2 passes trailers on without their fields, and beyond four times it closes the connection and every call on it.
const fn advertised_headers(tuning: &Tuning) -> u32 {
    tuning.max_header_section.saturating_mul(2)
}

/// The window of a link's calls together. It can't be raised as quickly as readers stop, so it is what it could be raised to.
fn link_window(tuning: &Tuning) -> u32 {
    tuning.link_memory.max(tuning.link_window).min(LARGEST_WINDOW)
}

/// Bytes of a header section, but for pseudo-header fields.
fn section_size(fields: &HeaderMap) -> usize {
    fields
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD)
        .sum()
}

/// Those fields of a section that HTTP/2 carries: none that concerns a connection of HTTP/1.1 (RFC 9113 §8.2.2).
fn carried(fields: HeaderMap) -> HeaderMap {
    filtered(fields, is_permitted)
}

/// Those fields that `is_wanted`, in their order, which `HeaderMap::remove` would change; and without spaces around their
/// values, which are no part of them, and over which some peers close the whole connection (RFC 9113 §8.2.1).
fn filtered(fields: HeaderMap, is_wanted: impl Fn(&HeaderName, &HeaderValue) -> bool) -> HeaderMap {
    let is_padded = |value: &HeaderValue| without_padding(value).len() < value.len();
    if fields
        .iter()
        .all(|(name, value)| is_wanted(name, value) && !is_padded(value))
    {
        return fields;
    }
    let mut wanted = HeaderMap::with_capacity(fields.len());
    for (name, value) in &fields {
        if is_wanted(name, value) {
            // A part of a value is a value.
            let trimmed = HeaderValue::from_bytes(without_padding(value));
            wanted.append(name, trimmed.unwrap_or_else(|_| value.clone()));
        }
    }
    wanted
}

/// Has no hop keep the values that are secrets in its compression state (RFC 7541 §7.1.3).
fn secret(fields: &mut HeaderMap) {
    for (name, value) in fields.iter_mut() {
        if is_secret(name) {
            value.set_sensitive(true);
        }
    }
}

/// The code of a call's reset on the wire.
///
/// NO_ERROR is an error here, as gRPC has it: in HTTP/2 the reset of a response that is complete has it, and is none
/// (RFC 9113 §8.1).
fn h2_reset(code: Code) -> Reason {
    match code {
        Code::NO_ERROR => Reason::INTERNAL_ERROR,
        code => h2_reason(code),
    }
}

/// The code of HTTP/2 that stands for one of HTTP/3: the inverse of [`Code::from_h2_reason`].
fn h2_reason(code: Code) -> Reason {
    match code {
        Code(0) | Code::NO_ERROR => Reason::NO_ERROR,
        Code::INTERNAL_ERROR => Reason::INTERNAL_ERROR,
        Code::FRAME_ERROR => Reason::FRAME_SIZE_ERROR,
        Code::EXCESSIVE_LOAD => Reason::ENHANCE_YOUR_CALM,
        Code::SETTINGS_ERROR => Reason::SETTINGS_TIMEOUT,
        Code::REQUEST_REJECTED => Reason::REFUSED_STREAM,
        Code::REQUEST_CANCELLED => Reason::CANCEL,
        Code::CONNECT_ERROR => Reason::CONNECT_ERROR,
        _ => Reason::PROTOCOL_ERROR,
    }
}

/// What a reset by the peer says.
fn code_of(reason: Reason) -> Code {
    Code::from_h2_reason(reason.into()).unwrap_or(Code::GENERAL_PROTOCOL_ERROR)
}

/// What ended a connection, where this end did not.
fn link_error(ended: Result<(), h2::Error>, pipe: &pipe::Pipe) -> LinkError {
    if let Err(error) = &ended
        && error.is_go_away()
        && error.is_library()
    {
        // This end's own words about what the peer did.
        return LinkError::Protocol(printable(error.to_string().as_bytes()));
    }
    if let Some(goaway) = pipe.goaway() {
        let reason = printable(&goaway.reason);
        if reason.is_empty() && ended.is_err() {
            return LinkError::Broken("the connection broke after the peer's GOAWAY".to_owned());
        }
        return match Reason::from(goaway.code) {
            Reason::NO_ERROR => LinkError::Closed(reason),
            Reason::REFUSED_STREAM => LinkError::Refused(reason),
            code => LinkError::Protocol(format!("the peer closed the link: {code:?} {reason}")),
        };
    }
    match ended.map_err(|error| (pipe.broken.get().copied(), error)) {
        Ok(()) => LinkError::Broken("the peer closed the connection without a word".to_owned()),
        Err((Some(kind), error)) => {
            LinkError::Broken(format!("{kind}: {}", printable(error.to_string().as_bytes())))
        }
        Err((None, error)) => LinkError::Broken(printable(error.to_string().as_bytes())),
    }
}

#[cfg(test)]
mod tests;
