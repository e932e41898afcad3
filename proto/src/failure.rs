//! Failures that the hub or an agent makes, as gRPC tells them.
//!
//! A client must be able to tell such a failure from the service's own: it carries `adit-error` and
//! `adit-delivered` beside the gRPC status, and a `google.rpc.ErrorInfo` in the details.

use std::collections::HashMap;
use std::fmt;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Names the [`Reason`] of a failure.
pub const ADIT_ERROR: HeaderName = HeaderName::from_static("adit-error");

/// Says whether an upstream can have seen the call: see [`Delivered`].
pub const ADIT_DELIVERED: HeaderName = HeaderName::from_static("adit-delivered");

/// The domain of the `google.rpc.ErrorInfo` in the details.
pub const DOMAIN: &str = "adit";

/// Bytes of a message that are sent at the most. A message quotes what a peer sent, and has to fit in any client's
/// limit for metadata (8 KiB is the least that gRPC suggests), percent-encoded and a second time in the details.
const MAX_MESSAGE: usize = 1024;

/// Why a call failed on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No agent serves what was called.
    NoRoute,
    /// Several agents do, and nothing says which one is meant.
    AmbiguousRoute,
    /// The agent that was named is not connected.
    AgentOffline,
    /// A limit of the agent or its upstream is reached.
    AgentBusy,
    /// The client did not prove who it is.
    Unauthenticated,
    /// The client may not make the call.
    Denied,
    /// Whoever had the call is shutting down.
    Draining,
    /// The agent has no connection to the upstream.
    UpstreamRefused,
    /// The upstream's connection ended in the call.
    UpstreamLost,
    /// What the upstream sent is not a gRPC response.
    UpstreamProtocol,
    /// The link to the agent ended in the call.
    LinkLost,
    /// The call's deadline passed.
    Deadline,
    /// The client did not read its response, and the memory for it was needed.
    SlowReader,
}

/// Whether an upstream can have seen the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivered {
    /// Certainly not: it is safe to make the call again.
    No,
    /// Perhaps.
    Maybe,
}

/// One failed call: what its client is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Failure {
    reason: Reason,
    delivered: Delivered,
    code: Code,
    message: String,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::NoRoute,
        Self::AmbiguousRoute,
        Self::AgentOffline,
        Self::AgentBusy,
        Self::Unauthenticated,
        Self::Denied,
        Self::Draining,
        Self::UpstreamRefused,
        Self::UpstreamLost,
        Self::UpstreamProtocol,
        Self::LinkLost,
        Self::Deadline,
        Self::SlowReader,
    ];

    /// The word in `adit-error`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "no-route",
            Self::AmbiguousRoute => "ambiguous-route",
            Self::AgentOffline => "agent-offline",
            Self::AgentBusy => "agent-busy",
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::Draining => "draining",
            Self::UpstreamRefused => "upstream-refused",
            Self::UpstreamLost => "upstream-lost",
            Self::UpstreamProtocol => "upstream-protocol",
            Self::LinkLost => "link-lost",
            Self::Deadline => "deadline",
            Self::SlowReader => "slow-reader",
        }
    }

    /// The reason in `google.rpc.ErrorInfo`, whose form is UPPER_SNAKE_CASE.
    pub fn in_error_info(self) -> String {
        self.as_str().replace('-', "_").to_ascii_uppercase()
    }

    /// The gRPC status code that goes with the reason.
    pub const fn code(self) -> Code {
        match self {
            Self::NoRoute => Code::Unimplemented,
            Self::AmbiguousRoute => Code::FailedPrecondition,
            Self::AgentBusy | Self::SlowReader => Code::ResourceExhausted,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Denied => Code::PermissionDenied,
            Self::AgentOffline
            | Self::Draining
            | Self::UpstreamRefused
            | Self::UpstreamLost
            | Self::LinkLost => Code::Unavailable,
            Self::UpstreamProtocol => Code::Internal,
            Self::Deadline => Code::DeadlineExceeded,
        }
    }

    /// What is known of every call that failed for this reason.
    pub const fn delivered(self) -> Delivered {
        match self {
            Self::NoRoute
            | Self::AmbiguousRoute
            | Self::AgentOffline
            | Self::AgentBusy
            | Self::Unauthenticated
            | Self::Denied
            | Self::Draining
            | Self::UpstreamRefused => Delivered::No,
            Self::UpstreamLost
            | Self::UpstreamProtocol
            | Self::LinkLost
            | Self::Deadline
            | Self::SlowReader => Delivered::Maybe,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Delivered {
    /// The word in `adit-delivered`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Maybe => "maybe",
        }
    }
}

