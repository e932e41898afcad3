//! `adit hub`: accepts agents on one port and their clients on another.

use std::net::SocketAddr;
use std::time::Duration;

use adit_certs::{CredentialFiles, Credentials, Role, TrustDomain};
use adit_hub::{AgentDomain, AgentsAddress, Builder, ClientTls, Hub, Limits, Pool};
use tracing::info;

use crate::key_log::Keys;
use crate::link::{self, ConfigArgs, Files, LinkArgs};
use crate::logging;
use crate::process::Workers;
use crate::process::signals::Stopping;

/// The least that `--max-connection-age` may be.
const YOUNGEST: Duration = Duration::from_secs(1);

/// Arguments of `adit hub`.
#[derive(Debug, clap::Args)]
pub(crate) struct HubArgs {
    #[command(flatten)]
    files: Files,
    /// Address for agents, UDP and TCP on one port, or udp:ADDR for UDP alone; may be repeated, and port 443 beside the default
    /// gets through most firewalls
    #[arg(
        long,
        value_name = "ADDR",
        value_delimiter = ',',
        default_value = "0.0.0.0:4433"
    )]
    agents: Vec<AgentsAddress>,
    /// TCP address for agents whose WebSockets come through a proxy that terminates their TLS, such as nginx [default: none]
    #[arg(long, value_name = "ADDR")]
    websocket: Option<SocketAddr>,
    /// TCP address for clients, which speak HTTP/2
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    clients: SocketAddr,
    /// TCP address where clients get raw TCP connections through agents, after one line of JSON; TLS is as for --clients [default:
    /// none]
    #[arg(long, value_name = "ADDR")]
    tcp: Option<SocketAddr>,
    /// TCP address for operators, on a loopback address only
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9091")]
    admin: SocketAddr,
    /// TLS of clients: off, on (the hub shows its certificate), or mutual (so does the client) [default: off on a loopback
    /// address, else mutual]
    #[arg(long, value_name = "MODE")]
    client_tls: Option<ClientTls>,
    /// Let anybody who reaches --clients or --tcp call every agent, where that is no loopback address either
    #[arg(long)]
    insecure_clients: bool,
    /// Domain under which each agent has a name: clients that dial ID.DOMAIN call the agent ID
    #[arg(long, value_name = "DOMAIN")]
    agent_domain: Option<AgentDomain>,
    /// Full name of a service, or * for all, whose agents are equal and share its calls; may be repeated
    #[arg(long, value_name = "SERVICE", value_delimiter = ',')]
    pool: Vec<Pool>,
    /// Whose agents may connect; needed only with a CA that does not say it
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<TrustDomain>,
    /// How long a call waits for an agent that is not connected
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    reconnect_grace: Duration,
    /// How old a client's connection gets, give or take a tenth, before the client is asked to make its next calls on
    /// another one; running calls go on [default: any age]
    #[arg(long, value_name = "TIME", value_parser = connection_age)]
    max_connection_age: Option<Duration>,
    #[command(flatten)]
    link: LinkArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

impl HubArgs {
    pub(crate) fn workers(&self) -> Workers {
        self.link.workers.into()
    }

    /// A hub as told, that has no ports yet.
    fn builder(&self, keys: Option<&Keys>) -> anyhow::Result<Builder> {
        let files = self.files.resolve(CredentialFiles::hub)?;
        let mut hub = Hub::builder(Credentials::load(&files, Role::Hub)?)
            .clients(self.clients)
            .admin(self.admin)
            .reconnect_grace(self.reconnect_grace)
            .drain_timeout(self.link.drain_timeout)
            .limits(Limits {
                connection_age: self.max_connection_age,
                ..Limits::default()
            })
            .tuning(self.link.tuning()?);
        for &address in &self.agents {
            hub = hub.agents(address);
        }
        if let Some(address) = self.websocket {
            hub = hub.websocket(address);
        }
        if let Some(address) = self.tcp {
            hub = hub.tcp(address);
        }
        for pool in &self.pool {
            hub = hub.pool(pool.clone());
        }
        if let Some(domain) = &self.agent_domain {
            hub = hub.agent_domain(domain.clone());
        }
        if let Some(trust_domain) = &self.trust_domain {
            hub = hub.trust_domain(trust_domain.clone());
        }
        if let Some(mode) = self.client_tls {
            hub = hub.client_tls(mode);
        }
        if let Some(keys) = keys {
            hub = hub.key_log(keys.log());
        }
        Ok(hub.insecure_clients(self.insecure_clients))
    }
}

/// An age that leaves a client the time for calls.
fn connection_age(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(age) if age < YOUNGEST => Err(format!(
            "clients would have no time for calls; it has to be {} or more",
            humantime::format_duration(YOUNGEST)
        )),
        Ok(age) => Ok(age),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs a hub until signals end it, or checks only whether it would start.
pub(crate) async fn run(args: HubArgs) -> anyhow::Result<()> {
    let keys = Keys::from_environment()?;
    let builder = args.builder(keys.as_ref())?;
    if args.config.check_config {
        builder.check()?;
        let tcp = args.tcp.map(|address| format!(", for raw TCP to {address}"));
        let tcp = tcp.unwrap_or_default();
        return link::is_good(&format!(
            "agents connect to {}, clients to {}{tcp}, operators to {}",
            link::words(&args.agents),
            args.clients,
            args.admin
        ));
    }
    logging::start();
    if let Some(keys) = &keys {
        keys.warn("agents' and clients' TLS");
    }
    let hub = builder.bind().await?;
    let stopping = Stopping::on_signals(args.link.drain_timeout)?;
    info!(
        agents = ?hub.agents_addresses()?,
        websocket = hub.websocket_address()?.map(tracing::field::display),
        clients = %hub.clients_address()?,
        tcp = hub.tcp_address()?.map(tracing::field::display),
        admin = hub.admin_address()?.map(tracing::field::display),
        congestion = %args.link.congestion,
        "the hub listens"
    );
    hub.run(stopping.drain(), stopping.stop()).await;
    stopping.last_words().await;
    Ok(())
}
