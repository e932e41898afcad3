//! RouteGuide behind a hub, on no port of its own: an agent in the program that has the service.
//!
//! ```sh
//! adit certs init && adit certs hub --san 127.0.0.1 && adit certs agent site-7
//! adit hub --certs adit-certs &
//! cargo run -p adit-examples --example embedded-agent -- --certs adit-certs --id site-7 --hub 127.0.0.1:4433
//! ```

use std::path::PathBuf;

use adit_agent::{Agent, HubAddress};
use adit_certs::{AgentId, CredentialFiles, Credentials, Role};
use adit_examples::route_guide;
use anyhow::Context as _;
use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The RouteGuide sample service, served through a hub by an agent in the same process.
#[derive(Parser)]
struct Arguments {
    /// Directory with ca.pem, agent-ID.pem and agent-ID.key, as `adit certs` writes them
    #[arg(long, default_value = "adit-certs")]
    certs: PathBuf,
    /// The agent's id, as in its certificate
    #[arg(long)]
    id: AgentId,
    /// The hub's address for agents: HOST:PORT. May be repeated
    #[arg(long, required = true)]
    hub: Vec<HubAddress>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();

    let files = CredentialFiles::agent(&arguments.certs, &arguments.id);
    let mut agent = Agent::builder(arguments.id, Credentials::load(&files, Role::Agent)?)
        // Reflection is among the routes: the hub learns from it that RouteGuide is here.
        .serve(route_guide::routes().await)
        .label("kind=example".parse()?);
    for hub in arguments.hub {
        agent = agent.hub(hub);
    }

    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let mut again = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let drain = async {
        interrupt.recv().await;
    };
    agent.build()?.run(drain, second(&mut again)).await;
    Ok(())
}

/// The first Ctrl-C lets running calls end, and the second does not.
async fn second(interrupt: &mut Signal) {
    interrupt.recv().await;
    interrupt.recv().await;
}
