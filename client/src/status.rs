//! A failed call in words: what the status is, what its details say, and whether the service or the
//! tunnel in front of it is speaking.

mod details;

use std::fmt;
use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tonic::{Code, Status};

/// Metadata by which a hub or an agent says that a status is its own, and why.
const ERROR: &str = "adit-error";
/// Metadata that tells whether the service can have seen the call: `no` or `maybe`.
const DELIVERED: &str = "adit-delivered";

/// The messages of `google/rpc/error_details.proto`, and the well-known types.
static GOOGLE_RPC: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::global();
    if let Err(error) = pool.decode_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET) {
        tracing::error!(%error, "details of errors cannot be decoded");
    }
    pool
});

/// A call that ended with another status than OK. Displayed, it is everything that is known of it, in
/// one or more lines.
#[derive(Clone)]
pub struct Failure {
    // Boxed: a status is large, and results that carry one are passed around.
    status: Box<Status>,
    schema: DescriptorPool,
}

impl Failure {
    /// A failure whose details may hold messages of `schema`.
    pub fn new(status: Status, schema: &DescriptorPool) -> Self {
        Self {
            status: Box::new(status),
            schema: schema.clone(),
        }
    }

    /// A failure from before the schema was known.
    pub fn without_schema(status: Status) -> Self {
        Self {
            status: Box::new(status),
            schema: DescriptorPool::new(),
        }
    }

    /// The status as it came.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The reason that the hub or the agent gives, if the failure is theirs and not the service's.
    pub fn tunnel_reason(&self) -> Option<&str> {
        self.status.metadata().get(ERROR)?.to_str().ok()
    }
}

impl Failure {
    /// True if the hub or the agent is certain that no service has seen the call.
    pub fn is_undelivered(&self) -> bool {
        self.delivered() == Some("no")
    }
}

impl std::error::Error for Failure {}

impl fmt::Debug for Failure {
    // Without the schema: `Debug` of a message type that holds itself never ends.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.status.code();
        write!(f, "{} ({})", name(code), code as i32)?;
        if !self.status.message().is_empty() {
            write!(f, ": {}", printable(self.status.message()))?;
        }
        if let Some(reason) = self.tunnel_reason() {
            write!(f, "\n  {}", attribution(reason, self.delivered()))?;
        }
        for detail in self.details() {
            write!(f, "\n  {detail}")?;
        }
        Ok(())
    }
}

impl Failure {
    /// Whether the service can have seen the call, where the hub or the agent says it: `no` or `maybe`.
    pub fn delivered(&self) -> Option<&str> {
        self.tunnel_reason()?;
        self.status.metadata().get(DELIVERED)?.to_str().ok()
    }

    /// The details that came with the status: those of `google.rpc` for people, others as JSON.
    pub fn details(&self) -> Vec<String> {
        if self.status.details().is_empty() {
            return Vec::new();
        }
        match tonic_types::Status::decode(self.status.details()) {
            Ok(status) => status
                .details
                .iter()
                .flat_map(|detail| self.detail(&detail.type_url, &detail.value))
                .collect(),
            Err(error) => vec![format!("its details cannot be decoded: {error}")],
        }
    }

    fn detail(&self, type_url: &str, value: &[u8]) -> Vec<String> {
        let name = type_url.rsplit('/').next().unwrap_or(type_url);
        if let Some(Ok(lines)) = details::lines(name, value) {
            let short = name.rsplit('.').next().unwrap_or(name);
            // The hub's and the agent's own says what has been said already.
            if short == "ErrorInfo"
                && self.tunnel_reason().is_some()
                && lines.iter().all(|line| line.ends_with("(adit)"))
            {
                return Vec::new();
            }
            return lines
                .iter()
                .map(|line| printable(&format!("{short}: {line}")))
                .collect();
        }
        let descriptor = self
            .schema
            .get_message_by_name(name)
            .or_else(|| GOOGLE_RPC.get_message_by_name(name));
        let shown = descriptor.and_then(|descriptor| {
            let message = DynamicMessage::decode(descriptor, value).ok()?;
            serde_json::to_string(&message).ok()
        });
        vec![match shown {
            Some(json) => printable(&format!("{name} {json}")),
            None => printable(&format!(
                "{name}, {} bytes that the schema does not describe; --proto or --descriptor-set may",
                value.len()
            )),
        }]
    }
}

/// Who speaks, whether the service can have seen the call, and what to do next.
fn attribution(reason: &str, delivered: Option<&str>) -> String {
    let (speaker, advice) = match reason {
        "no-route" => (
            "hub",
            "no connected agent is known to serve it; --agent ID names one",
        ),
        "ambiguous-route" => ("hub", "several agents could take the call; --agent ID names one"),
        "agent-offline" => (
            "hub",
            "is that agent running, and is its id right? `adit agents` lists those that are connected",
        ),
        "agent-busy" => ("hub", "the agent has as many calls as it takes; try again later"),
        "unauthenticated" => ("hub", "--certs DIR --name NAME present a client certificate"),
        "denied" => ("hub", "this caller may not make this call"),
        "draining" => ("hub", "what would have taken the call is shutting down"),
        "link-lost" => ("hub", "the connection between hub and agent broke"),
        "deadline" => ("hub", "the call took longer than its --timeout"),
        "slow-reader" => ("hub", "answers were read more slowly than they came"),
        "upstream-refused" => ("agent", "the service behind the agent accepts no connection"),
        "upstream-lost" => (
            "agent",
            "the service's connection ended in the middle of the call",
        ),
        "upstream-protocol" => (
            "agent",
            "what is behind the agent does not answer as a gRPC server does",
        ),
        _ => ("tunnel", ""),
    };
    let colon = if advice.is_empty() { "" } else { ": " };
    let delivered = match delivered {
        Some("no") => "; not delivered, safe to retry",
        Some("maybe") => "; the service may have seen the call, so retry only what may happen twice",
        _ => "",
    };
    format!(
        "the {speaker} reports {}{colon}{advice}{delivered}",
        printable(reason)
    )
}

