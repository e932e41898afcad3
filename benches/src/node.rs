//! The measured processes: a hub, an agent or many, a server without a tunnel or with one before it, and loads.
//!
//! Each says on standard output, one line of JSON, what the next one has to know, and ends when its standard input
//! does: with whoever started it, however that ended.

mod fleet;
mod upstream;

use std::future::pending;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use adit_agent::{Agent, HubAddress, Label, Upstream, UpstreamAddr, UpstreamTls};
use adit_bench::certificates::{self, AGENT};
use adit_bench::echo;
use adit_bench::handshakes;
use adit_bench::load::{self, CONNECTION_WINDOW, Load, STREAM_WINDOW};
use adit_bench::workload::{self, Workload};
use adit_certs::AgentId;
use adit_hub::Hub;
use adit_transport::{Carrier, Congestion, Tuning};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tracing_subscriber::EnvFilter;

pub(crate) use fleet::agent_id;
pub(crate) use upstream::CALL_ID;

/// How long the first calls wait for the agent.
const RECONNECT_GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Threads that do the work: with one, a current-thread runtime
    #[arg(long)]
    workers: NonZeroUsize,
    #[command(subcommand)]
    role: NodeRole,
}

#[derive(Debug, Subcommand)]
enum NodeRole {
    Hub(HubNode),
    Fleet(fleet::FleetNode),
    #[command(flatten)]
    Plain(PlainRole),
}

#[derive(Debug, Args)]
struct HubNode {
    #[arg(long)]
    certs: PathBuf,
    #[arg(long)]
    congestion: Congestion,
    /// Where agents reach it
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST.into())]
    listen: IpAddr,
    /// Where it listens for agents, clients and operators, instead of at free ports
    #[arg(long, value_parser = json::<HubPorts>)]
    at: Option<HubPorts>,
    /// Drain before it ends
    #[arg(long)]
    drain: bool,
}

/// Those that end at once when they are told to.
#[derive(Debug, Subcommand)]
enum PlainRole {
    Agent {
        #[arg(long, default_value = AGENT)]
        id: AgentId,
        #[arg(long)]
        certs: PathBuf,
        #[arg(long)]
        congestion: Congestion,
        #[arg(long)]
        hub: HubAddress,
        #[arg(long, default_value = "quic")]
        carrier: Carrier,
        /// Where it forwards calls to; left out, the service is in its own process
        #[arg(long)]
        upstream: Option<UpstreamAddr>,
        #[arg(long)]
        label: Option<Label>,
    },
    Server {
        /// Where it can be reached
        #[arg(long, default_value_t = Ipv4Addr::LOCALHOST.into())]
        listen: IpAddr,
    },
    /// A process that keeps its namespaces
    Keeper,
    Upstream(upstream::UpstreamNode),
    Load {
        #[arg(long)]
        target: SocketAddr,
        /// The agent that a hub is to give the calls to
        #[arg(long, default_value = AGENT)]
        agent: AgentId,
        #[arg(long)]
        seconds: f64,
        /// Calls at a time; left out, a download
        #[arg(long)]
        concurrency: Option<NonZeroUsize>,
    },
    /// Links that come and go
    Handshakes {
        #[arg(long)]
        id: AgentId,
        #[arg(long)]
        certs: PathBuf,
        #[arg(long)]
        hub: SocketAddr,
        #[arg(long)]
        carrier: Carrier,
        #[arg(long)]
        at_a_time: NonZeroUsize,
        #[arg(long)]
        seconds: f64,
    },
    /// As `load`, on links where calls may fail
    Workload {
        #[arg(long)]
        target: SocketAddr,
        #[arg(long)]
        load: Workload,
        #[arg(long)]
        seconds: f64,
        /// Seconds that calls have to end in, when the last one has begun
        #[arg(long)]
        patience: f64,
    },
}

/// Where a hub listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HubPorts {
    pub(crate) agents: SocketAddr,
    pub(crate) clients: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// The measured time begins; of a workload also: it ends.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Begun;

/// Is one of the processes until whoever started it ends.
pub(crate) fn run(args: NodeArgs) -> anyhow::Result<()> {
    let level = match args.role {
        // It only has to be there, for the hub's sake.
        NodeRole::Fleet(_) => "warn",
        // As the command logs where nothing else is said: what that costs belongs to the measurement.
        NodeRole::Hub(_) | NodeRole::Plain(_) => "info",
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(level))
        .with_writer(std::io::stderr)
        .init();
    let mut runtime = match args.workers.get() {
        1 => tokio::runtime::Builder::new_current_thread(),
        count => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(count);
            runtime
        }
    };
    let runtime = runtime.enable_all().build().context("cannot start the runtime")?;
    let ended = runtime.block_on(async {
        match args.role {
            NodeRole::Hub(hub) => hub.run(input_ends()).await,
            // Its agents take their leave.
            NodeRole::Fleet(fleet) => fleet.run(input_ends()).await,
            NodeRole::Plain(role) => tokio::select! {
                ended = be(role) => ended,
                () = input_ends() => Ok(()),
            },
        }
    });
    // The thread that reads standard input must not keep the process.
    runtime.shutdown_background();
    ended
}

