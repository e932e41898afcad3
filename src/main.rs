//! The `adit` command: arguments, logging, signals and exit codes. What it does is in the crates.

#[cfg(feature = "client")]
mod admin;
#[cfg(feature = "agent")]
mod agent;
#[cfg(feature = "client")]
mod agents;
mod arguments;
#[cfg(feature = "client")]
mod call;
mod certs;
#[cfg(feature = "client")]
mod colour;
mod config;
#[cfg(all(feature = "agent", feature = "client"))]
mod connect;
#[cfg(feature = "demo")]
mod demo;
#[cfg(feature = "client")]
mod describe;
#[cfg(feature = "hub")]
mod hub;
#[cfg(any(feature = "hub", feature = "agent"))]
mod key_log;
#[cfg(any(feature = "hub", feature = "agent"))]
mod link;
#[cfg(feature = "client")]
mod list;
#[cfg(any(feature = "hub", feature = "agent"))]
mod logging;
mod manual;
mod process;
#[cfg(feature = "client")]
mod route;
#[cfg(feature = "client")]
mod schema;
#[cfg(feature = "client")]
mod server;
#[cfg(feature = "client")]
mod status;
mod user_config;

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
    /// Open a local port that is one agent, for clients that cannot set metadata, or a TCP target beside it
    #[cfg(all(feature = "agent", feature = "client"))]
    Connect(Box<connect::ConnectArgs>),
    /// Print services, messages and whatever else has a name as proto source
    #[cfg(feature = "client")]
    Describe(Box<describe::DescribeArgs>),
    /// List services, and the agents that have them
    #[cfg(feature = "client")]
    List(list::ListArgs),
    /// List or watch connected agents; drain, resume or kick them
    #[cfg(feature = "client")]
    Agents(Box<agents::AgentsArgs>),
    /// Tell how a hub is
    #[cfg(feature = "client")]
    Status(status::StatusArgs),
    /// Print what has a shell complete this command's arguments
    Completions(manual::CompletionsArgs),
    /// Print or write the manual pages
    Man(manual::ManArgs),
}

fn main() -> ExitCode {
    let Arguments { command } = arguments::parse().unwrap_or_else(|error| error.exit());
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
        #[cfg(all(feature = "agent", feature = "client"))]
        Command::Connect(args) => {
            process::run(process::Workers::One, connect::run(*args)).map(|()| ExitCode::SUCCESS)
        }
        #[cfg(feature = "client")]
        Command::Describe(args) => admin::ended(process::run(process::Workers::One, describe::run(*args))),
        #[cfg(feature = "client")]
        Command::List(args) => admin::ended(process::run(process::Workers::One, list::run(args))),
        #[cfg(feature = "client")]
        Command::Agents(args) => admin::ended(process::run(process::Workers::One, agents::run(*args))),
        #[cfg(feature = "client")]
        Command::Status(args) => admin::ended(process::run(process::Workers::One, status::run(args))),
        Command::Completions(args) => manual::completions(&args).map(|()| ExitCode::SUCCESS),
        Command::Man(args) => manual::man(&args).map(|()| ExitCode::SUCCESS),
    };
    ended.unwrap_or_else(|error| {
        process::complain(&error);
        ExitCode::FAILURE
    })
}
