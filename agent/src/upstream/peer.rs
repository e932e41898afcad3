//! Who is at the other end of an upstream's connections: what failures say of it, and how much it may send ahead.

use std::fmt;

use adit_proto::failure::{Failure, Reason};
use http::HeaderMap;

use super::call::MAX_HEADERS;
use super::connect::ConnectError;
use super::pool::NoPlace;

/// Bytes of a response that an upstream may send ahead of a slow reader. An upstream is near its agent, so that this is
/// soon filled again, and the link's own window behind it is what keeps a far reader busy.
const NEAR_WINDOW: u32 = 128 << 10;

/// The same of all calls on a connection together. Stopped readers must not spend the credit of live calls, so it is
/// enough for 1,024 of them; the 4,096 calls that a link carries hold 512 MiB here at the most.
const NEAR_CONNECTION_WINDOW: u32 = 1024 * NEAR_WINDOW;

/// The same of a hub, which may be far: 2 MiB fills 100 Mbit/s at 160 ms.
const FAR_WINDOW: u32 = 2 << 20;

/// Enough for 256 stopped readers, as many calls as a connection has before another one is opened.
const FAR_CONNECTION_WINDOW: u32 = 256 * FAR_WINDOW;

/// Who answers calls. The text is its address.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    /// A server that an agent forwards to.
    Upstream(String),
    /// A hub, whose client this process is.
    Hub(String),
}

impl Peer {
    /// The windows of a stream and of a connection.
    pub(super) fn windows(&self) -> (u32, u32) {
        match self {
            Self::Upstream(_) => (NEAR_WINDOW, NEAR_CONNECTION_WINDOW),
            Self::Hub(_) => (FAR_WINDOW, FAR_CONNECTION_WINDOW),
        }
    }

    /// There is no place for a call.
    pub(super) fn no_place(&self, none: &NoPlace) -> Failure {
        match (self, none) {
            (Self::Upstream(name), NoPlace::Refused(_)) => Failure::new(
                Reason::UpstreamRefused,
                format!(
                    "the agent cannot connect to its upstream {name}: {none}; see that the upstream runs, and that --upstream names it"
                ),
            ),
            (Self::Hub(name), NoPlace::Refused(error)) => Failure::new(
                Reason::UpstreamRefused,
                format!(
                    "adit connect cannot connect to the hub {name}: {}; see that the hub runs, and that --hub names its port for clients",
                    at_hub(error)
                ),
            ),
            (Self::Upstream(_), NoPlace::Busy) => Failure::new(
                Reason::AgentBusy,
                format!(
                    "{self} takes no more calls: {none}; raise its limit of concurrent streams, or try again later"
                ),
            ),
            (Self::Hub(_), NoPlace::Busy) => Failure::new(
                Reason::AgentBusy,
                format!("{self} takes no more calls of this process: {none}; try again later"),
            ),
        }
    }

    /// It reset a call with INADEQUATE_SECURITY.
    pub(super) fn wants_tls(&self, reason: h2::Reason) -> Failure {
        let failure = Failure::new(
            Reason::UpstreamProtocol,
            format!("{self} reset the call with {reason}: it wants TLS, or stronger TLS, on this connection"),
        );
        failure.with_code(tonic::Code::PermissionDenied)
    }

    pub(super) fn broke_http2(&self, error: &h2::Error) -> Failure {
        let between = match self {
            Self::Upstream(_) => "agent and upstream",
            Self::Hub(_) => "adit connect and hub",
        };
        Failure::new(
            Reason::UpstreamProtocol,
            format!(
                "{self} broke HTTP/2 in its response ({error}), or its metadata is too long; look at its log, and at what is between {between}"
            ),
        )
    }

    /// The connection ended in the call.
    pub(super) fn lost(&self, error: &h2::Error) -> Failure {
        let advice = match self {
            Self::Upstream(_) => "see whether the upstream was restarted or crashed",
            Self::Hub(_) => "see whether the hub was restarted; the next call connects again",
        };
        Failure::new(
            Reason::UpstreamLost,
            format!("the connection to {self} ended in the call ({error}); {advice}"),
        )
    }

    /// The failure of a header section that is longer than is passed on.
    pub(super) fn too_large(&self, section: &HeaderMap, what: &str) -> Option<Failure> {
        /// What each field counts beyond its name and value (RFC 9113 §6.5.2).
        const FIELD_OVERHEAD: usize = 32;
        let size: usize = section
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD)
            .sum();
        (size > MAX_HEADERS).then(|| {
            Failure::new(
                Reason::UpstreamProtocol,
                format!("{self} sent {size} bytes of {what}, and {MAX_HEADERS} are passed on at the most; send less metadata, or put it in the messages"),
            )
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(name) => write!(f, "the upstream {name}"),
            Self::Hub(name) => write!(f, "the hub {name}"),
        }
    }
}

/// The error of a connection to a hub: the flags that set it right are other ones.
fn at_hub(error: &ConnectError) -> String {
    match error {
        ConnectError::Tls(error) => format!(
            "the TLS handshake failed: {error}; --certs DIR names the folder with the CA of its certificate, --name NAME the certificate to present"
        ),
        ConnectError::Name => "its host is no name that a certificate could be for".to_owned(),
        ConnectError::Ended(error) => format!(
            "it ended the connection before it spoke HTTP/2 ({error}); it may demand TLS (https://), or a certificate (--certs DIR --name NAME)"
        ),
        error => error.to_string(),
    }
}
