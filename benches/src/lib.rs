//! Measures the tunnel: what the benches and the `adit-bench` command share.
//!
//! * [`echo`]: the service that is called;
//! * [`lossy`]: a path that delays and loses packets;
//! * [`load`], [`open_loop`] and [`workload`]: who calls it; [`handshakes`]: links that come and go;
//! * [`latencies`] and [`agreement`]: how long it took, and whether what clients were told of it is true;
//! * [`certificates`]: for the ends of a link;
//! * [`cpu`], [`memory`] and [`machine`]: what it cost, and where; [`open_files`]: whether the system lets it;
//! * [`figure`]: how reports say it.

pub mod agreement;
pub mod certificates;
pub mod cpu;
pub mod echo;
pub mod figure;
pub mod handshakes;
pub mod latencies;
pub mod load;
pub mod lossy;
pub mod machine;
pub mod memory;
pub mod open_files;
pub mod open_loop;
pub mod workload;
