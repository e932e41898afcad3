//! `adit hub`: accepts agents on one port and their clients on another.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use adit_certs::{CredentialFiles, Credentials, Role, TrustDomain};
use adit_hub::Hub;
use adit_transport::Congestion;
use bytesize::ByteSize;
use tracing::info;

use crate::link::{self, Files};
use crate::logging;
use crate::process::Workers;
use crate::process::signals::Stopping;

/// Arguments of `adit hub`.
#[derive(Debug, clap::Args)]
pub(crate) struct HubArgs {
    /// Directory with ca.pem, hub.pem and hub.key, as `adit certs` writes them
    #[arg(long, value_name = "DIR", env = "ADIT_HUB_CERTS")]
    certs: Option<PathBuf>,
    /// The CA of the agents, in place of ca.pem
    #[arg(long, value_name = "FILE", env = "ADIT_HUB_CA")]
    ca: Option<PathBuf>,
    /// The hub's certificate, in place of hub.pem
    #[arg(long, value_name = "FILE", env = "ADIT_HUB_CERT")]
    cert: Option<PathBuf>,
    /// The hub's private key, in place of hub.key
    #[arg(long, value_name = "FILE", env = "ADIT_HUB_KEY")]
    key: Option<PathBuf>,
    /// UDP address for agents; may be repeated, and port 443 beside the default gets through most firewalls
    #[arg(
        long,
        value_name = "ADDR",
        env = "ADIT_HUB_AGENTS",
        value_delimiter = ',',
        default_value = "0.0.0.0:4433"
    )]
    agents: Vec<SocketAddr>,
    /// TCP address for clients: cleartext HTTP/2, on a loopback address only
    #[arg(
        long,
        value_name = "ADDR",
        env = "ADIT_HUB_CLIENTS",
        default_value = "127.0.0.1:9090"
    )]
    clients: SocketAddr,
    /// TCP address for operators, on a loopback address only
    #[arg(
        long,
        value_name = "ADDR",
        env = "ADIT_HUB_ADMIN",
        default_value = "127.0.0.1:9091"
    )]
    admin: SocketAddr,
    /// How long a call waits for an agent that is not connected
    #[arg(long, value_name = "TIME", env = "ADIT_HUB_RECONNECT_GRACE", default_value = "3s", value_parser = humantime::parse_duration)]
    reconnect_grace: Duration,
    /// How the links decide what may be under way: bbr, cubic or newreno
    #[arg(long, value_name = "NAME", env = "ADIT_HUB_CONGESTION", default_value_t)]
    congestion: Congestion,
    /// Whose agents may connect; needed only with a CA that does not say it
    #[arg(long, value_name = "NAME", env = "ADIT_HUB_TRUST_DOMAIN")]
    trust_domain: Option<TrustDomain>,
    /// What received bytes may hold on one link at the most; past it the call whose reader stands still longest is given
    /// up
    #[arg(
        long,
        value_name = "BYTES",
        env = "ADIT_HUB_LINK_MEMORY",
        default_value = "512MiB"
    )]
    link_memory: ByteSize,
    /// What all links together may hold beyond 16 MiB each
    #[arg(
        long,
        value_name = "BYTES",
        env = "ADIT_HUB_BUFFER_MEMORY",
        default_value = "2GiB"
    )]
    buffer_memory: ByteSize,
    /// Threads that carry calls. One does the most for each processor that it has; more do more in all
    #[arg(long, value_name = "N", env = "ADIT_HUB_WORKERS", default_value = "1")]
    workers: NonZeroUsize,
}

impl HubArgs {
    pub(crate) fn workers(&self) -> Workers {
        self.workers.into()
    }
}

/// Runs a hub until signals end it.
pub(crate) async fn run(args: HubArgs) -> anyhow::Result<()> {
    logging::start();
    let files = Files {
        certs: args.certs,
        ca: args.ca,
        cert: args.cert,
        key: args.key,
    };
    let files = files.resolve(CredentialFiles::hub)?;
    let mut hub = Hub::builder(Credentials::load(&files, Role::Hub)?)
        .clients(args.clients)
        .admin(args.admin)
        .reconnect_grace(args.reconnect_grace)
        .tuning(link::tuning(
            args.congestion,
            args.link_memory,
            args.buffer_memory,
        )?);
    for address in args.agents {
        hub = hub.agents(address);
    }
    if let Some(trust_domain) = args.trust_domain {
        hub = hub.trust_domain(trust_domain);
    }
    let hub = hub.bind().await?;
    let stopping = Stopping::on_signals(adit_hub::DRAIN_TIMEOUT)?;
    info!(
        agents = ?hub.agents_addresses()?,
        clients = %hub.clients_address()?,
        admin = hub.admin_address()?.map(tracing::field::display),
        congestion = %args.congestion,
        "the hub listens"
    );
    hub.run(stopping.drain(), stopping.stop()).await;
    stopping.last_words().await;
    Ok(())
}
