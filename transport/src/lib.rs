//! Carriers and links: one gRPC call on one stream, whichever carrier is below.
//!
//! A [`HubLink`] is the hub's end of a link and makes calls; an [`AgentLink`] is the agent's end and serves them.
//! Both speak `http` requests and responses with a [`Body`] of bytes and trailers, and know nothing of agents'
//! names, of routing or of policy.
//!
//! From the wire upwards:
//!
//! * [`rh3`]: frames, QPACK and message heads of HTTP/3. Pure bytes: no socket, no runtime, no clock.
//! * [`quic`]: the `quic` carrier. Sockets, QUIC streams that reset when they are dropped, the control streams,
//!   and the two loops that carry a call: one that sends a message, one that receives it.
//! * [`liveness`]: whether a link is alive, judged from what arrives. No socket, no runtime, no clock either.
//! * [`body`], [`link`], [`tuning`]: what the crates above see.

pub mod body;
pub mod link;
pub mod liveness;
pub mod quic;
pub mod rh3;
pub mod tuning;

pub use body::{Body, BodyError};
pub use link::{AgentLink, CallError, Delivered, HubLink, LinkError, Reset, Standing};
pub use liveness::{Activity, Dead, Liveness, Sample, Verdict};
pub use quic::endpoint::{
    BindError, DialError, Dialer, HANDSHAKE_TIMEOUT, HANDSHAKES, Handshake, HandshakeError, Listener,
};
pub use quic::readers::BufferMemory;
pub use rh3::code::Code;
pub use tuning::{Congestion, Tuning};
