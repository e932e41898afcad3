//! A congestion controller that bounds the queue that it builds.
//!
//! A sender that keeps more in flight than a link holds on its way only fills the queue before it, where small calls then wait.
//! So the window is what the link was seen to deliver, times the shortest round trip that it was seen to have, and a little
//! more: as BBR has it (draft-ietf-ccwg-bbr), but for two things. quinn paces by the window alone, so that the window has to do
//! all of it; and loss says nothing below [`TOLERATED_LOSS`], because links that lose packets at random are what adit is for.
//!
//! What was seen is forgotten in time. Every [`CYCLE`] the window is halved for a round trip, in which the queue drains and the
//! round trip is that of the link itself; it counts for two such cycles. Where the round trip is longer than the window explains,
//! the same is done at once: if it gives way, the link has become slower, and what was known of its rate is forgotten; if it
//! does not, the way has become longer, or the queue is somebody else's, and the longer round trip is what counts from then on.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

use super::rate::{Delivery, MaxRate};

/// The window before anything is known, in packets.
const INITIAL_PACKETS: u64 = 32;

/// The window is never smaller, in packets: a few calls pass whatever the link is taken for.
const FEWEST_PACKETS: u64 = 4;

/// How much more is in flight than the link holds. It keeps the link busy when acknowledgements come unevenly, and finds out
/// when the link has become faster; it is also the queue.
const GAIN: f64 = 1.25;

/// The queue may be as long as this, however short the round trip is: on a fast link the ends themselves take as long at times.
const LEAST_QUEUE: Duration = Duration::from_millis(4);

/// What is in flight, of what the link holds, in the round trip in which the queue drains.
const DRAIN_GAIN: f64 = 0.5;

/// A round trip that is still this much of what it was when the window was halved is not of this sender's making.
const STANDS: f64 = 0.85;

/// How often the queue drains, unless ten round trips take longer.
const CYCLE: Duration = Duration::from_secs(2);

/// The link is full when its rate has not grown by so much,
const GROWTH: f64 = 1.25;

/// in as many round trips.
const FULL_AFTER: u32 = 3;

/// Loss is taken for that of the link up to this share of what was sent in a round trip.
const TOLERATED_LOSS: f64 = 0.1;

/// Makes controllers that bound their queue.
#[derive(Debug)]
pub(super) struct BoundedConfig;

/// The controller of one path.
#[derive(Clone, Debug)]
pub(super) struct Bounded {
    mtu: u64,
    window: u64,
    delivery: Delivery,
    rate: MaxRate,
    mode: Mode,
    /// The shortest round trips of the last cycle and of this one.
    shortest: [Option<Duration>; 2],
    cycle_began: Instant,
    round: Round,
    /// Share of bytes that are lost, as it is smoothed over rounds.
    loss: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// The link's rate is being found: the window doubles each round trip.
    Startup {
        /// The rate that was the last to be much more than the one before.
        best: f64,
        /// Round trips since then.
        stagnant: u32,
    },
    Cruise,
    /// The queue drains until this round trip is over.
    Drain {
        until_round: u64,
        /// It had a round trip like this before, which the window did not explain.
        stands: Option<Duration>,
    },
}

const STARTUP: Mode = Mode::Startup {
    best: 0.0,
    stagnant: 0,
};

/// What one round trip brings.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    number: u64,
    /// The round is over when a packet is acknowledged that was sent after so much had been delivered.
    ends_at: u64,
    acked: u64,
    lost: u64,
    shortest: Option<Duration>,
    app_limited: bool,
}

impl ControllerFactory for BoundedConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Bounded::new(now, current_mtu))
    }
}

impl Bounded {
    fn new(now: Instant, mtu: u16) -> Self {
        let mtu = u64::from(mtu);
        Self {
            mtu,
            window: INITIAL_PACKETS * mtu,
            delivery: Delivery::new(now),
            rate: MaxRate::default(),
            mode: STARTUP,
            shortest: [None; 2],
            cycle_began: now,
            round: Round::default(),
            loss: 0.0,
        }
    }

    /// The round trip of the link itself, without a queue.
    fn round_trip(&self) -> Option<Duration> {
        self.shortest.iter().flatten().min().copied()
    }

    /// Bytes that are in flight when the link is full, and its queue is as long as this many round trips make it.
    fn content(&self, gain: f64) -> Option<f64> {
        let round_trip = self.round_trip()?;
        let span = if gain > 1.0 {
            round_trip.mul_f64(gain).max(round_trip + LEAST_QUEUE)
        } else {
            round_trip.mul_f64(gain)
        };
        Some(self.rate.get()? * span.as_secs_f64())
    }