/// A text from the network with nothing in it that a terminal would obey.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// A code's name as the gRPC specification writes it.
pub fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::Failure;
    use prost_reflect::DescriptorPool;
    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt as _};

    fn shown(status: Status) -> String {
        Failure::new(status, &DescriptorPool::new()).to_string()
    }

    #[test]
    fn the_services_own_failure_is_its_status() {
        assert_eq!(
            shown(Status::not_found("no such feature")),
            "NOT_FOUND (5): no such feature"
        );
        assert_eq!(shown(Status::new(Code::DataLoss, "")), "DATA_LOSS (15)");
    }

    #[test]
    fn the_tunnels_failure_says_who_and_what_next() {
        let mut status = Status::unavailable("agent site-7 is not connected");
        status
            .metadata_mut()
            .insert("adit-error", "agent-offline".parse().unwrap());
        status
            .metadata_mut()
            .insert("adit-delivered", "no".parse().unwrap());
        assert_eq!(
            shown(status),
            "UNAVAILABLE (14): agent site-7 is not connected\n  \
             the hub reports agent-offline: is that agent running, and is its id right? `adit agents` lists those that are connected; not delivered, safe to retry"
        );

        let mut status = Status::unavailable("");
        status
            .metadata_mut()
            .insert("adit-error", "sun-spots".parse().unwrap());
        status
            .metadata_mut()
            .insert("adit-delivered", "maybe".parse().unwrap());
        assert_eq!(
            shown(status),
            "UNAVAILABLE (14)\n  the tunnel reports sun-spots; the service may have seen the call, so retry only what may happen twice"
        );
    }

    #[test]
    fn a_schema_whose_types_hold_themselves_does_no_harm() {
        let failure = Failure::new(Status::internal("x"), &crate::testing::POOL);
        assert!(format!("{failure:?}").starts_with("Failure { status: "));
    }

    #[test]
    fn details_are_decoded() {
        let mut details = ErrorDetails::new();
        details.set_error_info("TOO_FAR", "routes", [("max".to_owned(), "7".to_owned())]);
        details
            .set_retry_info(Some(std::time::Duration::from_millis(1500)))
            .set_debug_info(["at a.rs:1".to_owned()], "broke")
            .add_quota_failure_violation("user:1", "too many")
            .add_precondition_failure_violation("TOS", "example.com", "not signed")
            .add_bad_request_violation("latitude", "out of range")
            .add_bad_request_violation("longitude", "missing")
            .set_request_info("r-1", "here")
            .set_resource_info("map", "m1", "me", "gone")
            .add_help_link("the manual", "https://example.com")
            .set_localized_message("de", "nein");
        let status = Status::with_error_details(Code::InvalidArgument, "no", details);
        assert_eq!(
            shown(status),
            "INVALID_ARGUMENT (3): no\n  \
             RetryInfo: try again in 1.500s\n  \
             DebugInfo: broke\n  \
             DebugInfo:   at a.rs:1\n  \
             QuotaFailure: user:1: too many\n  \
             ErrorInfo: TOO_FAR (routes): max=7\n  \
             PreconditionFailure: TOS (example.com): not signed\n  \
             BadRequest: latitude: out of range\n  \
             BadRequest: longitude: missing\n  \
             RequestInfo: r-1: here\n  \
             ResourceInfo: map m1 (owner me): gone\n  \
             Help: https://example.com: the manual\n  \
             LocalizedMessage: nein (de)"
        );
    }

    #[test]
    fn what_the_tunnel_says_it_says_once() {
        let info = |domain: &str| ErrorDetails::with_error_info("AGENT_OFFLINE", domain, []);
        let shown_with = |domain: &str| {
            let mut status = Status::with_error_details(Code::Unavailable, "x", info(domain));
            let metadata = status.metadata_mut();
            metadata.insert("adit-error", "agent-offline".parse().unwrap());
            shown(status)
        };
        assert!(!shown_with("adit").contains("ErrorInfo"));
        assert!(shown_with("acme").contains("ErrorInfo: AGENT_OFFLINE (acme)"));
    }

    #[test]
    fn details_that_cannot_be_decoded_are_named() {
        let unknown = tonic_types::Status {
            details: vec![prost_types::Any {
                type_url: "type.googleapis.com/acme.Oops".into(),
                value: vec![1, 2, 3],
            }],
            ..tonic_types::Status::default()
        };
        let status = Status::with_details(Code::Aborted, "", prost::Message::encode_to_vec(&unknown).into());
        assert_eq!(
            shown(status),
            "ABORTED (10)\n  acme.Oops, 3 bytes that the schema does not describe; --proto or --descriptor-set may"
        );
        let status = Status::with_details(Code::Aborted, "", vec![0xFF].into());
        assert!(shown(status).contains("cannot be decoded"));
    }

    #[test]
    fn nothing_from_the_network_reaches_the_terminal_as_an_escape() {
        let shown = shown(Status::internal("\u{1b}]0;owned\u{7}\nok \u{9b}31m"));
        assert_eq!(shown, "INTERNAL (13): \\u{1b}]0;owned\\u{7}\\nok \\u{9b}31m");
    }
}
