//! Measures the tunnel: what the benches and the `adit-bench` command share.
//!
//! * [`echo`]: the service that is called;
//! * [`load`]: who calls it, and how long it took;
//! * [`cpu`] and [`machine`]: what it cost, and where.

pub mod cpu;
pub mod echo;
pub mod load;
pub mod machine;
