//! Sample gRPC services that are called through the tunnel.
//!
//! Nothing here knows of a tunnel: these are ordinary gRPC servers, as an agent finds them.
//!
//! - [`route_guide`]: the RouteGuide of gRPC's tutorials, one method of each kind. Its `.proto` file and
//!   foreign clients are in the folder `route_guide/`, the server in `src/bin/route-guide-server.rs`.
//! - [`ledger`]: counts a sample's calls, and sees those that are cancelled.
//! - [`serve`]: serves any sample on a TCP or Unix address until it is told to stop.
//!
//! A further sample gets a module here and a folder beside `route_guide/`, with a README of its own.

pub mod ledger;
pub mod route_guide;
pub mod serve;