    fn end_round(&mut self, now: Instant) {
        let round = self.round;
        let sent = round.acked + round.lost;
        if sent > 0 {
            let loss = round.lost as f64 / sent as f64;
            self.loss += (loss - self.loss) / 8.0;
        }
        self.rate.end_round(now);
        let drain = |stands| Mode::Drain {
            until_round: round.number + 2,
            stands,
        };
        match self.mode {
            Mode::Startup { best, stagnant } => {
                let rate = self.rate.get().unwrap_or_default();
                self.mode = if round.app_limited {
                    self.mode
                } else if rate >= best * GROWTH {
                    Mode::Startup {
                        best: rate,
                        stagnant: 0,
                    }
                } else if stagnant + 1 >= FULL_AFTER || self.is_congested() {
                    self.cycle_began = now;
                    drain(None)
                } else {
                    Mode::Startup {
                        best,
                        stagnant: stagnant + 1,
                    }
                };
            }
            Mode::Cruise => {
                let cycle = CYCLE.max(self.round_trip().unwrap_or_default() * 10);
                if self.is_congested() {
                    self.mode = drain(round.shortest);
                } else if now.duration_since(self.cycle_began) >= cycle {
                    self.cycle_began = now;
                    self.shortest = [self.shortest[1], None];
                    self.mode = drain(None);
                }
            }
            Mode::Drain { until_round, stands } if round.number + 1 >= until_round => {
                if let (Some(stands), Some(shortest)) = (stands, round.shortest) {
                    if shortest > stands.mul_f64(STANDS) {
                        // It is not this sender's: the way has become longer, or is somebody else's queue.
                        self.shortest = [Some(shortest); 2];
                        self.cycle_began = now;
                    } else {
                        self.rate.doubt();
                    }
                }
                self.mode = Mode::Cruise;
            }
            Mode::Drain { .. } => {}
        }
        self.round = Round {
            number: round.number + 1,
            ends_at: self.delivery.delivered(),
            ..Round::default()
        };
    }

    /// Whether a queue stands that the window does not explain: the link has become slower, or somebody else fills it.
    fn is_congested(&self) -> bool {
        let (Some(shortest), Some(round_trip)) = (self.round.shortest, self.round_trip()) else {
            return false;
        };
        shortest
            > round_trip
                .mul_f64(2.0 * GAIN - 1.0)
                .max(round_trip + 2 * LEAST_QUEUE)
    }

    fn resize(&mut self, acked: u64) {
        let fewest = FEWEST_PACKETS * self.mtu;
        let gain = match self.mode {
            Mode::Startup { .. } => 2.0,
            Mode::Cruise if self.loss > TOLERATED_LOSS => 1.0,
            Mode::Cruise => GAIN,
            Mode::Drain { .. } => DRAIN_GAIN,
        };
        let target = self.content(gain).map(|content| {
            // What is lost was in flight as well, and is no part of what was delivered.
            let carried = 1.0 - self.loss.min(TOLERATED_LOSS);
            whole(content / carried) + 3 * self.mtu
        });
        self.window = match (self.mode, target) {
            // It grows by what arrives, and does not shrink.
            (Mode::Startup { .. }, _) if self.round.app_limited => self.window,
            (Mode::Startup { .. }, Some(target)) => self
                .window
                .max((self.window + acked).min(target.max(INITIAL_PACKETS * self.mtu))),
            (Mode::Startup { .. }, None) => self.window,
            (Mode::Cruise | Mode::Drain { .. }, Some(target)) => target.max(fewest),
            (Mode::Cruise | Mode::Drain { .. }, None) => self.window,
        };
    }
}

impl Controller for Bounded {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        self.delivery.sent(now, bytes);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, _rtt: &RttEstimator) {
        self.round.acked += bytes;
        self.round.app_limited |= app_limited;
        let round_trip = now.saturating_duration_since(sent);
        for shortest in [&mut self.shortest[1], &mut self.round.shortest] {
            *shortest = Some(shortest.map_or(round_trip, |shortest| shortest.min(round_trip)));
        }
        if let Some(sample) = self.delivery.acked(now, sent, bytes) {
            self.rate.add(sample.rate, sample.app_limited);
            if sample.delivered_before >= self.round.ends_at {
                self.end_round(now);
            }
        }
    }

    fn on_end_acks(&mut self, _now: Instant, in_flight: u64, app_limited: bool, _largest: Option<u64>) {
        let acked = self.delivery.end_acks(in_flight, app_limited);
        self.resize(acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        _sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.round.lost += lost_bytes;
        if is_persistent_congestion {
            // Nothing of what was known holds on such a path.
            *self = Self {
                delivery: self.delivery.clone(),
                ..Self::new(now, u16::try_from(self.mtu).unwrap_or(u16::MAX))
            };
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = u64::from(new_mtu);
        self.window = self.window.max(FEWEST_PACKETS * self.mtu);
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window;
        metrics.pacing_rate = self.rate.get().map(|rate| whole(rate * 8.0));
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        INITIAL_PACKETS * self.mtu
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// A count of bytes or bits, which is never negative.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the fraction means nothing, and too many are as many as there can be"
)]
fn whole(count: f64) -> u64 {
    count as u64
}
