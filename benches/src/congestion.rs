//! `adit-bench congestion`: what each congestion controller makes of a lossy link.
//!
//! Calls are made in an open loop, and latency counts from the times at which they were meant to begin.

use std::future::pending;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use adit_agent::Agent;
use adit_bench::certificates::{self, AGENT};
use adit_bench::echo;
use adit_bench::echo::pb::Payload;
use adit_bench::echo::pb::echo_client::EchoClient;
use adit_bench::latencies::Latencies;
use adit_bench::load::connect;
use adit_bench::lossy::{Path, Relay};
use adit_bench::machine::Machine;
use adit_bench::open_loop;
use adit_hub::Hub;
use adit_transport::{Congestion, Tuning};
use anyhow::Context as _;
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::transport::Channel;

/// Bytes of a call's payload, each way.
const PAYLOAD: usize = 1024;

/// A call that has not ended this long after the last one began has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the first call waits for the agent.
const RECONNECT_GRACE: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub(crate) struct CongestionArgs {
    /// Packets lost, in percent, each way
    #[arg(long, value_delimiter = ',', default_value = "0,1,5")]
    loss: Vec<f64>,
    /// Round-trip time
    #[arg(long, value_parser = humantime::parse_duration, default_value = "40ms")]
    rtt: Duration,
    /// Calls a second
    #[arg(long, default_value = "500")]
    rate: NonZeroU32,
    /// How long calls are made in each round
    #[arg(long, value_parser = humantime::parse_duration, default_value = "20s")]
    time: Duration,
    /// Rounds; each loses other packets
    #[arg(long, default_value_t = 2)]
    rounds: u64,
    /// Controllers to compare
    #[arg(long, value_delimiter = ',', default_value = "bounded,bbr,cubic,newreno")]
    controllers: Vec<Congestion>,
}

/// Measures every controller on every link, in turns, and prints a table.
pub(crate) fn run(args: &CongestionArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let mut out = std::io::stdout().lock();
    write!(out, "{}", Machine::describe())?;
    writeln!(
        out,
        "- hub, agent with the service in it, load and the emulated path in one process; {} ms round trip, random \
         loss each way, no limit of rate; unary echo of {PAYLOAD} bytes, {} calls/s in an open loop for {:?}\n",
        args.rtt.as_millis(),
        args.rate,
        args.time
    )?;
    writeln!(
        out,
        "| loss | controller | round | p50 ms | p90 | p99 | p99.9 | max | failed |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|")?;
    for &loss in &args.loss {
        for round in 0..args.rounds {
            for &controller in &args.controllers {
                let path = Path {
                    delay: args.rtt / 2,
                    loss: loss / 100.0,
                    seed: 2 * round,
                };
                let measured = runtime.block_on(measure(args, controller, path))?;
                let ms = |quantile| measured.latency.at(quantile).as_secs_f64() * 1e3;
                writeln!(
                    out,
                    "| {loss} % | {controller} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {} |",
                    round + 1,
                    ms(0.5),
                    ms(0.9),
                    ms(0.99),
                    ms(0.999),
                    ms(1.0),
                    measured.failed
                )?;
                out.flush()?;
            }
        }
    }
    Ok(())
}

struct Measured {
    latency: Latencies,
    failed: usize,
}

async fn measure(args: &CongestionArgs, congestion: Congestion, path: Path) -> anyhow::Result<Measured> {
    let tuning = Tuning {
        congestion,
        ..Tuning::default()
    };
    let files = tempfile::tempdir()?;
    certificates::make(files.path())?;
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let hub = Hub::builder(certificates::hub(files.path())?)
        .agents(any.into())
        .clients(any)
        .reconnect_grace(RECONNECT_GRACE)
        .tuning(tuning.clone())
        .bind()
        .await?;
    let agents = *hub
        .agents_addresses()?
        .first()
        .context("the hub has no port for agents")?;
    let clients = hub.clients_address()?;
    let relay = Relay::open(agents, path).await?;
    let agent = Agent::builder(AGENT.parse()?, certificates::agent(files.path())?)
        .hub(relay.address().to_string().parse()?)
        .serve(echo::service())
        .advertise(echo::SERVICE_NAME)
        .tuning(tuning)
        .build()?;
    let stop = CancellationToken::new();
    let mut nodes = JoinSet::new();
    nodes.spawn(hub.run(pending(), stop.clone().cancelled_owned()));
    nodes.spawn(agent.run(pending(), stop.clone().cancelled_owned()));
    let measured = load(args, clients).await;
    stop.cancel();
    while nodes.join_next().await.is_some() {}
    measured
}

async fn load(args: &CongestionArgs, clients: SocketAddr) -> anyhow::Result<Measured> {
    let mut client = EchoClient::new(connect(clients).await?);
    // The first call waits for the agent, and is none of the measured.
    call(&mut client).await.context("the first call failed")?;

    let enough = tokio::time::sleep(args.time);
    let ended = open_loop::run(args.rate, enough, PATIENCE, |tick| {
        let mut client = client.clone();
        async move { call(&mut client).await.ok().map(|()| tick.at.elapsed()) }
    });
    let ended = ended.await?;
    let mut measured = Measured {
        latency: Latencies::new()?,
        failed: ended.unended(),
    };
    for outcome in ended.outcomes {
        match outcome {
            Some(latency) => measured.latency.record(latency),
            None => measured.failed += 1,
        }
    }
    Ok(measured)
}

async fn call(client: &mut EchoClient<Channel>) -> Result<(), tonic::Status> {
    let payload = Payload {
        data: Bytes::from_static(&[b'a'; PAYLOAD]),
    };
    client.unary(Request::new(payload)).await.map(drop)
}
