//! The agent: dials the hub and hands its calls to an upstream.
//!
//! An [`Agent`] keeps a link to each of its hubs (`dial`, `agent`), tells the hub on it who it is and what it serves
//! (`attach`, `offer`), and gives every other call to its [`Forwarder`], which picks the [`Upstream`] by the
//! call's service and passes bytes, metadata and resets on as they are.

mod agent;
mod attach;
mod channel;
mod dial;
mod discover;
mod forward;
mod health;
mod offer;
mod routes;
mod standing;
mod upstream;

pub use agent::{Agent, Config, StartError};
pub use dial::{FIRST_BACKOFF, HubAddress, InvalidHubAddress, LONGEST_BACKOFF, STABLE};
pub use forward::Forwarder;
pub use routes::RoutesError;
pub use upstream::{
    HostPort, InvalidUpstream, MAX_HEADERS, ServicePrefix, Target, Upstream, UpstreamAddr, UpstreamTls,
    UpstreamTlsError,
};
