//! `adit demo`: a hub, an agent and a sample service in one process, with a throwaway CA.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use adit_agent::{Agent, HubAddress};
use adit_certs::{
    AgentId, Authority, CredentialFiles, Credentials, Directory, Existing, Host, Role, Subject, TrustDomain,
    Validity,
};
use adit_examples::route_guide::geography;
use adit_examples::route_guide::pb::Point;
use adit_hub::Hub;
use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;

use crate::logging;
use crate::process::signals::Signals;

mod calls;

/// The id of the demo's agent.
const AGENT: &str = "demo";

/// How long the agent may take to connect to the hub beside it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments of `adit demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Make one call of each kind, print them, and end
    #[arg(long)]
    once: bool,
    /// TCP address for clients [default: 127.0.0.1:9090, or any free port with --once]
    #[arg(long, value_name = "ADDR")]
    clients: Option<SocketAddr>,
}

/// Runs the demo until a signal stops it, or its calls are made.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<()> {
    if !args.once {
        logging::start();
    }
    let clients = args.clients.unwrap_or(match args.once {
        true => (Ipv4Addr::LOCALHOST, 0).into(),
        false => (Ipv4Addr::LOCALHOST, 9090).into(),
    });
    let files = tempfile::tempdir().context("cannot make a temporary directory for the certificates")?;
    make_certificates(&Directory::new(files.path()))?;

    let credentials = Credentials::load(&CredentialFiles::hub(files.path()), Role::Hub)?;
    let hub = Hub::builder(credentials)
        .agents(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
        .clients(clients)
        .reconnect_grace(CONNECT_TIMEOUT)
        .bind()
        .await?;
    let (agents, clients) = (hub.agents_addresses()?, hub.clients_address()?);
    let Some(agents) = agents.first() else {
        bail!("the hub has no port for agents");
    };
    let id: AgentId = AGENT.parse()?;
    let credentials = Credentials::load(&CredentialFiles::agent(files.path(), &id), Role::Agent)?;
    let agent = Agent::builder(id, credentials)
        .hub(agents.to_string().parse::<HubAddress>()?)
        .serve(adit_examples::route_guide::routes().await)
        .build()?;

    introduce(agents, clients)?;
    let stopping = CancellationToken::new();
    let work = async {
        let ended = if args.once {
            calls::make_one_of_each(clients).await
        } else {
            Signals::hear()?.next().await;
            Ok(())
        };
        stopping.cancel();
        ended
    };
    let ((), (), ended) = tokio::join!(
        hub.run(std::future::pending(), stopping.cancelled()),
        agent.run(std::future::pending(), stopping.cancelled()),
        work
    );
    ended
}

/// A CA that is forgotten with its directory, and a certificate for each end.
fn make_certificates(directory: &Directory) -> anyhow::Result<()> {
    let validity = Validity::days(NonZeroU16::MIN);
    let authority = Authority::create(&"adit".parse::<TrustDomain>()?, validity)?;
    directory.write_authority(&authority, Existing::Keep)?;
    let subjects = [
        Subject::Hub {
            sans: vec![Host::Ip(Ipv4Addr::LOCALHOST.into())],
        },
        Subject::Agent(AGENT.parse()?),
    ];
    for subject in subjects {
        directory.write(&subject, &authority.issue(&subject, validity)?, Existing::Keep)?;
    }
    Ok(())
}

fn introduce(agents: &SocketAddr, clients: SocketAddr) -> anyhow::Result<()> {
    let known = geography::features().next().and_then(|feature| feature.location);
    let Point { latitude, longitude } = known.context("the sample service knows no places")?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "\
hub      clients call {clients}, agents connect to {agents} (QUIC, mutual TLS)
agent    {AGENT:?}, with the sample service routeguide.RouteGuide; it listens on no port

Try:
  adit call --hub http://{clients} --agent {AGENT} routeguide.RouteGuide/ListFeatures \\
      -d '{{\"lo\": {{\"latitude\": -900000000, \"longitude\": -1800000000}}, \"hi\": {{\"latitude\": 900000000, \"longitude\": 1800000000}}}}'
  grpcurl -plaintext -reflect-header 'adit-agent: {AGENT}' -rpc-header 'adit-agent: {AGENT}' \\
      -d '{{\"latitude\": {latitude}, \"longitude\": {longitude}}}' {clients} routeguide.RouteGuide/GetFeature
"
    )?;
    out.flush()?;
    Ok(())
}
