//! A hub in the program that calls the services behind it: it needs no `adit hub` beside it.
//!
//! ```sh
//! adit certs init && adit certs hub --san 127.0.0.1 && adit certs agent site-7
//! cargo run -p adit-examples --example embedded-hub -- --certs adit-certs --agents 127.0.0.1:4433 --ask site-7 &
//! cargo run -p adit-examples --example embedded-agent -- --certs adit-certs --id site-7 --hub 127.0.0.1:4433
//! ```

#![allow(clippy::print_stdout, reason = "a program tells what it was asked for")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use adit_certs::{AgentId, CredentialFiles, Credentials, Role};
use adit_examples::route_guide::{RouteGuideClient, pb::Point};
use adit_hub::Hub;
use anyhow::Context as _;
use clap::Parser;
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};

/// How long an agent is waited for at each question: the program has nothing else to do.
const WAIT_FOR_AGENT: Duration = Duration::from_secs(30);

/// Between two questions.
const PAUSE: Duration = Duration::from_secs(5);

/// Asks the RouteGuide of some agents for a place again and again, through a hub in the same process.
#[derive(Parser)]
struct Arguments {
    /// Directory with ca.pem, hub.pem and hub.key, as `adit certs` writes them
    #[arg(long, default_value = "adit-certs")]
    certs: PathBuf,
    /// Where agents connect to: ADDRESS:PORT
    #[arg(long, default_value = "0.0.0.0:4433")]
    agents: SocketAddr,
    /// An agent to ask. May be repeated
    #[arg(long, required = true)]
    ask: Vec<AgentId>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();

    let credentials = Credentials::load(&CredentialFiles::hub(&arguments.certs), Role::Hub)?;
    let hub = Hub::builder(credentials)
        .agents(arguments.agents.into())
        // On a loopback address, and so for this machine's programs only; the system picks the port.
        .clients("127.0.0.1:0".parse()?)
        .reconnect_grace(WAIT_FOR_AGENT)
        .bind()
        .await?;
    let channel = Endpoint::try_from(format!("http://{}", hub.clients_address()?))?.connect_lazy();

    let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    tokio::select! {
        // Ctrl-C has the running calls end first. Nothing here ends them at once.
        () = hub.run(interrupted, std::future::pending()) => Ok(()),
        failed = ask(channel, arguments.ask) => failed,
    }
}

/// Asks each agent in turn, for ever.
async fn ask(channel: Channel, agents: Vec<AgentId>) -> anyhow::Result<()> {
    let mut client = RouteGuideClient::new(channel);
    loop {
        for agent in &agents {
            let mut request = Request::new(Point {
                latitude: 405_000_000,
                longitude: -745_000_000,
            });
            let id = AsciiMetadataValue::try_from(agent.as_str()).context("an id is plain text")?;
            request.metadata_mut().insert("adit-agent", id);
            match client.get_feature(request).await {
                Ok(feature) => println!("{agent} has {}", feature.into_inner().name),
                Err(status) => println!("{agent}: {}: {}", status.code(), status.message()),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
