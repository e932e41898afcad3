//! `adit-bench lab`: real processes at the two ends of a link that loses, delays and queues packets.
//!
//! The link is between two network namespaces, and a seeded emulator moves its packets: the same run loses the same share of
//! them, whether they are of UDP or TCP. Nothing on the machine is changed, and nothing of the lab outlives the command.

mod ends;
mod link;
mod link_args;
mod measure;
mod peers;
mod plan;
mod results;
mod tunnel;
mod variant;
mod wire;

use std::io::Write as _;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use adit_bench::latencies::Latencies;
use adit_bench::machine::Machine;
use adit_bench::workload::Workload;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::inside::{Needs, enter};

pub(crate) use link_args::{LinkArgs, percent};
pub(crate) use measure::Lab;
pub(crate) use peers::{ensure_installed, installed_peers, peer_versions};
pub(crate) use plan::{Plan, Point, progress};
pub(crate) use results::{Merged, Sample, tables, title, told};
pub(crate) use variant::Variant;

/// What the lab needs of the machine.
pub(crate) const NEEDS: Needs = Needs {
    who: "the lab",
    tools: &[],
    tun: true,
    trial: &["ip", "link", "set", "lo", "up"],
};

/// Arguments of `adit-bench lab`.
#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    /// Packets lost, in percent, each way
    #[arg(long, default_value = "1", value_parser = percent)]
    loss: f64,
    /// Round-trip time
    #[arg(long, value_parser = humantime::parse_duration, default_value = "40ms")]
    rtt: Duration,
    #[command(flatten)]
    link: LinkArgs,
    /// Carriers, and other tunnels that are on the PATH, with their congestion controllers
    #[arg(long, value_delimiter = ',', default_value = "quic,websocket/cubic")]
    variants: Vec<Variant>,
    /// What clients do: open:RATE, sparse:RATE, closed:CONCURRENCY, down, up, mixed:RATE
    #[arg(long, value_delimiter = ',', default_value = "open")]
    loads: Vec<Workload>,
    /// How long each measurement takes, after its warm-up
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s")]
    time: Duration,
    /// How long calls have to end in when the time is over
    #[arg(long, value_parser = humantime::parse_duration, default_value = "5s")]
    patience: Duration,
    /// How often each measurement is made; each time the link loses other packets
    #[arg(long, default_value = "1")]
    rounds: NonZeroU32,
    /// Which packets are lost
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What the link itself does, measured by small packets that nothing is in the way of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ping {
    /// What it was told to be.
    pub(crate) rtt: Duration,
    pub(crate) times: Latencies,
}

/// Measures, and prints tables.
pub(crate) fn run(args: &LabArgs) -> anyhow::Result<()> {
    ensure_installed(&args.variants)?;
    enter(&NEEDS, "what was measured is above", |folder| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(measure(args, folder))
    })
}

async fn measure(args: &LabArgs, folder: &Path) -> anyhow::Result<()> {
    let plan = Plan {
        losses: vec![args.loss],
        rtts: vec![args.rtt],
        loads: args.loads.clone(),
        variants: args.variants.clone(),
        rounds: args.rounds,
        time: args.time,
        patience: args.patience,
        seed: args.seed,
        link: args.link.clone(),
    };
    let machine = format!("{}{}", Machine::describe(), peer_versions(&plan.variants).await);
    let lab = Lab::build(folder, plan.quiet(args.rtt), args.seed).await?;
    plan.check(&lab).await?;
    let ping = ping(&lab, &plan, args.rtt)?;
    let samples = plan.run(&lab, |_| Ok(())).await?;
    let mut out = std::io::stdout().lock();
    write!(out, "{machine}{}", plan.describe())?;
    writeln!(out, "{}", told(&ping))?;
    tables(&mut out, &plan, &samples)?;
    Ok(())
}

/// How exact a link with this round-trip time is, when it loses nothing.
pub(crate) fn ping(lab: &Lab, plan: &Plan, rtt: Duration) -> anyhow::Result<Ping> {
    lab.ends.replace_link(plan.quiet(rtt), plan.seed)?;
    let (times, lost) = lab.ends.ping()?;
    anyhow::ensure!(
        lost == 0,
        "the link was told to lose nothing, and lost {lost} pings: is this machine too busy?"
    );
    Ok(Ping { rtt, times })
}
