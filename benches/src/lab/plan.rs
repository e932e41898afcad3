//! What is measured in a run, and in which order: variants in turns, so that what else the machine does hurts all of them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use adit_bench::workload::{PAYLOAD, Workload};
use serde::{Deserialize, Serialize};

use super::link::Conditions;
use super::measure::{Lab, Measurement};
use super::results::Sample;
use super::{LinkArgs, Variant};

/// What a measurement takes beside its time and its warm-up: processes start, and shake hands.
const START: Duration = Duration::from_millis(700);

/// A sparse load has few calls, so that it is measured so many times as long.
const SPARSE: u32 = 2;

/// All that is measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    /// In percent.
    pub(crate) losses: Vec<f64>,
    pub(crate) rtts: Vec<Duration>,
    pub(crate) loads: Vec<Workload>,
    pub(crate) variants: Vec<Variant>,
    pub(crate) rounds: NonZeroU32,
    pub(crate) time: Duration,
    pub(crate) patience: Duration,
    pub(crate) seed: u64,
    pub(crate) link: LinkArgs,
}

/// What is the same in every round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) variant: Variant,
    pub(crate) load: Workload,
    /// In percent.
    pub(crate) loss: f64,
    pub(crate) rtt: Duration,
}

impl Plan {
    /// The link without misfortunes.
    pub(crate) fn quiet(&self, rtt: Duration) -> Conditions {
        self.link.quiet(rtt)
    }

    /// Whether the kernel has what is asked of it, and other tunnels work: before anything is measured for an hour.
    pub(crate) async fn check(&self, lab: &Lab) -> anyhow::Result<()> {
        for controller in self.variants.iter().filter_map(Variant::tcp) {
            lab.ends.set_tcp(controller)?;
        }
        for variant in self.variants.iter().filter(|variant| variant.peer().is_some()) {
            lab.try_out(variant).await?;
        }
        Ok(())
    }

    /// Measures everything, and hands on each result as it comes. One that cannot be measured, such as a carrier that never
    /// gets through the link, is a result, too; that none can be is an error.
    pub(crate) async fn run(
        &self,
        lab: &Lab,
        mut measured: impl FnMut(&Sample) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<Sample>> {
        let order = self.order();
        let all: Duration = order.iter().map(|(_, point)| self.expected(point)).sum();
        progress(&format!("{} measurements: about {}", order.len(), rounded(all)));
        let begun = Instant::now();
        let mut samples: Vec<Sample> = Vec::with_capacity(order.len());
        let mut expected = Duration::ZERO;
        for (round, point) in &order {
            let outcome = lab.measure(&self.measurement(*round, point)).await;
            let sample = Sample::new(point.clone(), *round, outcome);
            measured(&sample)?;
            expected += self.expected(point);
            let pace = begun.elapsed().as_secs_f64() / expected.as_secs_f64().max(1e-3);
            let left = all.saturating_sub(expected).mul_f64(pace);
            progress(&format!(
                "{}/{} {}; {} left",
                samples.len() + 1,
                order.len(),
                sample.told(),
                rounded(left)
            ));
            samples.push(sample);
        }
        if let Some(sample) = samples.first()
            && samples.iter().all(|sample| sample.outcome.is_none())
        {
            let error = sample.error.clone().unwrap_or_default();
            anyhow::bail!("nothing could be measured; the first time because {error}");
        }
        Ok(samples)
    }

    /// The rounds, and in each of them every point; variants beside each other, in another order each round.
    fn order(&self) -> Vec<(u32, Point)> {
        let mut order = Vec::new();
        for round in 1..=self.rounds.get() {
            for &rtt in &self.rtts {
                for &load in &self.loads {
                    for &loss in &self.losses {
                        let first = (round as usize - 1) % self.variants.len().max(1);
                        let (last, next) = self.variants.split_at(first);
                        for variant in next.iter().chain(last) {
                            let variant = variant.clone();
                            order.push((
                                round,
                                Point {
                                    variant,
                                    load,
                                    loss,
                                    rtt,
                                },
                            ));
                        }
                    }
                }
            }
        }
        order
    }

    fn measurement(&self, round: u32, point: &Point) -> Measurement {
        Measurement {
            variant: point.variant.clone(),
            conditions: self.link.conditions(point.loss, point.rtt),
            // Of one round the same for all variants.
            seed: self.seed + u64::from(round) - 1,
            load: point.load,
            time: self.time_of(point.load),
            patience: self.patience,
        }
    }

    fn time_of(&self, load: Workload) -> Duration {
        match load {
            Workload::Sparse(_) => self.time * SPARSE,
            _ => self.time,
        }
    }

    /// How long a measurement takes where calls end soon.
    fn expected(&self, point: &Point) -> Duration {
        START + 4 * point.rtt + point.load.warm_up() + self.time_of(point.load)
    }

    /// As a Markdown list.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        let names: Vec<String> = self.variants.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            text,
            "- link: TUN emulator between two network namespaces, MTU 1500, {}; seed {} and following\n\
             - hub, agent with the service in it, and load: a process of one thread each, new for each measurement; the \
             clients are beside the hub; mutual TLS 1.3 on every carrier; unary echo of {PAYLOAD} bytes, streams of \
             64 KiB messages; one HTTP/2 connection of clients\n\
             - carrier/congestion controller at both ends: {} (TCP's set and read back in both namespaces, without what \
             TCP remembers of earlier connections)\n\
             - {} round(s) of {:?} (sparse: {:?}) after a warm-up of 1 s, or 2 s with a stream; variants in turns, all \
             with the same seeds; latency from the intended time of each call in open loops; a call that had not ended \
             {:?} after the time has failed, and is in the percentiles with what it had waited",
            self.link,
            self.seed,
            names.join(", "),
            self.rounds,
            self.time,
            self.time * SPARSE,
            self.patience,
        );
        if self.variants.iter().any(|variant| variant.peer().is_some()) {
            let _ = writeln!(
                text,
                "- other tunnels: a process at each end with one thread for the work, and the service a process of its \
                 own beside the agent's end, whose CPU time is in the agent's column; TLS on the link; one that runs \
                 over QUIC has a congestion controller of its own"
            );
        }
        text
    }
}

/// Nobody is left to be told that standard error is closed.
pub(crate) fn progress(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn rounded(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=99 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}
