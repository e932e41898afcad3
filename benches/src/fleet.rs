//! `adit-bench fleet`: what thousands of agents cost their hub, while they come and while they are idle.
//!
//! One process is all the agents, each with an id, a certificate, a socket and a link of its own; the hub is another. The
//! hub's own word says when an agent is there.

mod report;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use adit_bench::echo::pb::Payload;
use adit_bench::echo::pb::echo_client::EchoClient;
use adit_bench::latencies::Latencies;
use adit_bench::load::{PAYLOAD, connect};
use adit_bench::machine::Machine;
use adit_bench::memory::Memory;
use adit_proto::hub::v1::Link;
use adit_proto::hub::v1::link::State;
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use rand::seq::index;
use tonic::Request;

use crate::ground::{self, Ground, GroundArgs, LEAVE_PATIENCE, progress};
use crate::node::agent_id;
use crate::operator::Operator;

/// How often the hub is asked how many agents it has.
const POLL: Duration = Duration::from_millis(20);

/// How long the agents have to come, after the last has dialled.
const ATTACH_PATIENCE: Duration = Duration::from_secs(120);

/// Between the last agent's coming and the idle time: links look for a larger MTU first.
const SETTLE: Duration = Duration::from_secs(5);

/// How long an agent that is there may take to answer a call.
const CALL_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct FleetArgs {
    /// How many agents; several numbers are measured one after the other, each on a new hub
    #[arg(long, value_delimiter = ',', default_value = "2000")]
    agents: Vec<NonZeroU32>,
    /// From the first agent's dialling to the last one's: 0s has all dial at once
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    over: Duration,
    /// How long they are idle
    #[arg(long, value_parser = humantime::parse_duration, default_value = "60s")]
    idle: Duration,
    /// How many of them are called then
    #[arg(long, default_value_t = 200)]
    calls: u32,
    #[command(flatten)]
    ground: GroundArgs,
}

/// What was measured with so many agents.
#[derive(Debug)]
struct Sample {
    agents: u32,
    /// From the first dial until so many were attached.
    half: Duration,
    most: Duration,
    all: Duration,
    /// Handshakes that the hub refused, because too many were under way: their agents dialled again.
    refused: usize,
    /// Processor time until all were attached.
    hub_cpu: Duration,
    agents_cpu: Duration,
    before: Memory,
    attached: Memory,
    after_idle: Memory,
    idle: Duration,
    /// Processor time in the idle time.
    hub_idle: Duration,
    agents_idle: Duration,
    calls: Latencies,
    /// From the word to leave until the hub had no link.
    left: Duration,
}

/// Measures and reports, on standard output; progress goes to standard error.
pub(crate) fn run(args: &FleetArgs) -> anyhow::Result<()> {
    let most = args.agents.iter().map(|count| count.get()).max().unwrap_or(1);
    let machine = Machine::describe();
    let ground = Ground::new(&args.ground, most)?;
    let mut samples = Vec::new();
    let measured = args.agents.iter().try_for_each(|agents| {
        let sample = ground::block_on(measure(args, agents.get(), &ground))?;
        samples.push(sample.with_context(|| format!("with {agents} agents"))?);
        Ok(())
    });
    // What was measured before one failed is not lost.
    report::write(&mut std::io::stdout().lock(), &machine, args, &samples)?;
    measured
}

