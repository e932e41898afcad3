//! `adit-bench handshake`: what a post-quantum key exchange costs a link's handshake where packets are lost.
//!
//! With X25519MLKEM768 an agent's first flight takes two packets in place of one, and the hub cannot answer before both have
//! come. Handshakes with it and with X25519 alone take turns, each on a path of its own that loses what its seed says, which
//! is the same for the two that follow each other.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_bench::certificates;
use adit_bench::cpu;
use adit_bench::figure::Figure;
use adit_bench::latencies::Latencies;
use adit_bench::lossy::{Carried, Path, Relay};
use adit_bench::machine::Machine;
use adit_certs::Credentials;
use adit_transport::{AgentLink, Dialer, HANDSHAKE_TIMEOUT, HubLink, Listener, Tuning};
use anyhow::Context as _;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Handshakes of a kind, one after the other, between two looks at the processor time.
const BLOCK: u32 = 50;

/// How long the two ends have for what each of them gives up after [`HANDSHAKE_TIMEOUT`].
const PATIENCE: Duration = Duration::from_secs(HANDSHAKE_TIMEOUT.as_secs() + 5);

#[derive(Debug, clap::Args)]
pub(crate) struct HandshakeArgs {
    /// Packets lost, in percent, each way
    #[arg(long, value_delimiter = ',', default_value = "0,1,5")]
    loss: Vec<f64>,
    /// Round-trip time
    #[arg(long, value_parser = humantime::parse_duration, default_value = "40ms")]
    rtt: Duration,
    /// Handshakes of each kind on each path
    #[arg(long, default_value = "2000")]
    count: NonZeroU64,
    /// Handshakes under way at a time
    #[arg(long, default_value = "8")]
    lanes: NonZeroU64,
    /// Blocks of 50 handshakes of each kind, without a path between, whose processor time is measured
    #[arg(long, default_value = "20")]
    blocks: NonZeroU32,
}

/// A key exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exchange {
    /// What an agent offers that prefers X25519: its share alone.
    Classical,
    /// What an agent offers that prefers X25519MLKEM768: its share, and that of X25519 for a hub that knows no other.
    Hybrid,
}

/// The two ends' settings, with which nothing but this key exchange can come about.
#[derive(Debug)]
struct Ends {
    hub: Credentials,
    hub_tls: rustls::ServerConfig,
    agent_tls: rustls::ClientConfig,
}

/// What was measured of a key exchange on a path.
#[derive(Debug)]
struct Measured {
    times: Latencies,
    failed: u64,
}

/// What a link with a key exchange costs where nothing is lost.
#[derive(Debug)]
struct Cost {
    /// Of both ends, for all links.
    processor: Duration,
    /// What the path had been given when both ends had the link.
    carried: Carried,
}

/// Measures both on every path, and prints two tables.
pub(crate) fn run(args: &HandshakeArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let files = tempfile::tempdir().context("cannot make a temporary directory for the certificates")?;
    certificates::make(files.path())?;
    let ends = [
        Arc::new(Ends::new(files.path(), Exchange::Classical)?),
        Arc::new(Ends::new(files.path(), Exchange::Hybrid)?),
    ];
    let mut out = io::stdout().lock();
    write!(out, "{}", Machine::describe())?;
    writeln!(
        out,
        "- hub, agent and the emulated path in one process; {} ms round trip, random loss each way, no limit of rate; mutual TLS \
         1.3 with certificates of one CA, from the agent's dial until both ends have the link, {} under way at a time\n",
        args.rtt.as_millis(),
        args.lanes
    )?;
    writeln!(
        out,
        "| loss | key exchange | links | none within {} s | p50 ms | p90 | p99 | p99.9 | max |\n\
         |---|---|---|---|---|---|---|---|---|",
        HANDSHAKE_TIMEOUT.as_secs()
    )?;
    for &loss in &args.loss {
        let path = Path {
            delay: args.rtt / 2,
            loss: loss / 100.0,
            seed: 0,
        };
        let measured = runtime.block_on(on_path(args, &ends, path))?;
        for (exchange, measured) in Exchange::BOTH.iter().zip(&measured) {
            measured.report(&mut out, loss, *exchange)?;
        }
        out.flush()?;
    }
    writeln!(
        out,
        "\n| key exchange | CPU µs of both ends | packets to the hub | bytes | packets to the agent | bytes |\n|---|---|---|---|---|---|"
    )?;
    let costs = runtime.block_on(costs(args, &ends))?;
    for (exchange, Cost { processor, carried }) in Exchange::BOTH.iter().zip(costs) {
        let links = f64::from(args.blocks.get() * BLOCK);
        let Carried { to_hub, to_agent } = carried;
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} |",
            exchange.name(),
            Figure(processor.as_secs_f64() * 1e6 / links),
            to_hub.packets,
            Figure::count(to_hub.bytes),
            to_agent.packets,
            Figure::count(to_agent.bytes)
        )?;
    }
    Ok(())
}

