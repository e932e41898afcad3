//! RouteGuide as a stand-alone gRPC server, in cleartext, with health and reflection.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command speaks to whoever started it"
)]

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use adit_examples::route_guide;
use adit_examples::serve::{Address, Listener};
use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The RouteGuide sample service, in cleartext. Prints the address that it listens on,
/// and logs cancelled calls on standard error (RUST_LOG sets the level).
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen: IP:PORT (port 0 takes a free one) or unix:/PATH
    #[arg(long, default_value = "127.0.0.1:50051")]
    listen: Address,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env()
        .context("RUST_LOG")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();

    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };

    let listener = Listener::bind(arguments.listen).await?;
    println!("listening on {}", listener.address());
    // Whoever started us may read this through a pipe.
    io::stdout().flush()?;
    listener.serve(route_guide::routes().await, stop).await?;
    Ok(())
}
