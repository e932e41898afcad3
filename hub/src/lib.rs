//! The hub: takes calls from clients and carries each to an agent.
//!
//! In the order in which a call meets them:
//!
//! * `ingress`: the clients' port, TLS, HTTP/2 and their limits, and the `principal` that a connection is of;
//! * `call`: the story of one call, from the request's head to the response's;
//! * `router`, with `domain` and `pools`: which link a call is for, as a function of the request and what is connected;
//! * `registry`: the live links, each a `member`, indexed in `directory`, and the choice among equal ones, `balance`;
//! * `replay`: the request's body, kept while the call may have to be made again on another link;
//! * `response`: the response on its way to the client, ended well or ended by the hub;
//! * `status`: what a client is told of a failure, all of it in one place;
//! * `deadline`: `grpc-timeout`, and the timer that the hub keeps for it;
//! * `health`: what the hub answers for itself.
//!
//! Beside them `attach` brings a link from its handshake into the registry, with what its agent has to `offer`; `follow`
//! hears and probes it on its `control` call until it ends; and `admin` is the operator's port.
//!
//! A hub decodes no message of a service: bodies are bytes to it, passed on as they come.

mod admin;
mod attach;
mod balance;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod builder;
mod call;
mod control;
mod deadline;
mod directory;
mod domain;
mod follow;
mod health;
mod hub;
mod ingress;
mod member;
mod offer;
mod pools;
mod principal;
mod registry;
mod replay;
mod response;
mod router;
mod status;

pub use admin::{MAX_OPERATORS, MAX_REASON, MAX_WATCHES};
pub use attach::{HELLO_TIMEOUT, HOLDER_TIMEOUT, MAX_NAME};
pub use builder::{Builder, DRAIN_TIMEOUT, RECONNECT_GRACE, StartError};
pub use call::{MAX_ATTEMPTS, MAX_HEADER_SECTION, MAX_HELD_CALLS};
pub use control::MAX_EVENT;
pub use domain::{AgentDomain, InvalidAgentDomain};
pub use follow::{EVENTS_PER, HEARTBEAT, MAX_EVENTS};
pub use hub::Hub;
pub use ingress::{
    ClientTls, ExposedClients, InvalidClientTls, Limits, MAX_CALLS_PER_CLIENT, MAX_CLIENT_HANDSHAKES,
    MAX_CONNECTIONS, MAX_CONNECTIONS_PER_CLIENT, MAX_STREAMS, RAPID, RAPID_RESETS, RAPID_RESETS_PER_SECOND,
};
pub use offer::{MAX_SERVICE_NAME, MAX_SERVICES};
pub use pools::{InvalidPool, Pool};
pub use registry::MAX_PAUSED;
pub use replay::MAX_REPLAY;
