//! `adit-bench loopback`: what the tunnel costs where the network costs nothing.
//!
//! A load generator calls an echo service once over TCP and once through a hub and an agent. Everything runs on this
//! machine, each part a process of its own with a runtime of the same kind. Paths are measured in turns, so that what
//! else the machine does hurts both.

mod report;

use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use adit_bench::certificates;
use adit_bench::load::{Load, Outcome};
use adit_bench::machine::Machine;
use adit_transport::Congestion;
use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::node::{Begun, HubPorts};
use crate::processes::Process;

/// Arguments of `adit-bench loopback`.
#[derive(Debug, Args)]
pub(crate) struct LoopbackArgs {
    /// How often each measurement is repeated
    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,
    /// How long each measurement takes, in seconds
    #[arg(long, default_value = "3", value_parser = seconds)]
    seconds: Duration,
    /// Runtime of every process: 1 is tokio's current-thread runtime
    #[arg(long, value_enum, default_value = "both")]
    workers: Workers,
    /// Calls at a time
    #[arg(long, value_delimiter = ',', default_value = "1,16,128")]
    concurrency: Vec<NonZeroUsize>,
    /// Congestion controller of the link's two ends: bounded, bbr, cubic or newreno
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

/// How the load gets to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    Tunnel,
}

/// One measurement.
#[derive(Debug)]
struct Sample {
    workers: usize,
    round: usize,
    load: Load,
    way: Way,
    outcome: Outcome,
    /// Processor time of the processes behind the load generator: the server, or the hub and the agent.
    cpu: Vec<Duration>,
}

/// Measures and reports, on standard output; progress goes to standard error.
pub(crate) fn run(args: &LoopbackArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let machine = Machine::describe();
    let samples = runtime.block_on(measure(args))?;
    report::write(&mut std::io::stdout().lock(), &machine, args, &samples)?;
    Ok(())
}

async fn measure(args: &LoopbackArgs) -> anyhow::Result<Vec<Sample>> {
    let certs = tempfile::tempdir().context("cannot make a temporary directory for the certificates")?;
    certificates::make(certs.path())?;
    let mut samples = Vec::new();
    for workers in args.workers.counts() {
        let system = System::start(workers, certs.path(), args.congestion).await?;
        for round in 1..=args.rounds.get() {
            for load in args.loads() {
                // Neither way is always the first.
                let ways = if round % 2 == 0 {
                    [Way::Tunnel, Way::Direct]
                } else {
                    [Way::Direct, Way::Tunnel]
                };
                for way in ways {
                    let (outcome, cpu) = system.measure(load, way, args.seconds).await?;
                    let sample = Sample {
                        workers,
                        round,
                        load,
                        way,
                        outcome,
                        cpu,
                    };
                    let mut progress = std::io::stderr().lock();
                    let _ = writeln!(
                        progress,
                        "{}",
                        report::Progress {
                            sample: &sample,
                            rounds: args.rounds.get()
                        }
                    );
                    samples.push(sample);
                }
            }
        }
    }
    Ok(samples)
}

/// The processes that wait for load.
struct System {
    workers: usize,
    server: Process,
    hub: Process,
    agent: Process,
    direct: SocketAddr,
    tunnel: SocketAddr,
}

impl System {
    async fn start(workers: usize, certs: &Path, congestion: Congestion) -> anyhow::Result<Self> {
        let certs = || [OsString::from("--certs"), certs.into()];
        let start = |role: &str, more: Vec<OsString>| {
            let mut args: Vec<OsString> = ["--workers", &workers.to_string(), role].map(Into::into).into();
            args.extend(more);
            Process::start(args)
        };
        let congestion: [OsString; 2] = ["--congestion".into(), congestion.to_string().into()];

        let mut server = start("server", Vec::new())?;
        let direct = server.hear(Duration::ZERO).await?;
        let mut hub = start("hub", [certs(), congestion.clone()].concat())?;
        let HubPorts { agents, clients, .. } = hub.hear(Duration::ZERO).await?;
        let to_hub = ["--hub".into(), agents.to_string().into()];
        let agent = start("agent", [certs(), congestion, to_hub].concat())?;
        Ok(Self {
            workers,
            server,
            hub,
            agent,
            direct,
            tunnel: clients,
        })
    }

    async fn measure(
        &self,
        load: Load,
        way: Way,
        time: Duration,
    ) -> anyhow::Result<(Outcome, Vec<Duration>)> {
        let (target, behind) = match way {
            Way::Direct => (self.direct, vec![&self.server]),
            Way::Tunnel => (self.tunnel, vec![&self.hub, &self.agent]),
        };
        let mut args = vec![
            "--workers".to_owned(),
            self.workers.to_string(),
            "load".to_owned(),
        ];
        args.extend(["--target".to_owned(), target.to_string()]);
        args.extend(["--seconds".to_owned(), time.as_secs_f64().to_string()]);
        if let Load::Calls { concurrency } = load {
            args.extend(["--concurrency".to_owned(), concurrency.to_string()]);
        }
        let mut generator = Process::start(args)?;
        let _: Begun = generator.hear(Duration::ZERO).await?;
        let before = cpu(&behind)?;
        let outcome = generator.hear(time).await?;
        let after = cpu(&behind)?;
        let used = before
            .iter()
            .zip(after)
            .map(|(before, after)| after.saturating_sub(*before));
        Ok((outcome, used.collect()))
    }
}

fn cpu(processes: &[&Process]) -> anyhow::Result<Vec<Duration>> {
    processes.iter().map(|process| process.cpu()).collect()
}

impl LoopbackArgs {
    fn loads(&self) -> impl Iterator<Item = Load> {
        let calls = self
            .concurrency
            .iter()
            .map(|&concurrency| Load::Calls { concurrency });
        calls.chain([Load::Download])
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
