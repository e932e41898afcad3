//! What carries the calls of a measurement: hub and agent, or the two ends of another tunnel with the service beside one.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use adit_bench::echo::pb::Payload;
use adit_bench::echo::pb::echo_client::EchoClient;
use adit_bench::load::connect;
use adit_transport::{Carrier, Congestion};
use anyhow::{Context as _, anyhow};
use tokio::time::{Instant, sleep, timeout};
use tonic::Request;

use super::ends::{Ends, HUB};
use super::peers::{self, Peer};
use super::variant::Variant;
use crate::node::HubPorts;
use crate::processes::{Process, Program};

/// How long a peer may take until a call passes it.
const UNTIL_READY: Duration = Duration::from_secs(25);

/// A call that takes longer is made anew: it may have come before the other end was there.
const CALL: Duration = Duration::from_secs(5);

/// The time between two.
const AGAIN: Duration = Duration::from_millis(50);

/// Its processes, and where clients reach it.
#[derive(Debug)]
pub(super) struct Tunnel {
    clients: SocketAddr,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    /// The agent has the service in it.
    Adit { hub: Process, agent: Process },
    Peer {
        hub: Program,
        agent: Program,
        service: Process,
    },
}

impl Tunnel {
    /// Files and logs are in `folder`, and the certificates.
    pub(super) async fn start(ends: &Ends, folder: &Path, variant: &Variant) -> anyhow::Result<Self> {
        match variant {
            Variant::Quic(congestion) => Self::adit(ends, folder, Carrier::Quic, *congestion).await,
            Variant::Tcp(carrier, _) => Self::adit(ends, folder, *carrier, Congestion::default()).await,
            Variant::Peer(peer) => Self::peer(ends, folder, peer).await,
        }
    }

    async fn adit(
        ends: &Ends,
        folder: &Path,
        carrier: Carrier,
        congestion: Congestion,
    ) -> anyhow::Result<Self> {
        let (certs, congestion) = (folder.to_string_lossy(), congestion.to_string());
        let common = ["--certs", &certs, "--congestion", &congestion];
        let listen = HUB.to_string();
        let args = [&["hub"], &common[..], &["--listen", &listen]].concat();
        let mut hub = start_node(&[], folder, "hub", &args)?;
        let HubPorts { agents, clients, .. } = hub.hear(Duration::ZERO).await?;
        let agents = agents.to_string();
        let args = [
            &["agent"],
            &common[..],
            &["--hub", &agents, "--carrier", carrier.as_str()],
        ]
        .concat();
        let agent = start_node(&ends.at_agent(), folder, "agent", &args)?;
        Ok(Self {
            clients,
            parts: Parts::Adit { hub, agent },
        })
    }

    async fn peer(ends: &Ends, folder: &Path, peer: &Peer) -> anyhow::Result<Self> {
        let mut service = start_node(&ends.at_agent(), folder, "service", &["server"])?;
        let address = service.hear(Duration::ZERO).await?;
        let setup = peer.set_up(folder, address).await?;
        let start = |end: &peers::End, before: &[OsString], place: &str| {
            let log = folder.join(format!("peer-{place}.log"));
            let name = format!("{} at the {place}'s end", end.program());
            Program::start(&name, end.command(before, folder)?, &log)
        };
        Ok(Self {
            clients: peers::CLIENTS,
            parts: Parts::Peer {
                hub: start(&setup.hub, &[], "hub")?,
                agent: start(&setup.agent, &ends.at_agent(), "agent")?,
                service,
            },
        })
    }

    /// Where clients reach it.
    pub(super) fn clients(&self) -> SocketAddr {
        self.clients
    }

    /// Waits until a call passes. A hub holds the first calls until its agent is there; peers refuse them, or lose them.
    pub(super) async fn ready(&mut self) -> anyhow::Result<()> {
        let clients = self.clients;
        if matches!(self.parts, Parts::Adit { .. }) {
            return Ok(());
        }
        tokio::select! {
            biased;
            ended = self.ended() => Err(ended),
            ready = passed(clients) => ready,
        }
    }

    /// Waits until one of its processes has ended, which is an error.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match &mut self.parts {
            Parts::Adit { hub, agent } => tokio::select! {
                ended = hub.ended() => ended,
                ended = agent.ended() => ended,
            },
            Parts::Peer { hub, agent, service } => tokio::select! {
                ended = hub.ended() => ended,
                ended = agent.ended() => ended,
                ended = service.ended() => ended,
            },
        }
    }

    /// Its processes at the hub's end and at the agent's; there, the service's is one of them.
    pub(super) fn pids(&self) -> anyhow::Result<[Vec<u32>; 2]> {
        match &self.parts {
            Parts::Adit { hub, agent } => Ok([vec![hub.pid()?], vec![agent.pid()?]]),
            Parts::Peer { hub, agent, service } => Ok([vec![hub.pid()?], vec![agent.pid()?, service.pid()?]]),
        }
    }

    /// With the end of what its two ends say.
    pub(super) fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        let (hub, agent) = match &self.parts {
            Parts::Adit { hub, agent } => (hub.program(), agent.program()),
            Parts::Peer { hub, agent, .. } => (hub, agent),
        };
        anyhow!(
            "{error:#}\nthe hub's end says {}\nthe agent's end says {}",
            hub.last_lines(),
            agent.last_lines()
        )
    }

    /// Its processes are gone afterwards, and the ports of a peer are free for the next one.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        match self.parts {
            Parts::Adit { mut hub, mut agent } => {
                hub.kill().await?;
                agent.kill().await
            }
            Parts::Peer {
                mut hub,
                mut agent,
                mut service,
            } => {
                hub.kill().await?;
                agent.kill().await?;
                service.kill().await
            }
        }
    }
}

/// One of this program's processes, with one thread.
pub(super) fn start_node(
    before: &[OsString],
    folder: &Path,
    name: &str,
    args: &[&str],
) -> anyhow::Result<Process> {
    let args = ["--workers", "1"].iter().chain(args);
    Process::start_after(before, args, &folder.join(name).with_extension("log"))
}

/// Makes calls until one passes.
async fn passed(clients: SocketAddr) -> anyhow::Result<()> {
    let give_up = Instant::now() + UNTIL_READY;
    loop {
        let error = match timeout(CALL, call(clients)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => anyhow!("a call did not end within {CALL:?}"),
        };
        if Instant::now() > give_up {
            return Err(error).with_context(|| format!("no call passed within {UNTIL_READY:?}"));
        }
        sleep(AGAIN).await;
    }
}

async fn call(clients: SocketAddr) -> anyhow::Result<()> {
    let mut client = EchoClient::new(connect(clients).await?);
    client.unary(Request::new(Payload::default())).await?;
    Ok(())
}
