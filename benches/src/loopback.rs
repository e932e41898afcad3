//! `adit-bench loopback`: what the tunnel costs where the network costs next to nothing.
//!
//! A load generator calls an echo service once over TCP and once through a hub and an agent, by each carrier. Everything runs
//! on this machine, each part a process of its own with a runtime of the same kind. Where there may be network namespaces, a
//! veth pair is between them: clients and the hub are at one end of it, agents and services at the other. Ways are measured in
//! turns, so that what else the machine does hurts all.

mod figures;
mod network;
mod report;
mod system;
mod veth;
mod way;

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use adit_bench::load::Load;
use adit_bench::machine::Machine;
use adit_transport::{Carrier, Congestion};
use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::inside::{self, enter};
use network::Network;
use system::{Measured, System};
use veth::Veth;
use way::{Kind, Task, ways};

/// How long a measurement takes in a quick run.
const QUICK: Duration = Duration::from_millis(500);

/// Arguments of `adit-bench loopback`.
#[derive(Debug, Args)]
pub(crate) struct LoopbackArgs {
    /// How often each measurement is repeated
    #[arg(long, default_value = "3")]
    rounds: NonZeroUsize,
    /// How long each measurement takes, in seconds
    #[arg(long, default_value = "3", value_parser = seconds)]
    seconds: Duration,
    /// One round of half a second each: under a minute, for a first look
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Runtime of every process: 1 is tokio's current-thread runtime
    #[arg(long, value_enum, default_value = "1")]
    workers: Workers,
    /// Calls at a time
    #[arg(long, value_delimiter = ',', default_value = "1,16,128")]
    concurrency: Vec<NonZeroUsize>,
    /// What links run over: quic, tls, websocket
    #[arg(long, value_delimiter = ',', default_value = "quic,tls,websocket")]
    carriers: Vec<Carrier>,
    /// Which ways to the service are compared
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "direct,in-process,upstream"
    )]
    ways: Vec<Kind>,
    /// Links that come and go at a time, of each carrier; 0 leaves them out
    #[arg(long, value_name = "AT_A_TIME", default_value = "8")]
    handshakes: usize,
    /// What is between the two ends
    #[arg(long, value_enum, default_value = "auto")]
    network: Between,
    /// Congestion controller of the link's two ends over QUIC: bounded, bbr, cubic or newreno
    #[arg(long, default_value_t)]
    congestion: Congestion,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Workers {
    #[value(name = "1")]
    One,
    #[value(name = "2")]
    Two,
    Both,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Between {
    /// A veth pair where the machine lets us have one, and else the loopback device
    Auto,
    /// A veth pair between two network namespaces
    Veth,
    /// The loopback device
    Loopback,
}

/// One measurement.
#[derive(Debug)]
struct Sample {
    workers: usize,
    round: usize,
    task: Task,
    measured: Measured,
}

/// Measures and reports, on standard output; progress goes to standard error.
pub(crate) fn run(args: &LoopbackArgs) -> anyhow::Result<()> {
    let why_not = match args.network {
        Between::Veth => None,
        Between::Loopback => Some("asked for by --network".to_owned()),
        Between::Auto => inside::check(&veth::NEEDS)
            .err()
            .map(|error| format!("{error:#}")),
    };
    let Some(why) = why_not else {
        let left = "what was measured is lost, but for the lines above";
        return enter(&veth::NEEDS, left, |folder| {
            block_on(async {
                let veth = Veth::build(folder).await?;
                measure_and_report(args, &Network::Veth(Box::new(veth)), folder).await
            })
        });
    };
    let folder = tempfile::tempdir().context("cannot make a temporary directory")?;
    block_on(measure_and_report(args, &Network::Loopback(why), folder.path()))
}

fn block_on(what: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(what)
}

async fn measure_and_report(args: &LoopbackArgs, network: &Network, folder: &Path) -> anyhow::Result<()> {
    let machine = Machine::describe();
    progress(&format!("measuring on {network}"));
    let samples = measure(args, network, folder).await?;
    report::write(&mut std::io::stdout().lock(), &machine, network, args, &samples)?;
    Ok(())
}

async fn measure(args: &LoopbackArgs, network: &Network, folder: &Path) -> anyhow::Result<Vec<Sample>> {
    let all_ways = ways(&args.ways, &args.carriers);
    system::certify(folder, network, &all_ways)?;
    let mut samples = Vec::new();
    for workers in args.workers.counts() {
        let system = System::start(network, folder, workers, &all_ways, args.congestion).await?;
        for round in 1..=args.rounds() {
            for mut tasks in args.tasks() {
                // None is always the first, or always behind the same other one.
                let first = (round - 1) % tasks.len();
                tasks.rotate_left(first);
                for task in tasks {
                    let sample = Sample {
                        workers,
                        round,
                        task,
                        measured: system.measure(task, args.time()).await?,
                    };
                    progress(&report::progress(&sample, args.rounds()));
                    samples.push(sample);
                }
            }
        }
    }
    Ok(samples)
}

/// Nobody is left to be told that standard error is closed.
fn progress(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

impl LoopbackArgs {
    fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds.get() }
    }

    fn time(&self) -> Duration {
        if self.quick { QUICK } else { self.seconds }
    }

    /// Those that are compared with each other, together.
    fn tasks(&self) -> Vec<Vec<Task>> {
        let calls = self
            .concurrency
            .iter()
            .map(|&concurrency| Load::Calls { concurrency });
        let ways = ways(&self.ways, &self.carriers);
        let loads = calls
            .chain([Load::Download])
            .map(|load| ways.iter().map(|&way| Task::Load { load, way }).collect());
        let handshakes = NonZeroUsize::new(self.handshakes).map(|at_a_time| {
            let carriers = self.carriers.iter();
            carriers
                .map(|&carrier| Task::Handshakes { carrier, at_a_time })
                .collect()
        });
        loads
            .chain(handshakes)
            .filter(|tasks: &Vec<_>| !tasks.is_empty())
            .collect()
    }
}

impl Workers {
    fn counts(self) -> Vec<usize> {
        match self {
            Self::One => vec![1],
            Self::Two => vec![2],
            Self::Both => vec![1, 2],
        }
    }
}

fn seconds(text: &str) -> anyhow::Result<Duration> {
    let seconds = text
        .parse()
        .with_context(|| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(time))
        .context("use 0.1 to 3600 seconds")
}
