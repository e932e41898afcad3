//! `adit agent`: connects a gRPC server to a hub.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use adit_agent::{Agent, HubAddress, Upstream, UpstreamAddr, UpstreamTls};
use adit_certs::{AgentId, CredentialFiles, Credentials, Role};
use adit_transport::Congestion;
use anyhow::Context as _;
use bytesize::ByteSize;
use tracing::info;

use crate::link::{self, Files};
use crate::logging;
use crate::process::Workers;
use crate::process::signals::Stopping;

/// Arguments of `adit agent`.
#[derive(Debug, clap::Args)]
pub(crate) struct AgentArgs {
    /// Directory with ca.pem, agent-ID.pem and agent-ID.key, as `adit certs` writes them
    #[arg(long, value_name = "DIR", env = "ADIT_AGENT_CERTS")]
    certs: Option<PathBuf>,
    /// The CA of the hub, in place of ca.pem
    #[arg(long, value_name = "FILE", env = "ADIT_AGENT_CA")]
    ca: Option<PathBuf>,
    /// The agent's certificate, in place of agent-ID.pem
    #[arg(long, value_name = "FILE", env = "ADIT_AGENT_CERT")]
    cert: Option<PathBuf>,
    /// The agent's private key, in place of agent-ID.key
    #[arg(long, value_name = "FILE", env = "ADIT_AGENT_KEY")]
    key: Option<PathBuf>,
    /// The agent's id, as in its certificate: a DNS label such as site-7
    #[arg(long, env = "ADIT_AGENT_ID")]
    id: AgentId,
    /// The hub's address for agents; its certificate has to be for HOST. May be repeated
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "ADIT_AGENT_HUB",
        value_delimiter = ',',
        required = true
    )]
    hub: Vec<HubAddress>,
    /// The gRPC server: http://HOST:PORT, https://HOST:PORT or unix:/PATH. May be repeated with prefixes of service
    /// names, of which the longest decides
    #[arg(
        long,
        value_name = "[PREFIX=]URL",
        env = "ADIT_AGENT_UPSTREAM",
        value_delimiter = ',',
        required = true
    )]
    upstream: Vec<UpstreamAddr>,
    /// Full name of a service to advertise; may be repeated [default: what the upstreams' server reflection lists]
    #[arg(long, value_name = "NAME", env = "ADIT_AGENT_SERVICE", value_delimiter = ',')]
    service: Vec<String>,
    /// The CA of https upstreams [default: the system's]
    #[arg(long, value_name = "FILE", env = "ADIT_AGENT_UPSTREAM_CA")]
    upstream_ca: Option<PathBuf>,
    /// Certificate to show to https upstreams
    #[arg(
        long,
        value_name = "FILE",
        env = "ADIT_AGENT_UPSTREAM_CERT",
        requires = "upstream_key"
    )]
    upstream_cert: Option<PathBuf>,
    /// Private key of that certificate
    #[arg(
        long,
        value_name = "FILE",
        env = "ADIT_AGENT_UPSTREAM_KEY",
        requires = "upstream_cert"
    )]
    upstream_key: Option<PathBuf>,
    /// The name that https upstreams' certificates are for [default: the host in the URL]
    #[arg(long, value_name = "HOST", env = "ADIT_AGENT_UPSTREAM_NAME")]
    upstream_name: Option<String>,
    /// How the link decides what may be under way: bbr, cubic or newreno
    #[arg(long, value_name = "NAME", env = "ADIT_AGENT_CONGESTION", default_value_t)]
    congestion: Congestion,
    /// What received bytes may hold on one link at the most; past it the call whose reader stands still longest is given
    /// up
    #[arg(
        long,
        value_name = "BYTES",
        env = "ADIT_AGENT_LINK_MEMORY",
        default_value = "512MiB"
    )]
    link_memory: ByteSize,
    /// What all links together may hold beyond 16 MiB each
    #[arg(
        long,
        value_name = "BYTES",
        env = "ADIT_AGENT_BUFFER_MEMORY",
        default_value = "2GiB"
    )]
    buffer_memory: ByteSize,
    /// Threads that carry calls. One does the most for each processor that it has; more do more in all
    #[arg(long, value_name = "N", env = "ADIT_AGENT_WORKERS", default_value = "1")]
    workers: NonZeroUsize,
}

impl AgentArgs {
    pub(crate) fn workers(&self) -> Workers {
        self.workers.into()
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

/// Runs an agent until signals end it.
pub(crate) async fn run(args: AgentArgs) -> anyhow::Result<()> {
    logging::start();
    let tls = args.upstream_tls()?;
    let files = Files {
        certs: args.certs,
        ca: args.ca,
        cert: args.cert,
        key: args.key,
    };
    let files = files.resolve(|dir| CredentialFiles::agent(dir, &args.id))?;
    let mut agent = Agent::builder(args.id.clone(), Credentials::load(&files, Role::Agent)?).tuning(
        link::tuning(args.congestion, args.link_memory, args.buffer_memory)?,
    );
    for hub in args.hub {
        agent = agent.hub(hub);
    }
    for UpstreamAddr { prefix, target } in args.upstream {
        agent = agent.upstream(prefix, Upstream::at(target, &tls)?);
    }
    for service in args.service {
        agent = agent.advertise(service);
    }
    let agent = agent.build()?;
    let stopping = Stopping::on_signals(adit_agent::DRAIN_TIMEOUT)?;
    info!(id = %args.id, congestion = %args.congestion, "the agent starts");
    agent.run(stopping.drain(), stopping.stop()).await;
    stopping.last_words().await;
    Ok(())
}
