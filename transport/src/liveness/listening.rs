//! An end that only receives asks soon whether it still can.
//!
//! Where a NAT on the way forgets the agent, or gives it another address, the hub's packets go nowhere, and the hub can do
//! nothing about it: only a packet from inside shows it the new way. An agent that sends anyhow has sent one. One that only
//! receives has nothing to send while nothing comes, so it asks: soon where something came just before, and less and less
//! often while the calls have nothing to say.

use std::time::{Duration, Instant};

use super::{Activity, Sample, WATCH};

/// A call that is still to receive, and on whose link nothing has come for so long at the least, may be out of reach.
pub const LISTEN_FOR: Duration = Duration::from_millis(200);

/// So many round trips at the least, too.
pub const LISTEN_FOR_ROUND_TRIPS: u32 = 3;

/// How often the least of these times is doubled at most. Other heartbeats come sooner than that.
const DOUBLED: u32 = 5;

/// A link is looked at so many times while that time passes.
const LOOKS: u32 = 4;

/// What is known of what comes.
#[derive(Debug)]
pub(super) struct Listening {
    received: u64,
    /// When that was last seen to grow.
    heard_at: Instant,
    /// What had been carried when it was last looked who it was for,
    carried: u64,
    /// and heartbeats among what was carried since, which are nobody's.
    beats: u64,
    /// How often in a row it was asked while the calls had nothing to say.
    asked: u32,
}

impl Listening {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            received: 0,
            heard_at: now,
            carried: 0,
            beats: 0,
            asked: 0,
        }
    }

    /// A heartbeat of the peer has come, or its answer to one.
    pub(super) fn beat(&mut self) {
        self.beats += 1;
    }

    /// This end didn't look for so long.
    pub(super) fn forgive(&mut self, late: Duration) {
        self.heard_at += late;
    }

    /// Whether to ask now. What is `under_way` to the peer asks by itself.
    pub(super) fn look(&mut self, now: Instant, sample: &Sample, under_way: bool) -> bool {
        let Activity {
            received, carried, ..
        } = sample.activity;
        if received != self.received {
            self.received = received;
            self.heard_at = now;
        }
        let is_content = carried.saturating_sub(self.carried) > self.beats;
        if sample.receiving == 0 || is_content && !under_way {
            self.carried = carried;
            self.beats = 0;
            self.asked = 0;
        }
        let asks = sample.receiving > 0 && !under_way && now >= self.due(sample);
        if asks {
            self.asked = (self.asked + 1).min(DOUBLED);
        }
        asks
    }

    /// When to look again.
    pub(super) fn next(&self, now: Instant, sample: &Sample) -> Option<Instant> {
        let soon = match self.asked {
            0 => (patience(sample) / LOOKS).min(WATCH),
            _ => WATCH,
        };
        let due = Some(self.due(sample)).filter(|&due| due > now);
        (sample.receiving > 0).then(|| due.map_or(now + soon, |due| due.min(now + soon)))
    }

    fn due(&self, sample: &Sample) -> Instant {
        self.heard_at + patience(sample) * (1 << self.asked)
    }
}

fn patience(sample: &Sample) -> Duration {
    let round_trip = sample.round_trip.min(super::LONGEST_ROUND_TRIP);
    LISTEN_FOR.max(round_trip * LISTEN_FOR_ROUND_TRIPS)
}
