//! How fast a path delivers, measured at each acknowledgement (draft-ietf-ccwg-bbr, "Delivery Rate Samples").

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Moments of sending that are remembered at the most: 2 s of them. Older ones give no sample.
const REMEMBERED: usize = 4096;

/// Packets that are sent within this of each other count as sent at one moment.
const MOMENT: Duration = Duration::from_micros(500);

/// Rates are remembered for so many round trips,
const ROUNDS: usize = 8;

/// and for so few when the queue says that the older ones are too high.
const ROUNDS_IN_DOUBT: usize = 2;

/// Round trips that are shorter than this count as one: what the ends themselves do takes as long.
const SHORTEST_ROUND: Duration = Duration::from_millis(10);

/// What was sent and delivered so far.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// Bytes.
    delivered: u64,
    /// When that was last changed,
    delivered_at: Instant,
    /// and when the packet was sent that did so.
    first_sent_at: Instant,
    /// As much has to be delivered until samples are no longer held down by what there was to send.
    app_limited_until: u64,
    idle: bool,
    sent: VecDeque<Sent>,
    /// Since the last batch of acknowledgements was over.
    acked: u64,
}

/// One moment at which packets were sent, and what was known then.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    app_limited: bool,
}

/// What one acknowledged packet says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Bytes a second.
    pub(super) rate: f64,
    /// There was not always something to send: the path may be faster.
    pub(super) app_limited: bool,
    /// What had been delivered when the packet was sent.
    pub(super) delivered_before: u64,
}

impl Delivery {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            delivered: 0,
            delivered_at: now,
            first_sent_at: now,
            app_limited_until: 0,
            idle: true,
            sent: VecDeque::new(),
            acked: 0,
        }
    }

    /// Bytes that were delivered so far.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) fn sent(&mut self, now: Instant, bytes: u64) {
        if bytes == 0 {
            return;
        }
        if std::mem::take(&mut self.idle) {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        if self
            .sent
            .back()
            .is_some_and(|last| now.saturating_duration_since(last.at) < MOMENT)
        {
            return;
        }
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent {
            at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            app_limited: self.app_limited_until > self.delivered,
        });
    }

    pub(super) fn acked(&mut self, now: Instant, sent: Instant, bytes: u64) -> Option<Sample> {
        self.delivered += bytes;
        self.delivered_at = now;
        self.acked += bytes;
        let index = self
            .sent
            .partition_point(|moment| moment.at <= sent)
            .checked_sub(1)?;
        let sent = self.sent[index];
        // Newer ones come next; those that were lost have gone by.
        self.sent.drain(..index);
        self.first_sent_at = sent.at;
        let sending = sent.at.saturating_duration_since(sent.first_sent_at);
        let arriving = now.saturating_duration_since(sent.delivered_at);
        let span = sending.max(arriving).max(Duration::from_micros(1));
        Some(Sample {
            rate: (self.delivered - sent.delivered) as f64 / span.as_secs_f64(),
            app_limited: sent.app_limited,
            delivered_before: sent.delivered,
        })
    }

    /// A batch of acknowledgements is over: how many bytes it was.
    pub(super) fn end_acks(&mut self, in_flight: u64, app_limited: bool) -> u64 {
        if app_limited {
            self.app_limited_until = self.delivered + in_flight.max(1);
        }
        self.idle = in_flight == 0;
        std::mem::take(&mut self.acked)
    }
}

/// The highest rate of the last round trips in which there was always something to send.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MaxRate {
    /// The highest of each round, this one first.
    rounds: [f64; ROUNDS],
    round_began: Option<Instant>,
}

impl MaxRate {
    pub(super) fn add(&mut self, rate: f64, app_limited: bool) {
        if !app_limited || self.get().is_none_or(|highest| rate > highest) {
            self.rounds[0] = self.rounds[0].max(rate);
        }
    }

    /// Bytes a second, once there is any sample.
    pub(super) fn get(&self) -> Option<f64> {
        let highest = self.rounds.iter().copied().fold(0.0, f64::max);
        (highest > 0.0).then_some(highest)
    }

    /// A round trip is over. One in which there was not always something to send makes nothing older.
    pub(super) fn end_round(&mut self, now: Instant) {
        let began = *self.round_began.get_or_insert(now);
        if self.rounds[0] == 0.0 || now.saturating_duration_since(began) < SHORTEST_ROUND {
            return;
        }
        self.round_began = Some(now);
        self.rounds.rotate_right(1);
        self.rounds[0] = 0.0;
    }