impl Exchange {
    const BOTH: [Self; 2] = [Self::Classical, Self::Hybrid];

    fn name(self) -> &'static str {
        match self {
            Self::Classical => "X25519",
            Self::Hybrid => "X25519MLKEM768",
        }
    }

    /// What the agent offers, the preferred one first.
    fn offered(self) -> Vec<&'static dyn SupportedKxGroup> {
        match self {
            Self::Classical => vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
            Self::Hybrid => vec![
                kx_group::X25519MLKEM768,
                kx_group::X25519,
                kx_group::SECP256R1,
                kx_group::SECP384R1,
            ],
        }
    }

    /// What the hub takes: nothing else, so that a link proves which one it was.
    fn taken(self) -> Vec<&'static dyn SupportedKxGroup> {
        match self {
            Self::Classical => vec![kx_group::X25519],
            Self::Hybrid => vec![kx_group::X25519MLKEM768],
        }
    }
}

fn provider(kx_groups: Vec<&'static dyn SupportedKxGroup>) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        kx_groups,
        ..aws_lc_rs::default_provider()
    })
}

impl Ends {
    /// As hub and agent have them, but for the key exchange.
    fn new(certs: &std::path::Path, exchange: Exchange) -> anyhow::Result<Self> {
        let (hub, agent) = (certificates::hub(certs)?, certificates::agent(certs)?);
        let ours = agent.client_config()?;
        let mut agent_tls = rustls::ClientConfig::builder_with_provider(provider(exchange.offered()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(Arc::clone(agent.trust_store().roots()))
            .with_client_cert_resolver(ours.client_auth_cert_resolver);
        agent_tls.resumption = ours.resumption;

        let ours = hub.server_config()?;
        let taken = provider(exchange.taken());
        let roots = Arc::clone(hub.trust_store().roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&taken)).build()?;
        let mut hub_tls = rustls::ServerConfig::builder_with_provider(taken)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(ours.cert_resolver);
        hub_tls.send_tls13_tickets = ours.send_tls13_tickets;
        hub_tls.session_storage = ours.session_storage;
        Ok(Self {
            hub,
            hub_tls,
            agent_tls,
        })
    }

    fn listen(&self) -> anyhow::Result<Listener> {
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let secret = self.hub.private_key_der();
        Ok(Listener::bind_udp(any, self.hub_tls.clone(), secret, tuning())?)
    }

    fn dialer(&self) -> anyhow::Result<Dialer> {
        Ok(Dialer::new(self.agent_tls.clone(), tuning())?)
    }

    /// What a path is given until there is a link.
    async fn carried(&self, path: Path) -> anyhow::Result<Carried> {
        let listener = self.listen()?;
        let relay = Relay::open(listener.local_addr()?, path).await?;
        let _link = link(&listener, &self.dialer()?, relay.address()).await?;
        Ok(relay.carried())
    }
}

/// As links have it, but that none looks for a larger MTU: those packets are no part of a handshake.
fn tuning() -> Tuning {
    Tuning {
        max_udp_payload: 1200,
        ..Tuning::default()
    }
}

/// Both ends of a link through `at`, or why there is none.
async fn link(listener: &Listener, dialer: &Dialer, at: SocketAddr) -> anyhow::Result<(AgentLink, HubLink)> {
    let accepting = async {
        let handshake = listener.accept().await.context("the hub's port is closed")?;
        Ok(handshake.establish().await?)
    };
    let dialling = async { Ok(dialer.dial(at, "127.0.0.1").await?) };
    timeout(PATIENCE, async { tokio::try_join!(dialling, accepting) }).await?
}

/// Links with both key exchanges in turns, on paths like this one.
async fn on_path(args: &HandshakeArgs, ends: &[Arc<Ends>; 2], path: Path) -> anyhow::Result<[Measured; 2]> {
    let mut lanes = JoinSet::new();
    for first in 0..args.lanes.get() {
        let numbers = (first..args.count.get()).step_by(usize::try_from(args.lanes.get())?);
        lanes.spawn(lane(numbers, ends.clone(), path));
    }
    let mut all = [Measured::new()?, Measured::new()?];
    while let Some(lane) = lanes.join_next().await {
        for (all, of_lane) in all.iter_mut().zip(lane??) {
            all.add(&of_lane)?;
        }
    }
    Ok(all)
}

async fn lane(
    numbers: impl Iterator<Item = u64>,
    ends: [Arc<Ends>; 2],
    path: Path,
) -> anyhow::Result<[Measured; 2]> {
    let mut measured = [Measured::new()?, Measured::new()?];
    for number in numbers {
        // The relay has a seed for each direction.
        let path = Path {
            seed: 2 * number,
            ..path
        };
        let mut turns: Vec<_> = ends.iter().zip(&mut measured).collect();
        if number % 2 == 1 {
            turns.reverse();
        }
        for (ends, measured) in turns {
            let (listener, dialer) = (ends.listen()?, ends.dialer()?);
            let relay = Relay::open(listener.local_addr()?, path).await?;
            let begun = Instant::now();
            match link(&listener, &dialer, relay.address()).await {
                Ok(_link) => measured.times.record(begun.elapsed()),
                // Nothing is lost here, so that it is no loss that prevents it.
                Err(error) if path.loss == 0.0 => return Err(error),
                Err(_) => measured.failed += 1,
            }
        }
    }
    Ok(measured)
}

/// What links with each key exchange cost: processor time straight from one end to the other, and packets on a path that
/// loses none.
async fn costs(args: &HandshakeArgs, ends: &[Arc<Ends>; 2]) -> anyhow::Result<[Cost; 2]> {
    let mut processor = [Duration::ZERO; 2];
    for _ in 0..args.blocks.get() {
        for (ends, processor) in ends.iter().zip(&mut processor) {
            let (listener, dialer) = (ends.listen()?, ends.dialer()?);
            let at = listener.local_addr()?;
            // The first one pays for what is made once.
            drop(link(&listener, &dialer, at).await?);
            let begun = cpu::used_by_self()?;
            for _ in 0..BLOCK {
                drop(link(&listener, &dialer, at).await?);
            }
            *processor += cpu::used_by_self()?.saturating_sub(begun);
        }
    }
    let [classical, hybrid] = processor;
    let lossless = Path {
        delay: args.rtt / 2,
        loss: 0.0,
        seed: 0,
    };
    Ok([
        Cost {
            processor: classical,
            carried: ends[0].carried(lossless).await?,
        },
        Cost {
            processor: hybrid,
            carried: ends[1].carried(lossless).await?,
        },
    ])
}

impl Measured {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            times: Latencies::new()?,
            failed: 0,
        })
    }

    fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.times.add(&other.times)?;
        self.failed += other.failed;
        Ok(())
    }

    fn report(&self, out: &mut impl Write, loss: f64, exchange: Exchange) -> io::Result<()> {
        let ms = |quantile| self.times.at(quantile).as_secs_f64() * 1e3;
        writeln!(
            out,
            "| {loss} % | {} | {} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
            exchange.name(),
            self.times.count(),
            self.failed,
            ms(0.5),
            ms(0.9),
            ms(0.99),
            ms(0.999),
            ms(1.0)
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[tokio::test]
    async fn a_link_has_the_key_exchange_that_is_said() {
        let files = tempfile::tempdir().unwrap();
        certificates::make(files.path()).unwrap();
        let ends = Exchange::BOTH.map(|exchange| Ends::new(files.path(), exchange).unwrap());
        let perfect = Path {
            delay: Duration::ZERO,
            loss: 0.0,
            seed: 0,
        };
        let [classical, hybrid] = &ends;
        let fewer = classical.carried(perfect).await.unwrap().to_hub;
        let more = hybrid.carried(perfect).await.unwrap().to_hub;
        assert!(more.packets > fewer.packets, "{more:?} and {fewer:?}");

        // A hub that takes the hybrid alone has no link with an agent that does not know it.
        let listener = hybrid.listen().unwrap();
        let at = listener.local_addr().unwrap();
        let refused = link(&listener, &classical.dialer().unwrap(), at).await;
        assert!(refused.is_err());
    }
}
