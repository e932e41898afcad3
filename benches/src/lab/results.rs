//! What was measured, the rounds of each point together, and tables of it.

use std::io::{self, Write};
use std::time::Duration;

use adit_bench::figure::{Figure, median};
use adit_bench::latencies::Latencies;
use adit_bench::workload::Workload;
use serde::{Deserialize, Serialize};

use super::measure::Outcome;
use super::{Ping, Plan, Point};

/// Quantiles of the tables.
pub(crate) const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) point: Point,
    pub(crate) round: u32,
    pub(crate) outcome: Option<Outcome>,
    /// Why there is none.
    pub(crate) error: Option<String>,
}

/// A point's rounds.
#[derive(Clone, Debug)]
pub(crate) struct Merged {
    pub(crate) point: Point,
    /// Of all calls of all rounds.
    pub(crate) latency: Latencies,
    pub(crate) failed: u64,
    /// Medians over the rounds.
    pub(crate) megabytes: f64,
    pub(crate) calls_a_second: f64,
    packets: f64,
    bytes: f64,
    cpu: [f64; 2],
    errors: usize,
}

impl Sample {
    pub(crate) fn new(point: Point, round: u32, outcome: anyhow::Result<Outcome>) -> Self {
        let (outcome, error) = match outcome {
            Ok(outcome) => (Some(outcome), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        Self {
            point,
            round,
            outcome,
            error,
        }
    }

    /// On one line.
    pub(crate) fn told(&self) -> String {
        let Point {
            variant,
            load,
            loss,
            rtt,
        } = &self.point;
        let what = format!("{loss} %, {rtt:?}, {load}, {variant}");
        let Some(Outcome { measured, .. }) = &self.outcome else {
            return format!("{what}: {}", self.error.as_deref().unwrap_or("nothing"));
        };
        let mut figures = Vec::new();
        if load.has_calls() {
            let ms = |quantile| Figure(milliseconds(measured.latency.at(quantile)));
            figures.push(format!("p50 {} p99 {} ms", ms(0.5), ms(0.99)));
        }
        if load.has_stream() {
            let megabytes = Figure(megabytes_a_second(self.outcome.as_ref()));
            figures.push(format!("{megabytes} MB/s"));
        }
        if measured.failed > 0 {
            figures.push(format!("{} failed", measured.failed));
        }
        format!("{what}: {}", figures.join(", "))
    }
}

impl Merged {
    /// None where nothing was measured at this point.
    #[expect(clippy::cast_precision_loss, reason = "no run counts to 2^53")]
    pub(crate) fn of(point: &Point, samples: &[Sample]) -> anyhow::Result<Option<Self>> {
        let of_point: Vec<&Sample> = samples.iter().filter(|sample| sample.point == *point).collect();
        let outcomes: Vec<&Outcome> = of_point
            .iter()
            .filter_map(|sample| sample.outcome.as_ref())
            .collect();
        if outcomes.is_empty() {
            return Ok(None);
        }
        let mut latency = Latencies::new()?;
        for outcome in &outcomes {
            latency.add(&outcome.measured.latency)?;
        }
        let each = |of: &dyn Fn(&Outcome) -> f64| {
            let per_call = outcomes.iter().map(|outcome| {
                let calls = outcome.measured.latency.count();
                if calls == 0 || point.load.has_stream() {
                    return f64::NAN;
                }
                of(outcome) / calls as f64
            });
            median(per_call).0
        };
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        Ok(Some(Self {
            point: point.clone(),
            latency,
            failed: outcomes.iter().map(|outcome| outcome.measured.failed).sum(),
            megabytes: median(outcomes.iter().map(|outcome| megabytes_a_second(Some(outcome)))).0,
            calls_a_second: median(outcomes.iter().map(|outcome| {
                outcome.measured.latency.count() as f64 / outcome.measured.elapsed.as_secs_f64()
            }))
            .0,
            packets: each(&|outcome| outcome.link.iter().map(|way| way.packets as f64).sum()),
            bytes: each(&|outcome| outcome.link.iter().map(|way| way.bytes as f64).sum()),
            cpu: [0, 1].map(|process| each(&|outcome| micros(outcome.cpu[process]))),
            errors: of_point.len() - outcomes.len(),
        }))
    }

    pub(crate) fn milliseconds(&self, quantile: f64) -> f64 {
        if self.latency.count() == 0 {
            return f64::NAN;
        }
        milliseconds(self.latency.at(quantile))
    }
}

/// How exact the link is.
pub(crate) fn told(ping: &Ping) -> String {
    let at = |quantile| milliseconds(ping.times.at(quantile));
    format!(
        "- {} pings over the empty link that is to take {:?}: p50 {:.3} ms, p99 {:.3} ms, longest {:.3} ms",
        ping.times.count(),
        ping.rtt,
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

/// A table for each load and round-trip time: every loss and variant, beside WebSocket where that was measured.
pub(crate) fn tables(out: &mut impl Write, plan: &Plan, samples: &[Sample]) -> anyhow::Result<()> {
    for &rtt in &plan.rtts {
        for &load in &plan.loads {
            writeln!(out, "\n{}, {} ms there and back:\n", title(load), rtt.as_millis())?;
            head(out, load, &plan.baselines())?;
            for &loss in &plan.losses {
                let merged = |variant: &super::Variant| {
                    let point = Point {
                        variant: variant.clone(),
                        load,
                        loss,
                        rtt,
                    };
                    Merged::of(&point, samples)
                };
                let mut baselines = Vec::new();
                for variant in plan.baselines() {
                    baselines.push(merged(variant)?);
                }
                for variant in &plan.variants {
                    match merged(variant)? {
                        Some(merged) => row(out, &merged, &baselines)?,
                        None => writeln!(out, "| {loss} % | {variant} | not measured: see results.json |")?,
                    }
                }
            }
        }
    }
    lateness(out, samples)
}

impl Plan {
    /// The WebSockets, which others are compared with.
    pub(crate) fn baselines(&self) -> Vec<&super::Variant> {
        let websockets = self.variants.iter();
        websockets
            .filter(|variant| variant.carrier() == Some(adit_transport::Carrier::WebSocket))
            .collect()
    }
}

/// In words.
pub(crate) fn title(load: Workload) -> String {
    match load {
        Workload::Open(rate) => format!("Open loop, {rate} calls/s"),
        Workload::Sparse(rate) => format!("Sparse, {rate} calls/s"),
        Workload::Closed(concurrency) => format!("Closed loop, {concurrency} at a time"),
        Workload::Down => "Stream agent → client".to_owned(),
        Workload::Up => "Stream client → agent".to_owned(),
        Workload::Mixed(rate) => format!("A bulk stream agent → client beside {rate} calls/s"),
    }
}

fn head(out: &mut impl Write, load: Workload, baselines: &[&super::Variant]) -> io::Result<()> {
    let mut columns = vec!["loss".to_owned(), "carrier/controller".to_owned()];
    if load.has_calls() {
        columns.extend(QUANTILES.map(|(name, _)| format!("{name} ms")));
        for baseline in baselines {
            columns.push(format!("p50 / {baseline}"));
            columns.push(format!("p99 / {baseline}"));
        }
        columns.push("calls/s".to_owned());
    }
    if load.has_stream() {
        columns.push("stream MB/s".to_owned());
    } else {
        columns.extend(
            [
                "packets per call",
                "wire bytes per call",
                "CPU µs per call: hub",
                "agent",
            ]
            .map(str::to_owned),
        );
    }
    columns.push("failed".to_owned());
    writeln!(out, "| {} |", columns.join(" | "))?;
    writeln!(out, "|{}", "---|".repeat(columns.len()))
}

fn row(out: &mut impl Write, merged: &Merged, baselines: &[Option<Merged>]) -> io::Result<()> {
    let Point {
        variant, load, loss, ..
    } = &merged.point;
    let mut cells = vec![format!("{loss} %"), variant.to_string()];
    if load.has_calls() {
        cells.extend(QUANTILES.map(|(_, quantile)| Figure(merged.milliseconds(quantile)).to_string()));
        for baseline in baselines {
            for quantile in [0.5, 0.99] {
                let ratio = baseline.as_ref().map(|baseline| {
                    format!(
                        "{:.2}",
                        merged.milliseconds(quantile) / baseline.milliseconds(quantile)
                    )
                });
                cells.push(ratio.unwrap_or_else(|| "–".to_owned()));
            }
        }
        cells.push(Figure(merged.calls_a_second).to_string());
    }
    if load.has_stream() {
        cells.push(format!("{:.2}", merged.megabytes));
    } else {
        cells.push(format!("{:.2}", merged.packets));
        cells.extend([merged.bytes, merged.cpu[0], merged.cpu[1]].map(|value| Figure(value).to_string()));
    }
    let errors = match merged.errors {
        0 => String::new(),
        errors => format!(" and {errors} whole round(s)"),
    };
    cells.push(format!("{}{errors}", merged.failed));
    writeln!(out, "| {} |", cells.join(" | "))
}

/// How late the emulator itself was: a figure that is smaller than this says nothing.
fn lateness(out: &mut impl Write, samples: &[Sample]) -> anyhow::Result<()> {
    let mut lateness = Latencies::new()?;
    let mut refused = 0;
    for outcome in samples.iter().filter_map(|sample| sample.outcome.as_ref()) {
        lateness.add(&outcome.traffic.lateness)?;
        refused += outcome.traffic.refused;
    }
    writeln!(
        out,
        "\nThe emulator delivered {} packets; so much later than they were due: p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, \
         longest {:.1} ms. {refused} were not taken by a device.",
        Figure::count(lateness.count()),
        milliseconds(lateness.at(0.5)),
        milliseconds(lateness.at(0.99)),
        milliseconds(lateness.at(0.999)),
        milliseconds(lateness.at(1.0)),
    )?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "no run counts to 2^53")]
fn megabytes_a_second(outcome: Option<&Outcome>) -> f64 {
    outcome.map_or(f64::NAN, |outcome| {
        outcome.measured.streamed as f64 / 1e6 / outcome.measured.elapsed.as_secs_f64()
    })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