async fn measure(args: &FleetArgs, agents: u32, ground: &Ground<'_>) -> anyhow::Result<Sample> {
    let hub = ground.hub("hub.log").await?;
    let mut operator = Operator::connect(hub.ports.admin).await?;
    // What the operator's connection costs is no agent's.
    operator.status().await?;
    let before = hub.process.memory()?;
    let hub_begun = hub.process.cpu()?;

    let fleet = ground.agents(&hub.ports, agents, args.over).await?;
    let begun = Instant::now();
    let agents_begun = fleet.cpu()?;
    let [half, most, all] = attached(&mut operator, agents, begun, args.over).await?;
    let (hub_cpu, agents_cpu) = (hub.process.cpu()? - hub_begun, fleet.cpu()? - agents_begun);
    let attached = hub.process.memory()?;
    let links = ready(&mut operator, agents).await?;

    progress(&format!(
        "all are attached after {all:.2?}; idle for {:?}",
        args.idle
    ));
    tokio::time::sleep(SETTLE).await;
    let (hub_settled, agents_settled, since) = (hub.process.cpu()?, fleet.cpu()?, Instant::now());
    tokio::time::sleep(args.idle).await;
    let (hub_idle, agents_idle) = (hub.process.cpu()? - hub_settled, fleet.cpu()? - agents_settled);
    let idle = since.elapsed();
    let after_idle = hub.process.memory()?;
    let lost = links.difference(&ready(&mut operator, agents).await?).count();
    ensure!(
        lost == 0,
        "{lost} of {agents} links were lost while nothing happened"
    );

    let calls = call_some(hub.ports.clients, agents, args.calls).await?;
    progress("the agents leave");
    let left = Instant::now();
    let (ended, left) = tokio::join!(fleet.end(LEAVE_PATIENCE), none_left(&mut operator, left));
    ended?;
    let left = left?;
    Ok(Sample {
        agents,
        half,
        most,
        all,
        refused: hub.refused()?,
        hub_cpu,
        agents_cpu,
        before,
        attached,
        after_idle,
        idle,
        hub_idle,
        agents_idle,
        calls,
        left,
    })
}

/// When half of the agents, 99 % of them and all were attached. A call to one that is attached finds it.
async fn attached(
    operator: &mut Operator,
    agents: u32,
    begun: Instant,
    over: Duration,
) -> anyhow::Result<[Duration; 3]> {
    let marks = [agents.div_ceil(2), agents - agents / 100, agents];
    let mut times = [None; 3];
    loop {
        let now = operator.status().await?.agents;
        let elapsed = begun.elapsed();
        for (time, mark) in times.iter_mut().zip(marks) {
            if now >= mark {
                time.get_or_insert(elapsed);
            }
        }
        if let [Some(half), Some(most), Some(all)] = times {
            return Ok([half, most, all]);
        }
        ensure!(
            elapsed < over + ATTACH_PATIENCE,
            "{now} of {agents} agents were attached after {elapsed:.0?}: see the logs, with --logs DIR"
        );
        tokio::time::sleep(POLL).await;
    }
}

/// The hub's numbers for the links, each of which takes calls.
async fn ready(operator: &mut Operator, agents: u32) -> anyhow::Result<BTreeSet<u64>> {
    let links = operator.links().await?;
    let ready = |link: &&Link| link.state() == State::Ready;
    let ids: BTreeSet<u64> = links.iter().filter(ready).map(|link| link.id).collect();
    let count = ids.len();
    ensure!(
        count == agents as usize,
        "{count} links take calls, and there are {agents} agents"
    );
    Ok(ids)
}

/// Calls random agents, each of which has to answer.
async fn call_some(clients: SocketAddr, agents: u32, calls: u32) -> anyhow::Result<Latencies> {
    let mut client = EchoClient::new(connect(clients).await?);
    let mut latencies = Latencies::new()?;
    let some = index::sample(&mut rand::rng(), agents as usize, calls.min(agents) as usize);
    for number in some {
        let id = agent_id(u32::try_from(number)?)?;
        let data = Bytes::from_static(&[b'a'; PAYLOAD]);
        let mut request = Request::new(Payload { data: data.clone() });
        request.metadata_mut().insert("adit-agent", id.as_str().parse()?);
        let begun = Instant::now();
        match tokio::time::timeout(CALL_PATIENCE, client.unary(request)).await {
            Ok(Ok(answer)) if answer.get_ref().data == data => latencies.record(begun.elapsed()),
            Ok(Ok(_)) => bail!("{id} answered something else than what it was asked"),
            Ok(Err(status)) => return Err(status).with_context(|| format!("the call to {id} failed")),
            Err(_) => bail!("{id} did not answer within {CALL_PATIENCE:?}"),
        }
    }
    Ok(latencies)
}

/// When the hub had no link any more.
async fn none_left(operator: &mut Operator, since: Instant) -> anyhow::Result<Duration> {
    loop {
        let links = operator.status().await?.links;
        let elapsed = since.elapsed();
        if links == 0 {
            return Ok(elapsed);
        }
        ensure!(
            elapsed < LEAVE_PATIENCE,
            "{links} links were there still after {elapsed:.0?}"
        );
        tokio::time::sleep(POLL).await;
    }
}