impl fmt::Display for Delivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Failure {
    /// A failure for `reason`, with the status code that goes with it. `message` is for people: what was tried, with
    /// which value, and what to do. The first KiB of it is sent.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let mut message = message.into();
        let end = (0..=MAX_MESSAGE.min(message.len()))
            .rev()
            .find(|&end| message.is_char_boundary(end));
        message.truncate(end.unwrap_or(0));
        Self {
            reason,
            delivered: reason.delivered(),
            code: reason.code(),
            message,
        }
    }

    /// The same failure of a call of which more, or less, is known.
    #[must_use]
    pub fn with_delivered(mut self, delivered: Delivered) -> Self {
        self.delivered = delivered;
        self
    }

    /// The same failure with another status code, such as the one that gRPC gives to an HTTP status.
    #[must_use]
    pub fn with_code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// Why the call failed.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether an upstream can have seen the call.
    pub fn delivered(&self) -> Delivered {
        self.delivered
    }

    /// The gRPC status code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What people are told.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The failure as a gRPC service tells it.
    pub fn to_status(&self) -> Status {
        let mut metadata = HeaderMap::with_capacity(2);
        metadata.insert(ADIT_ERROR, HeaderValue::from_static(self.reason.as_str()));
        metadata.insert(ADIT_DELIVERED, HeaderValue::from_static(self.delivered.as_str()));
        Status::with_error_details_and_metadata(
            self.code,
            self.message.as_str(),
            ErrorDetails::with_error_info(self.reason.in_error_info(), DOMAIN, HashMap::new()),
            MetadataMap::from_headers(metadata),
        )
    }

    /// The trailers that end a call whose response has begun.
    pub fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(6);
        // It fails on bytes that no header may hold; percent-encoding and base64 leave none.
        if self.to_status().add_header(&mut trailers).is_err() {
            trailers.insert(Status::GRPC_STATUS, HeaderValue::from(i32::from(self.code)));
        }
        trailers
    }

    /// The response to a call that has none yet: a trailers-only one, whose `body` is an empty one.
    pub fn into_response<B>(self, body: B) -> Response<B> {
        let mut response = Response::new(body);
        *response.headers_mut() = self.trailers();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use tonic_types::pb;

    use super::*;

    #[test]
    fn every_reason_has_its_word_status_and_certainty() {
        let table = [
            ("no-route", 12, "no", "NO_ROUTE"),
            ("ambiguous-route", 9, "no", "AMBIGUOUS_ROUTE"),
            ("agent-offline", 14, "no", "AGENT_OFFLINE"),
            ("agent-busy", 8, "no", "AGENT_BUSY"),
            ("unauthenticated", 16, "no", "UNAUTHENTICATED"),
            ("denied", 7, "no", "DENIED"),
            ("draining", 14, "no", "DRAINING"),
            ("upstream-refused", 14, "no", "UPSTREAM_REFUSED"),
            ("upstream-lost", 14, "maybe", "UPSTREAM_LOST"),
            ("upstream-protocol", 13, "maybe", "UPSTREAM_PROTOCOL"),
            ("link-lost", 14, "maybe", "LINK_LOST"),
            ("deadline", 4, "maybe", "DEADLINE"),
            ("slow-reader", 8, "maybe", "SLOW_READER"),
        ];
        for (reason, (word, code, delivered, info)) in Reason::ALL.into_iter().zip(table) {
            let response = Failure::new(reason, "why").into_response(());
            let headers = response.headers();
            assert_eq!(response.status(), 200, "{word}");
            assert_eq!(headers["content-type"], "application/grpc", "{word}");
            assert_eq!(headers["adit-error"], word);
            assert_eq!(headers["grpc-status"], code.to_string(), "{word}");
            assert_eq!(headers["grpc-message"], "why", "{word}");
            assert_eq!(headers["adit-delivered"], delivered, "{word}");
            let status = Status::from_header_map(headers).unwrap();
            let error_info = status.get_details_error_info().unwrap();
            assert_eq!(error_info.reason, info);
            assert_eq!(error_info.domain, "adit");
        }
    }

    #[test]
    fn what_is_known_of_one_call_replaces_the_table() {
        let failure = Failure::new(Reason::UpstreamProtocol, "it answered 404")
            .with_code(Code::Unimplemented)
            .with_delivered(Delivered::No);
        let trailers = failure.trailers();
        assert_eq!(trailers["grpc-status"], "12");
        assert_eq!(trailers["adit-delivered"], "no");
        assert_eq!(trailers["adit-error"], "upstream-protocol");
        assert!(
            !trailers.contains_key("content-type"),
            "a trailer has no content type"
        );
    }

    #[test]
    fn the_details_are_a_status_in_base64_without_padding() {
        use base64::Engine as _;
        let trailers = Failure::new(Reason::LinkLost, "gone").trailers();
        let text = trailers["grpc-status-details-bin"].to_str().unwrap();
        assert!(!text.contains('='), "{text}");
        let bytes = base64::engine::general_purpose::STANDARD_NO_PAD
            .decode(text)
            .unwrap();
        let status: pb::Status = prost::Message::decode(bytes.as_slice()).unwrap();
        assert_eq!((status.code, status.message.as_str()), (14, "gone"));
        assert_eq!(status.details.len(), 1);
        assert_eq!(
            status.details[0].type_url,
            "type.googleapis.com/google.rpc.ErrorInfo"
        );
    }

    #[test]
    fn a_message_is_percent_encoded_and_bounded() {
        let trailers = Failure::new(Reason::Denied, "100 % of é\r\nx: y").trailers();
        assert_eq!(trailers["grpc-message"], "100%20%25%20of%20%C3%A9%0D%0Ax:%20y");
        assert_eq!(trailers.len(), 5, "{trailers:?}");

        let failure = Failure::new(Reason::Denied, "é".repeat(5000));
        assert_eq!(failure.message().len(), MAX_MESSAGE);
        let size: usize = failure
            .trailers()
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 32)
            .sum();
        assert!(size < 8 << 10, "{size} bytes are more than some clients take");
    }
}
