//! Agents, and hubs held by hand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod draining;
mod heartbeats;
mod hub;
mod links;
