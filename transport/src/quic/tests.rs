//! The `quic` carrier over real sockets on the loopback address: its own two ends, the `h3` crate at either of them,
//! and peers of bare quinn that do what they must not. What every carrier has to do alike is run by each of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking"
)]

mod bad_peers;
mod bodies;
mod calls;
mod draining;
mod foreign_agent;
mod foreign_hub;
mod given_up;
mod goaway;
mod handshakes;
mod lifetimes;
mod limits;
mod liveness;
mod many_calls;
mod on_the_wire;
mod restart;
mod slow_readers;
pub(crate) mod support;
mod tails;
