//! adit as a whole, over real sockets: one module for each behaviour.
//!
//! [`world`] makes what the tests need: a throwaway CA, hubs and agents in this process or as processes of the
//! command, upstreams, and clients that see every frame. Nothing listens on a fixed port, and nothing waits for a fixed
//! time: a test waits until something is so, or fails after [`world::PATIENCE`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod world;

mod admin;
mod bad_agents;
mod bad_certificates;
mod bad_input;
mod call;
mod cancellation;
mod carriers;
mod certs;
mod client_drain;
mod client_limits;
mod client_tls;
mod coding;
mod compression;
mod config;
mod connect;
mod dead_links;
mod deadline;
mod delivered;
mod demo;
mod describe;
mod failures;
mod fidelity;
mod flapping;
mod fleet;
mod flow;
mod health_steering;
mod hub_health;
mod kinds;
mod links;
mod manual;
mod packet_traces;
mod path_changes;
mod raw_tcp;
mod restart;
mod services;
mod signals;
mod stopped_readers;
mod two_hubs;
mod upstream_connections;
mod upstream_failures;
mod upstreams;
mod user_config;
mod version_skew;
