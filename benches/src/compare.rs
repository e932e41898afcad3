//! `adit-bench compare`: carriers on links that lose more or less, near and far, with every kind of load.
//!
//! The report has every figure beside that of a WebSocket over the same link, with each of TCP's controllers that was asked
//! for: what Linux ships is not what is best for a tunnel, and both are what people have.

mod plots;
mod report;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_bench::machine::Machine;
use adit_bench::workload::Workload;
use anyhow::Context as _;
use clap::Args;

use crate::inside::enter;
use crate::lab::{
    Lab, LinkArgs, NEEDS, Plan, Sample, Variant, ensure_installed, installed_peers, peer_versions, percent,
    ping, progress,
};

/// What was measured so far, one measurement a line.
const SAMPLES: &str = "samples.jsonl";

/// What is measured when nobody says it, beside other tunnels.
const CARRIERS: [&str; 4] = ["quic/bounded", "tls/bbr", "websocket/bbr", "websocket/cubic"];

/// Arguments of `adit-bench compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// A folder for results.json, report.md and the plots; it must not exist
    #[arg(long, value_name = "DIR", default_value = "comparison")]
    out: PathBuf,
    /// Less of everything, in less than three minutes: shows that it works, and proves nothing
    #[arg(long)]
    quick: bool,
    /// Packets lost, in percent, each way [default: 0,1,5; quick: 0,1]
    #[arg(long, value_delimiter = ',', value_parser = percent)]
    loss: Vec<f64>,
    /// Round-trip times [default: 40ms,150ms; quick: 40ms]
    #[arg(long, value_delimiter = ',', value_parser = humantime::parse_duration)]
    rtt: Vec<Duration>,
    #[command(flatten)]
    link: LinkArgs,
    /// Carriers, and other tunnels that are on the PATH, with their congestion controllers [default:
    /// quic/bounded,tls/bbr,websocket/bbr,websocket/cubic and the first two that are there of
    /// frp-quic,wstunnel/bbr,haproxy/bbr,rathole/bbr]
    #[arg(long, value_delimiter = ',')]
    variants: Vec<Variant>,
    /// What clients do: open:RATE, sparse:RATE, closed:CONCURRENCY, down, up, mixed:RATE
    #[arg(long, value_delimiter = ',', default_value = "open,sparse,mixed")]
    loads: Vec<Workload>,
    /// How often each measurement is made; each time the link loses other packets [default: 2; quick: 1]
    #[arg(long)]
    rounds: Option<NonZeroU32>,
    /// How long each takes, after its warm-up [default: 15s; quick: 2s]
    #[arg(long, value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// How long calls have to end in when the time is over [default: 5s; quick: 1s]
    #[arg(long, value_parser = humantime::parse_duration)]
    patience: Option<Duration>,
    /// Which packets are lost
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Measures, and writes the folder.
pub(crate) fn run(args: &CompareArgs) -> anyhow::Result<()> {
    let out = std::path::absolute(&args.out).context("cannot find the current folder")?;
    if out.exists() {
        return Err(exists(&out));
    }
    ensure_installed(&args.variants)?;
    let left = format!("{} has what was measured before", out.join(SAMPLES).display());
    enter(&NEEDS, &left, |folder| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(compare(&args.plan()?, &out, folder))
    })
}

async fn compare(plan: &Plan, out: &Path, folder: &Path) -> anyhow::Result<()> {
    let machine = format!("{}{}", Machine::describe(), peer_versions(&plan.variants).await);
    let quiet = plan.quiet(plan.rtts.first().copied().unwrap_or_default());
    let lab = Lab::build(folder, quiet, plan.seed).await?;
    plan.check(&lab).await?;
    // Only now is it likely that there will be something to write.
    make(out)?;
    let mut pings = Vec::new();
    for &rtt in &plan.rtts {
        pings.push(ping(&lab, plan, rtt)?);
    }
    let path = out.join(SAMPLES);
    let mut lines = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let note = |sample: &Sample| {
        let line = serde_json::to_string(sample)?;
        writeln!(lines, "{line}").with_context(|| format!("cannot write {}", path.display()))
    };
    let samples = plan.run(&lab, note).await?;
    let results = report::Results {
        machine,
        command: std::env::args().collect(),
        plan,
        pings: &pings,
        samples: &samples,
    };
    let plots = plots::draw(out, plan, &samples)?;
    results.write(out, &plots)?;
    // All of it is in the results.
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    let _ = writeln!(
        io::stderr(),
        "{} has the report",
        out.join(report::REPORT).display()
    );
    Ok(())
}

/// A folder that exists may have what took an hour.
fn make(out: &Path) -> anyhow::Result<()> {
    fs::create_dir(out).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(out),
        _ => anyhow::Error::new(error).context(format!("cannot make the folder {}", out.display())),
    })
}

fn exists(out: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "{} exists already, and is left as it is: name another folder with --out, or remove it",
        out.display()
    )
}

impl CompareArgs {
    fn plan(&self) -> anyhow::Result<Plan> {
        let (losses, rtts, rounds, time, patience): (&[f64], &[u64], _, _, _) = if self.quick {
            (&[0.0, 1.0], &[40], NonZeroU32::MIN, 2, 1)
        } else {
            (
                &[0.0, 1.0, 5.0],
                &[40, 150],
                NonZeroU32::MIN.saturating_add(1),
                15,
                5,
            )
        };
        let rtts = rtts.iter().copied().map(Duration::from_millis).collect();
        let variants = if self.variants.is_empty() {
            default_variants()?
        } else {
            self.variants.clone()
        };
        Ok(Plan {
            losses: or(&self.loss, losses.to_vec()),
            rtts: or(&self.rtt, rtts),
            loads: self.loads.clone(),
            variants,
            rounds: self.rounds.unwrap_or(rounds),
            time: self.time.unwrap_or(Duration::from_secs(time)),
            patience: self.patience.unwrap_or(Duration::from_secs(patience)),
            seed: self.seed,
            link: self.link.clone(),
        })
    }
}

/// Every carrier, and what other tunnels there are; those that are not are told.
fn default_variants() -> anyhow::Result<Vec<Variant>> {
    let carriers = CARRIERS.iter().map(|name| name.parse());
    let mut variants = carriers.collect::<anyhow::Result<Vec<Variant>>>()?;
    let (peers, left_out) = installed_peers();
    for line in left_out {
        progress(&line);
    }
    variants.extend(peers);
    Ok(variants)
}

fn or<T: Clone>(given: &[T], otherwise: Vec<T>) -> Vec<T> {
    if given.is_empty() {
        otherwise
    } else {
        given.to_vec()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn a_folder_that_exists_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("report.md"), "an hour's work").unwrap();
        let error = make(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("exists already") && error.contains("--out"),
            "{error}"
        );
        assert_eq!(
            fs::read_to_string(folder.path().join("report.md")).unwrap(),
            "an hour's work"
        );
        let error = make(&folder.path().join("no/such")).unwrap_err().to_string();
        assert!(error.contains("cannot make the folder"), "{error}");
    }
}
