#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod calls;
mod connections;
mod failures;
mod in_process;
pub(crate) mod support;
mod tls;
