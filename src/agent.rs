//! `adit agent`: connects a gRPC server to a hub.

use std::path::PathBuf;

use adit_agent::{Agent, AllowedTarget, Carriers, HubAddress, Upstream, UpstreamAddr, UpstreamTls};
use adit_certs::{AgentId, CredentialFiles, Credentials, Role};
use adit_proto::labels::Label;
use anyhow::Context as _;
use tracing::info;

use crate::key_log::Keys;
use crate::link::{self, ConfigArgs, Files, LinkArgs};
use crate::logging;
use crate::process::Workers;
use crate::process::signals::Stopping;

/// The coding that leaves everything as it is.
const IDENTITY: &str = "identity";

/// Arguments of `adit agent`.
#[derive(Debug, clap::Args)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    files: Files,
    /// The agent's id, as in its certificate: a DNS label such as site-7
    #[arg(long)]
    id: AgentId,
    /// The hub's address for agents, HOST:PORT, or wss://HOST/PATH where a proxy before the hub terminates TLS; the hub's
    /// certificate has to be for HOST. May be repeated
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', required = true)]
    hub: Vec<HubAddress>,
    /// Links to each hub, which share the calls: from 1 to 16
    #[arg(long, value_name = "N", default_value = "1")]
    links: u32,
    /// What links run over: quic (UDP), tls (TCP), websocket, through the HTTP proxy that the environment names if any, or
    /// auto: quic wherever it works, and otherwise whatever does
    #[arg(long, value_name = "NAME", default_value = "auto")]
    carrier: Carriers,
    /// The CA of what terminates TLS before a hub at a wss:// address [default: the system's]
    #[arg(long, value_name = "FILE")]
    websocket_ca: Option<PathBuf>,
    /// The gRPC server: http://HOST:PORT, https://HOST:PORT or unix:/PATH. May be repeated with prefixes of service
    /// names, of which the longest decides
    #[arg(
        long,
        value_name = "[PREFIX=]URL",
        value_delimiter = ',',
        required_unless_present = "tcp"
    )]
    upstream: Vec<UpstreamAddr>,
    /// Target that clients may have raw TCP connections to, HOST:PORT, or HOST:* for every port of that host; may be repeated
    /// [default: none]
    #[arg(long, value_name = "TARGET", value_delimiter = ',')]
    tcp: Vec<AllowedTarget>,
    /// Full name of a service to advertise; may be repeated [default: what the upstreams' server reflection lists]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    service: Vec<String>,
    /// The CA of https upstreams [default: the system's]
    #[arg(long, value_name = "FILE")]
    upstream_ca: Option<PathBuf>,
    /// Certificate to show to https upstreams
    #[arg(long, value_name = "FILE", requires = "upstream_key")]
    upstream_cert: Option<PathBuf>,
    /// Private key of that certificate
    #[arg(long, value_name = "FILE", requires = "upstream_cert")]
    upstream_key: Option<PathBuf>,
    /// The name that https upstreams' certificates are for [default: the host in the URL]
    #[arg(long, value_name = "HOST")]
    upstream_name: Option<String>,
    /// Label that callers pick agents by, such as region=eu; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    label: Vec<Label>,
    /// Allow no other instance of this id while this one is connected; without it they share the calls
    #[arg(long)]
    exclusive: bool,
    /// What calls are compressed with between agent and hub, where they are not compressed already: identity (nothing), or
    /// zstd, for links that are slower than a processor
    #[arg(long, value_name = "NAME", default_value = IDENTITY)]
    coding: String,
    #[command(flatten)]
    link: LinkArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

impl AgentArgs {
    pub(crate) fn workers(&self) -> Workers {
        self.link.workers.into()
    }

    /// An agent as told, that has dialled nobody yet.
    fn agent(&self, keys: Option<&Keys>) -> anyhow::Result<Agent> {
        let files = self.files.resolve(|dir| CredentialFiles::agent(dir, &self.id))?;
        let credentials = Credentials::load(&files, Role::Agent)?;
        let tls = self.upstream_tls()?;
        let mut agent = Agent::builder(self.id.clone(), credentials)
            .exclusive(self.exclusive)
            .links(self.links)
            .drain_timeout(self.link.drain_timeout)
            .carriers(self.carrier)
            .tuning(self.link.tuning()?);
        if self.coding != IDENTITY {
            agent = agent.coding(&self.coding);
        }
        if let Some(ca) = &self.websocket_ca {
            agent = agent.websocket_ca(ca.clone());
        }
        for hub in &self.hub {
            agent = agent.hub(hub.clone());
        }
        for UpstreamAddr { prefix, target } in self.upstream.iter().cloned() {
            agent = agent.upstream(prefix, Upstream::at(target, &tls)?);
        }
        for target in &self.tcp {
            agent = agent.tcp(target.clone());
        }
        for service in &self.service {
            agent = agent.advertise(service);
        }
        for label in &self.label {
            agent = agent.label(label.clone());
        }
        if let Some(keys) = keys {
            agent = agent.key_log(keys.log());
        }
        Ok(agent.build()?)
    }

    fn upstream_tls(&self) -> anyhow::Result<UpstreamTls> {
        let name = self.upstream_name.as_deref().map(|name| {
            rustls::pki_types::ServerName::try_from(name.to_owned())
                .with_context(|| format!("--upstream-name {name:?} is no DNS name and no IP address"))
        });
        Ok(UpstreamTls {
            ca: self.upstream_ca.clone(),
            identity: self.upstream_cert.clone().zip(self.upstream_key.clone()),
            name: name.transpose()?,
        })
    }
}

/// Runs an agent until signals end it, or checks only whether it would start.
pub(crate) async fn run(args: AgentArgs) -> anyhow::Result<()> {
    let keys = Keys::from_environment()?;
    let agent = args.agent(keys.as_ref())?;
    if args.config.check_config {
        let exclusive = if args.exclusive { "exclusive " } else { "" };
        let tcp = match args.tcp.as_slice() {
            [] => String::new(),
            targets => format!(", raw TCP to {}", link::words(targets)),
        };
        return link::is_good(&format!(
            "{exclusive}agent {} ({}), hubs {}, upstreams {}{tcp}",
            args.id,
            link::words(&args.label),
            link::words(&args.hub),
            link::words(&args.upstream)
        ));
    }
    logging::start();
    if let Some(keys) = &keys {
        keys.warn("the links' TLS");
    }
    let stopping = Stopping::on_signals(args.link.drain_timeout)?;
    info!(id = %args.id, congestion = %args.link.congestion, "the agent starts");
    agent.run(stopping.drain(), stopping.stop()).await;
    stopping.last_words().await;
    Ok(())
}
