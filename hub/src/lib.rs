//! The hub: takes calls from clients and carries each to an agent.
//!
//! In the order in which a call meets them:
//!
//! * `ingress`: the clients' port, HTTP/2 and its limits;
//! * `call`: the story of one call, from the request's head to the response's;
//! * `router` and `directory`: which agent id a call is for, and what the connected agents serve;
//! * `registry`: the live links of each id, and the choice among them;
//! * `response`: the response on its way to the client, ended well or ended by the hub;
//! * `status`: what a client is told of a failure, all of it in one place;
//! * `deadline`: `grpc-timeout`, and the timer that the hub keeps for it.
//!
//! Beside them `attach` follows each link from its handshake to its end, and `admin` is the operator's port.
//!
//! A hub decodes no message of a service: bodies are bytes to it, passed on as they come.

mod admin;
mod attach;
mod call;
mod deadline;
mod directory;
mod hub;
mod ingress;
mod registry;
mod response;
mod router;
mod status;

pub use attach::{HELLO_TIMEOUT, MAX_EVENT, MAX_SERVICES};
pub use call::{MAX_HEADER_SECTION, MAX_HELD_CALLS};
pub use hub::{Config, Hub, StartError};
pub use ingress::{MAX_CONNECTIONS, MAX_STREAMS};
