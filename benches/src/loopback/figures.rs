//! What a measurement comes to, for each call, message or link.

use std::time::Duration;

use adit_bench::figure::{Figure, median};
use adit_bench::load::{Load, MESSAGE};

use super::Sample;
use super::veth::Flow;
use super::way::Task;

/// Of a measurement, or the medians of several. What there is none of is not a number.
pub(super) struct Figures {
    pub(super) speed: f64,
    /// p50, p90 and p99, in microseconds.
    pub(super) percentiles: [f64; 3],
    /// Microseconds of processor time for each: of the load generator,
    pub(super) load_cpu: f64,
    /// and of those behind it.
    pub(super) cpu: [f64; 3],
    /// Of both directions.
    pub(super) wire: [Wire; 2],
}

/// What went into one direction, for each.
#[derive(Clone, Copy)]
pub(super) struct Wire {
    pub(super) packets: f64,
    pub(super) bytes: f64,
    pub(super) pieces: f64,
}

impl Figures {
    pub(super) fn of(sample: &Sample) -> Self {
        let outcome = &sample.measured.outcome;
        let count = Figure::count(outcome.count.max(1)).0;
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let speed = match sample.task {
            Task::Load {
                load: Load::Download, ..
            } => outcome.rate() * f64::from(MESSAGE) / 1e6,
            Task::Load { .. } | Task::Handshakes { .. } => outcome.rate(),
        };
        let percentiles = outcome.latency.map(|latency| {
            let times = [latency.p50, latency.p90, latency.p99];
            times.map(micros)
        });
        let wire = sample.measured.wire.map(|wire| {
            wire.map(|Flow { time, counts }| {
                let each = |things| Figure::count(things).0 / time.as_secs_f64() / outcome.rate();
                Wire {
                    packets: each(counts.packets),
                    bytes: each(counts.bytes),
                    pieces: each(counts.pieces),
                }
            })
        });
        Self {
            speed,
            percentiles: percentiles.unwrap_or([f64::NAN; 3]),
            load_cpu: micros(outcome.cpu) / count,
            cpu: sample
                .measured
                .cpu
                .map(|used| used.map_or(f64::NAN, |used| micros(used) / count)),
            wire: wire.unwrap_or([Wire::NONE; 2]),
        }
    }

    pub(super) fn median(samples: &[&Sample]) -> Self {
        let all: Vec<Self> = samples.iter().map(|sample| Self::of(sample)).collect();
        let of = |which: &dyn Fn(&Self) -> f64| median(all.iter().map(which)).0;
        Self {
            speed: of(&|figures| figures.speed),
            percentiles: [0, 1, 2].map(|index: usize| of(&|figures| figures.percentiles[index])),
            load_cpu: of(&|figures| figures.load_cpu),
            cpu: [0, 1, 2].map(|index: usize| of(&|figures| figures.cpu[index])),
            wire: [0, 1].map(|direction: usize| Wire {
                packets: of(&|figures| figures.wire[direction].packets),
                bytes: of(&|figures| figures.wire[direction].bytes),
                pieces: of(&|figures| figures.wire[direction].pieces),
            }),
        }
    }

    /// Processor time of everybody, the load generator too.
    pub(super) fn all_cpu(&self) -> f64 {
        self.load_cpu + self.cpu.iter().filter(|used| !used.is_nan()).sum::<f64>()
    }
}

impl Wire {
    const NONE: Self = Self {
        packets: f64::NAN,
        bytes: f64::NAN,
        pieces: f64::NAN,
    };
}
