//! The report of `adit-bench loopback`, in Markdown.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use adit_bench::figure::{Figure, median};
use adit_bench::load::{Load, MESSAGE, Outcome, PAYLOAD};
use adit_bench::machine::Machine;

use super::{LoopbackArgs, Sample, Way};

/// What was measured just now.
pub(super) struct Progress<'a> {
    pub(super) sample: &'a Sample,
    pub(super) rounds: usize,
}

impl fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sample {
            workers,
            round,
            load,
            way,
            ..
        } = self.sample;
        let figures = Figures::of(self.sample);
        write!(
            f,
            "workers {workers}, round {round} of {}: {}, {way}: {}",
            self.rounds,
            named(*load),
            figures.speed
        )?;
        write!(
            f,
            " {}",
            if *load == Load::Download {
                "MB/s"
            } else {
                "calls/s"
            }
        )
    }
}

/// Writes every round, and then the medians over the rounds beside those of the direct way.
pub(super) fn write(
    out: &mut impl Write,
    machine: &Machine,
    args: &LoopbackArgs,
    samples: &[Sample],
) -> io::Result<()> {
    write!(out, "{machine}")?;
    writeln!(
        out,
        "- one HTTP/2 connection of a tonic client; unary echo of {PAYLOAD} bytes in a closed loop; download of \
         {MESSAGE}-byte messages on one stream\n\
         - direct: load generator → tonic server, TCP. tunnel: load generator → hub ⇒ agent with the service in it, \
         QUIC, mutual TLS 1.3, {}\n\
         - one process each, all with the same runtime: 1 worker is tokio's current-thread runtime, 2 the \
         multi-thread one; nothing is pinned to a processor\n\
         - {} rounds of {:?} after half a second of warm-up, the two ways in turns\n",
        args.congestion, args.rounds, args.seconds,
    )?;
    for workers in args.workers.counts() {
        for load in args.loads() {
            let of = |way| {
                samples
                    .iter()
                    .filter(move |s| (s.workers, s.load, s.way) == (workers, load, way))
            };
            table(
                out,
                workers,
                load,
                &of(Way::Direct).collect::<Vec<_>>(),
                &of(Way::Tunnel).collect::<Vec<_>>(),
            )?;
        }
    }
    Ok(())
}

fn table(
    out: &mut impl Write,
    workers: usize,
    load: Load,
    direct: &[&Sample],
    tunnel: &[&Sample],
) -> io::Result<()> {
    let (speed, each) = match load {
        Load::Calls { .. } => ("calls/s", "call"),
        Load::Download => ("MB/s", "message"),
    };
    writeln!(out, "Workers {workers}, {}:\n", named(load))?;
    writeln!(
        out,
        "| | {speed} | p50 µs | p90 µs | p99 µs | CPU µs per {each}: load | server, or hub + agent |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    for (direct, tunnel) in direct.iter().zip(tunnel) {
        for sample in [direct, tunnel] {
            row(
                out,
                &format!("round {}, {}", sample.round, sample.way),
                &Figures::of(sample),
            )?;
        }
    }
    let (direct, tunnel) = (Figures::median(direct), Figures::median(tunnel));
    row(out, "**median, direct**", &direct)?;
    row(out, "**median, tunnel**", &tunnel)?;
    let ratio = |of: fn(&Figures) -> f64| of(&tunnel) / of(&direct);
    write!(
        out,
        "| **tunnel / direct** | **{:.2}** ",
        ratio(|figures| figures.speed.0)
    )?;
    match load {
        Load::Calls { .. } => writeln!(
            out,
            "| **{:.2}** | {:.2} | {:.2} | | |\n",
            ratio(|figures| figures.percentiles[0].0),
            ratio(|figures| figures.percentiles[1].0),
            ratio(|figures| figures.percentiles[2].0),
        ),
        Load::Download => writeln!(out, "| | | | | |\n"),
    }
}

fn row(out: &mut impl Write, name: &str, figures: &Figures) -> io::Result<()> {
    write!(out, "| {name} | {} ", figures.speed)?;
    for percentile in &figures.percentiles {
        write!(out, "| {percentile} ")?;
    }
    write!(out, "| {} |", figures.load_cpu)?;
    let behind: Vec<String> = figures.cpu.iter().map(Figure::to_string).collect();
    writeln!(out, " {} |", behind.join(" + "))
}

/// A measurement, or the medians of several.
struct Figures {
    speed: Figure,
    percentiles: Vec<Figure>,
    load_cpu: Figure,
    cpu: Vec<Figure>,
}

impl Figures {
    #[expect(clippy::cast_precision_loss, reason = "no run counts to 2^53")]
    fn of(sample: &Sample) -> Self {
        let Outcome {
            count, latency, cpu, ..
        } = &sample.outcome;
        let each = |time: &Duration| Figure(time.as_secs_f64() * 1e6 / (*count).max(1) as f64);
        let speed = match sample.load {
            Load::Calls { .. } => sample.outcome.rate(),
            Load::Download => sample.outcome.rate() * f64::from(MESSAGE) / 1e6,
        };
        let percentiles = latency.map(|latency| [latency.p50, latency.p90, latency.p99]);
        let micros = |time: Duration| Figure(time.as_secs_f64() * 1e6);
        Self {
            speed: Figure(speed),
            percentiles: percentiles
                .map_or_else(|| vec![Figure(f64::NAN); 3], |times| times.map(micros).into()),
            load_cpu: each(cpu),
            cpu: sample.cpu.iter().map(each).collect(),
        }
    }

    fn median(samples: &[&Sample]) -> Self {
        let all: Vec<Self> = samples.iter().map(|sample| Self::of(sample)).collect();
        let many = |of: fn(&Self) -> &Vec<Figure>| {
            let columns = all.first().map_or(0, |figures| of(figures).len());
            (0..columns)
                .map(|column| median(all.iter().map(|figures| of(figures)[column].0)))
                .collect()
        };
        Self {
            speed: median(all.iter().map(|figures| figures.speed.0)),
            percentiles: many(|figures| &figures.percentiles),
            load_cpu: median(all.iter().map(|figures| figures.load_cpu.0)),
            cpu: many(|figures| &figures.cpu),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Tunnel => "tunnel",
        })
    }
}

fn named(load: Load) -> String {
    match load {
        Load::Calls { concurrency } => format!("{concurrency} at a time"),
        Load::Download => "download".to_owned(),
    }
}
