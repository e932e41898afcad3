//! `adit connect`: a local port that is one agent, or a target beside it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use adit_agent::{LocalPort, LocalTcpPort, RawTarget, Upstream, UpstreamAddr};
use adit_certs::AgentId;
use adit_client::tls::Trust;
use adit_proto::raw::ALPN;
use anyhow::{Context as _, bail};
use rustls::ClientConfig;
use tracing::{info, warn};

use crate::logging;
use crate::process::signals::Stopping;
use crate::server::ServerArgs;

/// Arguments of `adit connect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The port speaks gRPC without TLS (cleartext HTTP/2). Every call to it goes to the hub with the metadata adit-agent: ID, and is
otherwise passed on as it is, both ways.

With --tcp TARGET --via HOST:PORT the port takes connections of any kind, and each is one from the agent's machine to TARGET,
which the agent has to allow (adit agent --tcp).")]
pub(crate) struct ConnectArgs {
    /// The agent's id
    #[arg(value_name = "ID")]
    agent: AgentId,
    /// Where to listen: PORT on the loopback address, or ADDRESS:PORT; port 0 is any free one
    #[arg(long, value_name = "ADDR", value_parser = listen_address)]
    listen: SocketAddr,
    /// Let other machines use the port, which asks nobody who they are
    #[arg(long)]
    insecure_clients: bool,
    /// Carry raw TCP instead: connections to HOST:PORT, as the agent allows it and from its machine
    #[arg(long, value_name = "TARGET", requires = "via")]
    tcp: Option<RawTarget>,
    /// The hub's port for raw TCP (adit hub --tcp), with TLS where certificates are named
    #[arg(long, value_name = "HOST:PORT", requires = "tcp", conflicts_with = "hub")]
    via: Option<RawTarget>,
    #[command(flatten)]
    server: ServerArgs,
    /// How long running calls may take to end after SIGINT or SIGTERM. A second signal stops at once
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    drain_timeout: Duration,
}

/// Serves the port until signals end it.
pub(crate) async fn run(args: ConnectArgs) -> anyhow::Result<()> {
    if is_reachable(&args) && !args.insecure_clients {
        bail!(
            "--listen {} is no loopback address: whoever reaches it could call {} without a certificate; listen on 127.0.0.1, or allow it with --insecure-clients",
            args.listen,
            args.agent
        );
    }
    if let (Some(target), Some(via)) = (&args.tcp, &args.via) {
        return raw(&args, target, via).await;
    }
    let hub = hub(&args)?;
    logging::start();
    let port = LocalPort::bind(args.listen, hub, &args.agent).await;
    let port = port.with_context(|| cannot_listen(&args))?;
    let stopping = Stopping::on_signals(args.drain_timeout)?;
    warn_if_reachable(&args);
    info!(listen = %port.local_addr()?, agent = %args.agent, hub = %args.server.hub, "the port is open");
    port.serve(stopping.drain(), stopping.stop(), args.drain_timeout)
        .await;
    stopping.last_words().await;
    Ok(())
}

/// Serves a port for raw TCP.
async fn raw(args: &ConnectArgs, target: &RawTarget, via: &RawTarget) -> anyhow::Result<()> {
    let tls = match args.server.trust() {
        Trust::System => None,
        trust => {
            let mut config = ClientConfig::clone(&*trust.client_config()?);
            config.alpn_protocols = vec![ALPN.to_vec()];
            Some(Arc::new(config))
        }
    };
    logging::start();
    let port = LocalTcpPort::bind(args.listen, via.clone(), tls, &args.agent, target).await;
    let port = port.with_context(|| cannot_listen(args))?;
    let stopping = Stopping::on_signals(args.drain_timeout)?;
    warn_if_reachable(args);
    info!(listen = %port.local_addr()?, agent = %args.agent, tcp = %target, %via, "the port is open");
    port.serve(stopping.drain(), stopping.stop(), args.drain_timeout)
        .await;
    stopping.last_words().await;
    Ok(())
}

fn is_reachable(args: &ConnectArgs) -> bool {
    !args.listen.ip().to_canonical().is_loopback()
}

fn warn_if_reachable(args: &ConnectArgs) {
    if is_reachable(args) {
        warn!("other machines may use this port, which asks nobody who they are");
    }
}

fn cannot_listen(args: &ConnectArgs) -> String {
    format!(
        "cannot listen on {}; choose another --listen, or port 0 for any free one",
        args.listen
    )
}

/// The hub, which is dialled when a call needs it.
fn hub(args: &ConnectArgs) -> anyhow::Result<Upstream> {
    let tls = match args.server.hub.is_tls() {
        true => Some(args.server.trust().client_config()?),
        false => None,
    };
    let mut url = args.server.hub.to_string();
    if !args.server.hub.is_tls() && args.server.hub.origin().port_u16().is_none() {
        url.push_str(":80");
    }
    let UpstreamAddr { target, .. } = url
        .parse()
        .with_context(|| format!("--hub {} cannot be dialled", args.server.hub))?;
    Ok(Upstream::hub(target, tls))
}

/// `PORT` or `ADDRESS:PORT`.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse().map_err(|_| {
        format!(
            "{text:?} is no address to listen on; write PORT, 127.0.0.1:PORT or [::1]:PORT, such as 50051"
        )
    })
}
