//! `adit-bench congestion`: what each congestion controller makes of a lossy link.
//!
//! Calls begin at fixed times, whether or not earlier ones have ended, and latency counts from those times: a stalled
//! link must not slow the clock that measures it.

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
use adit_bench::lossy::{Path, Relay};
use adit_bench::machine::Machine;
use adit_hub::Hub;
use adit_transport::{Congestion, Tuning};
use anyhow::Context as _;
use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

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
    #[arg(long, value_delimiter = ',', default_value = "bbr,cubic,newreno")]
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
                let ms = |quantile| {
                    Duration::from_micros(measured.latency.value_at_quantile(quantile)).as_secs_f64() * 1e3
                };
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
    /// In microseconds.
    latency: Histogram<u64>,
    failed: u64,
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
        .agents(any)
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
    let channel = Endpoint::from_shared(format!("http://{clients}"))?
        .tcp_nodelay(true)
        .connect()
        .await?;
    let mut client = EchoClient::new(channel);
    // The first call waits for the agent, and is none of the measured.
    call(&mut client).await.context("the first call failed")?;

    let every = Duration::from_secs(1) / args.rate.get();
    let begin = Instant::now();
    let mut calls = JoinSet::new();
    let mut at = begin;
    while at < begin + args.time {
        sleep_until(at).await;
        let mut client = client.clone();
        calls.spawn(async move { call(&mut client).await.ok().map(|()| at.elapsed()) });
        at += every;
    }
    let give_up = Instant::now() + PATIENCE;
    let mut measured = Measured {
        latency: Histogram::new_with_bounds(1, 600_000_000, 3)?,
        failed: 0,
    };
    while let Ok(Some(ended)) = timeout_at(give_up, calls.join_next()).await {
        match ended? {
            Some(latency) => measured
                .latency
                .saturating_record(u64::try_from(latency.as_micros())?),
            None => measured.failed += 1,
        }
    }
    measured.failed += calls.len() as u64;
    Ok(measured)
}

async fn call(client: &mut EchoClient<Channel>) -> Result<(), tonic::Status> {
    let payload = Payload {
        data: Bytes::from_static(&[b'a'; PAYLOAD]),
    };
    client.unary(Request::new(payload)).await.map(drop)
}
