//! The `adit` command: arguments, logging, signals and exit codes. What it does is in the crates.

#[cfg(feature = "agent")]
mod agent;
#[cfg(feature = "client")]
mod call;
mod certs;
#[cfg(feature = "demo")]
mod demo;
#[cfg(feature = "hub")]
mod hub;
#[cfg(any(feature = "hub", feature = "agent"))]
mod link;
#[cfg(any(feature = "hub", feature = "agent"))]
mod logging;
mod process;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A quarter more calls a second than with the system's, by measurement.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Calls gRPC services in networks that nobody can dial into.
///
/// An agent beside the service dials out to a hub; any gRPC client calls the hub's port.
#[derive(Debug, Parser)]
#[command(name = "adit", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it work: hub, agent and a sample service in one process
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
    /// Make a CA and certificates for hubs, agents and clients
    Certs(certs::CertsArgs),
    /// Accept agents on one port, and their clients on another
    #[cfg(feature = "hub")]
    Hub(Box<hub::HubArgs>),
    /// Connect a gRPC server to a hub
    #[cfg(feature = "agent")]
    Agent(Box<agent::AgentArgs>),
    /// Call a method
    #[cfg(feature = "client")]
    Call(Box<call::CallArgs>),
}

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let ended = match command {
        #[cfg(feature = "demo")]
        Command::Demo(args) => {
            process::run(process::Workers::One, demo::run(args)).map(|()| ExitCode::SUCCESS)
        }
        Command::Certs(args) => certs::run(args).map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "hub")]
        Command::Hub(args) => process::run(args.workers(), hub::run(*args)).map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "agent")]
        Command::Agent(args) => process::run(args.workers(), agent::run(*args)).map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "client")]
        Command::Call(args) => process::run(process::Workers::One, call::run(*args)),
    };
    ended.unwrap_or_else(|error| {
        process::complain(&error);
        ExitCode::FAILURE
    })
}
