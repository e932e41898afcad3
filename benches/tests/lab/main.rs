//! Measurements in network namespaces as people start them, and end them: whatever happens, nothing of them is left.
//!
//! Where this machine has no namespaces, or no devices for us, they say so, and that is all that is checked.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say why they check nothing"
)]

mod left;
mod link;
mod loopback;
mod peers;
