//! Many agents in one process, each with an id, a certificate, a socket and a link of its own.

use std::future::{Future, pending};
use std::io;
use std::net::{Ipv6Addr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use adit_agent::{Agent, HubAddress};
use adit_bench::{certificates, echo};
use adit_certs::AgentId;
use adit_transport::{Congestion, Tuning};
use quinn::udp::UdpSocketState;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Begun, say, tuning};

/// Calls at once on the link of one of many agents. quinn keeps an entry for each that is granted: for the 4,096 that an
/// agent grants else these are 300 KiB, which are the agent's own and no hub's.
const MAX_CALLS: u32 = 16;

#[derive(Debug, clap::Args)]
pub(crate) struct FleetNode {
    #[arg(long)]
    certs: PathBuf,
    #[arg(long)]
    congestion: Congestion,
    #[arg(long)]
    hub: HubAddress,
    /// How many
    #[arg(long)]
    agents: u32,
    /// The first of them dials at once, and the last after this time
    #[arg(long, value_parser = humantime::parse_duration)]
    over: Duration,
}

/// The id of the agent with this number.
pub(crate) fn agent_id(number: u32) -> anyhow::Result<AgentId> {
    Ok(format!("agent-{number}").parse()?)
}

/// For each socket, quinn asks the kernel by an IPv6 socket of a moment whether it takes several packets at once. Where
/// none else is there, the kernel patches its own code for that, on all processors, and once more when it is gone: a fifth
/// of what a dial costs. Now there is one. A machine without IPv6 has nothing to patch.
pub(super) fn keep_offload_on() -> io::Result<(UdpSocket, UdpSocketState)> {
    let socket = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))?;
    let state = UdpSocketState::new((&socket).into())?;
    Ok((socket, state))
}

impl FleetNode {
    /// Has the agents dial, and keep their links until `leave` is ready. They tell the hub that they go.
    pub(crate) async fn run(self, leave: impl Future<Output = ()>) -> anyhow::Result<()> {
        let agents = (0..self.agents)
            .map(|number| self.agent(number))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let _kept = keep_offload_on();
        say(&Begun)?;
        let begun = Instant::now();
        let leaving = CancellationToken::new();
        let mut running = JoinSet::new();
        for (agent, number) in agents.into_iter().zip(0..) {
            let at = begun + self.over * number / self.agents;
            let drain = leaving.clone().cancelled_owned();
            running.spawn(async move {
                sleep_until(at).await;
                agent.run(drain, pending()).await;
            });
        }
        leave.await;
        leaving.cancel();
        while let Some(ended) = running.join_next().await {
            ended?;
        }
        Ok(())
    }

    fn agent(&self, number: u32) -> anyhow::Result<Agent> {
        let id = agent_id(number)?;
        let credentials = certificates::agent_with_id(&self.certs, &id)?;
        let agent = Agent::builder(id, credentials)
            .hub(self.hub.clone())
            .serve(echo::service())
            .advertise(echo::SERVICE_NAME)
            .tuning(Tuning {
                max_calls: MAX_CALLS,
                ..tuning(self.congestion)
            });
        Ok(agent.build()?)
    }
}