    /// Forgets all but the latest round trips: the path does not bear out the others.
    pub(super) fn doubt(&mut self) {
        self.rounds[ROUNDS_IN_DOUBT + 1..].fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    const PACKET: u64 = 1000;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Sends a packet each of these milliseconds, which are acknowledged `round_trip` later.
    fn rates(sent: impl Iterator<Item = u64> + Clone, round_trip: u64, app_limited: bool) -> Vec<Sample> {
        let start = Instant::now();
        let mut delivery = Delivery::new(start);
        let mut events: Vec<_> = sent.clone().map(|at| (at, true, at)).collect();
        events.extend(sent.map(|at| (at + round_trip, false, at)));
        events.sort_unstable();
        let (mut samples, mut in_flight) = (Vec::new(), 0);
        for (now, is_sent, at) in events {
            let (now, at) = (start + ms(now), start + ms(at));
            if is_sent {
                delivery.sent(now, PACKET);
                in_flight += PACKET;
            } else {
                in_flight -= PACKET;
                samples.extend(delivery.acked(now, at, PACKET));
                assert_eq!(delivery.end_acks(in_flight, app_limited), PACKET);
            }
        }
        samples
    }

    #[test]
    fn a_steady_sender_is_measured_once_a_round_trip_has_passed() {
        let samples = rates(0..1000, 50, false);
        assert_eq!(samples.len(), 1000);
        let settled = &samples[100..];
        assert!(
            settled.iter().all(|sample| (sample.rate - 1e6).abs() < 1e5),
            "{settled:?}"
        );
        assert!(settled.iter().all(|sample| !sample.app_limited));
    }

    #[test]
    fn acknowledgements_that_come_together_are_not_taken_for_speed() {
        let start = Instant::now();
        let mut delivery = Delivery::new(start);
        for at in 0..200 {
            delivery.sent(start + ms(at), PACKET);
        }
        // All of them at one moment, as from a peer that stood still.
        let rates: Vec<_> = (0..200)
            .filter_map(|at| delivery.acked(start + ms(250), start + ms(at), PACKET))
            .map(|sample| sample.rate)
            .collect();
        assert!(rates.iter().all(|&rate| rate < 1.1e6), "{rates:?}");
    }

    #[test]
    fn what_there_was_to_send_bounds_a_sample_and_it_says_so() {
        let samples = rates((0..50).map(|call| call * 100), 40, true);
        assert!(samples[1..].iter().all(|sample| sample.app_limited));
        // A packet after a pause is not measured from before the pause.
        assert!(samples.iter().all(|sample| sample.rate > 20_000.0), "{samples:?}");
    }

    #[test]
    fn an_acknowledgement_of_what_is_forgotten_gives_no_sample() {
        let start = Instant::now();
        let mut delivery = Delivery::new(start);
        for at in 0..2 * REMEMBERED as u64 {
            delivery.sent(start + ms(at), PACKET);
        }
        assert_eq!(delivery.sent.len(), REMEMBERED);
        assert!(delivery.acked(start + ms(200_000), start, PACKET).is_none());
        assert!(
            delivery
                .acked(start + ms(200_000), start + ms(100_000), PACKET)
                .is_some()
        );
        assert_eq!(delivery.delivered(), 2 * PACKET);
    }

    #[test]
    fn the_highest_rate_is_forgotten_after_some_rounds_or_few_in_doubt() {
        let start = Instant::now();
        let round = |number: u64| start + ms(20 * number);
        let mut rate = MaxRate::default();
        assert_eq!(rate.get(), None);
        rate.add(100.0, false);
        rate.end_round(round(0));
        for number in 1..ROUNDS as u64 {
            assert_eq!(rate.get(), Some(100.0), "{number}");
            rate.add(50.0, false);
            // Less, for want of something to send.
            rate.add(10.0, true);
            rate.end_round(round(number));
        }
        rate.add(50.0, false);
        rate.end_round(round(ROUNDS as u64));
        assert_eq!(rate.get(), Some(50.0));

        rate.add(70.0, true);
        assert_eq!(rate.get(), Some(70.0), "more than was known is known now");
        for number in 10..13 {
            rate.end_round(round(number));
            rate.add(20.0, false);
        }
        assert_eq!(rate.get(), Some(70.0));
        rate.doubt();
        assert_eq!(rate.get(), Some(20.0));
        // Rounds in which nothing was measured make nothing older, and neither do very short ones.
        rate.end_round(round(13));
        for _ in 0..100 {
            rate.end_round(round(14));
        }
        assert_eq!(rate.get(), Some(20.0));
    }
}
