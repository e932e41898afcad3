//! The `adit-bench` command: measurements that anyone can run again.

#[cfg(target_os = "linux")]
mod compare;
mod congestion;
mod fleet;
mod ground;
mod handshake;
#[cfg(target_os = "linux")]
mod inside;
mod kills;
#[cfg(target_os = "linux")]
mod lab;
#[cfg(target_os = "linux")]
mod loopback;
#[cfg(target_os = "linux")]
mod namespace;
mod node;
mod operator;
mod processes;
mod storm;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures adit.
#[derive(Debug, Parser)]
#[command(name = "adit-bench", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Calls through hub and agent by each carrier beside direct calls, all on this machine
    #[cfg(target_os = "linux")]
    Loopback(loopback::LoopbackArgs),
    /// Congestion controllers on links that lose packets
    Congestion(congestion::CongestionArgs),
    /// Links made with and without a post-quantum key exchange, where packets are lost
    Handshake(handshake::HandshakeArgs),
    /// Thousands of agents on one hub: how soon they are there, and what they cost while idle
    Fleet(fleet::FleetArgs),
    /// A hub that is started again: how soon all of its agents are back, and how they spread
    Storm(storm::StormArgs),
    /// Replicas that are killed under load: whether what clients were told of their calls is true
    Kills(kills::KillsArgs),
    /// Carriers on a link that loses, delays and queues packets, as real processes in network namespaces
    #[cfg(target_os = "linux")]
    Lab(lab::LabArgs),
    /// Carriers beside each other on several such links: a report, its figures, and plots
    #[cfg(target_os = "linux")]
    Compare(compare::CompareArgs),
    /// One of the measured processes
    #[command(hide = true)]
    Node(node::NodeArgs),
}

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let ended = match command {
        #[cfg(target_os = "linux")]
        Command::Loopback(args) => loopback::run(&args),
        Command::Congestion(args) => congestion::run(&args),
        Command::Handshake(args) => handshake::run(&args),
        Command::Fleet(args) => fleet::run(&args),
        Command::Storm(args) => storm::run(&args),
        Command::Kills(args) => kills::run(&args),
        #[cfg(target_os = "linux")]
        Command::Lab(args) => lab::run(&args),
        #[cfg(target_os = "linux")]
        Command::Compare(args) => compare::run(&args),
        Command::Node(args) => node::run(args),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told that standard error is closed.
            let _ = writeln!(std::io::stderr(), "adit-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