async fn be(role: PlainRole) -> anyhow::Result<()> {
    match role {
        PlainRole::Agent {
            id,
            certs,
            congestion,
            hub,
            carrier,
            upstream,
            label,
        } => {
            let agent = Agent::builder(id.clone(), certificates::agent_with_id(&certs, &id)?)
                .hub(hub)
                .carrier(carrier)
                .tuning(tuning(congestion));
            serve_calls(agent, upstream, label).await
        }
        PlainRole::Server { listen } => serve(listen, Routes::new(echo::service())).await,
        PlainRole::Keeper => {
            say(&Begun)?;
            pending().await
        }
        PlainRole::Upstream(upstream) => upstream.run().await,
        PlainRole::Load {
            target,
            agent,
            seconds,
            concurrency,
        } => {
            let load = concurrency.map_or(Load::Download, |concurrency| Load::Calls { concurrency });
            let time = Duration::try_from_secs_f64(seconds)?;
            let begin = || {
                // Whoever reads this is gone if it fails, and so is this process in a moment.
                let _ = say(&Begun);
            };
            say(&load::run(load, target, agent.as_str().parse()?, time, begin).await?)
        }
        PlainRole::Handshakes {
            id,
            certs,
            hub,
            carrier,
            at_a_time,
            seconds,
        } => {
            let credentials = certificates::agent_with_id(&certs, &id)?;
            let _kept = fleet::keep_offload_on();
            let time = Duration::try_from_secs_f64(seconds)?;
            let begin = || {
                // As above.
                let _ = say(&Begun);
            };
            say(&handshakes::run(carrier, hub, &credentials, at_a_time, time, begin).await?)
        }
        PlainRole::Workload {
            target,
            load,
            seconds,
            patience,
        } => {
            let (time, patience) = (
                Duration::try_from_secs_f64(seconds)?,
                Duration::try_from_secs_f64(patience)?,
            );
            let mark = || {
                // As above.
                let _ = say(&Begun);
            };
            say(&workload::run(load, target, AGENT.parse()?, time, patience, mark, mark).await?)
        }
    }
}

impl HubNode {
    /// Serves until `end` is ready.
    async fn run(self, end: impl Future<Output = ()>) -> anyhow::Result<()> {
        let free = (Ipv4Addr::LOCALHOST, 0).into();
        let at = self.at.unwrap_or(HubPorts {
            agents: (self.listen, 0).into(),
            clients: free,
            admin: free,
        });
        let hub = Hub::builder(certificates::hub(&self.certs)?)
            .agents(at.agents.into())
            .clients(at.clients)
            .admin(at.admin)
            .reconnect_grace(RECONNECT_GRACE)
            .tuning(tuning(self.congestion))
            .bind()
            .await?;
        let agents = hub.agents_addresses()?;
        let agents = *agents.first().context("the hub has no port for agents")?;
        say(&HubPorts {
            agents,
            clients: hub.clients_address()?,
            admin: hub
                .admin_address()?
                .context("the hub has no port for operators")?,
        })?;
        if self.drain {
            hub.run(end, pending()).await;
        } else {
            tokio::select! {
                () = hub.run(pending(), pending()) => {}
                () = end => {}
            }
        }
        Ok(())
    }
}

async fn serve_calls(
    agent: adit_agent::Builder,
    upstream: Option<UpstreamAddr>,
    label: Option<Label>,
) -> anyhow::Result<()> {
    let agent = agent.advertise(echo::SERVICE_NAME);
    let mut agent = match upstream {
        Some(UpstreamAddr { prefix, target }) => {
            agent.upstream(prefix, Upstream::at(target, &UpstreamTls::default())?)
        }
        None => agent.serve(echo::service()),
    };
    if let Some(label) = label {
        agent = agent.label(label);
    }
    agent.build()?.run(pending(), pending()).await;
    Ok(())
}

/// A server with the windows that the hub has.
async fn serve(listen: IpAddr, services: Routes) -> anyhow::Result<()> {
    let listener = TcpListener::bind((listen, 0))
        .await
        .with_context(|| format!("cannot listen at {listen}"))?;
    say(&listener.local_addr()?)?;
    let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .add_routes(services)
        .serve_with_incoming(connections)
        .await?;
    Ok(())
}

fn json<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_str(text)
}

fn tuning(congestion: Congestion) -> Tuning {
    Tuning {
        congestion,
        ..Tuning::default()
    }
}

fn say(what: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, what)?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
}

async fn input_ends() {
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 64];
    while matches!(input.read(&mut ignored).await, Ok(1..)) {}
}
