//! What a link does to packets, in one direction and in virtual time: no device, no clock.
//!
//! A packet waits for the bottleneck (a queue that has an end, before a sender of a certain rate), may be lost on the wire
//! behind it, and arrives after the delay. Which packets are lost, late or out of order is decided by seeded dice, one kind
//! of misfortune independent of the other: more jitter loses no other packets.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// Packets on the wire; further ones are lost, so that memory has a bound where there is neither rate nor queue.
const ON_THE_WIRE: usize = 200_000;

/// A moment of a link's time: since it was made.
pub(crate) type Moment = Duration;

/// How a link treats packets in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Conditions {
    /// From the end of the bottleneck to the other side.
    pub(crate) delay: Duration,
    /// Up to so much is added, evenly spread. It changes the order of no packets.
    pub(crate) jitter: Duration,
    pub(crate) loss: Loss,
    /// Bits a second; without it there is no bottleneck, and no queue.
    pub(crate) rate: Option<u64>,
    /// What waits for the bottleneck at the most.
    pub(crate) queue: Queue,
    pub(crate) reordering: Reordering,
}

/// Which packets are lost: the model of Gilbert and Elliott, of a good and a bad state with a share of loss each.
///
/// Where both shares are the same, every packet is lost with that probability, whatever became of the others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Loss {
    /// Of packets in the good state.
    pub(crate) good: f64,
    /// Of packets in the bad state.
    pub(crate) bad: f64,
    /// The probability that a packet turns good to bad,
    pub(crate) worsens: f64,
    /// and bad to good.
    pub(crate) mends: f64,
}

/// The bound of a queue, without the packet that is being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Queue {
    Packets(usize),
    Bytes(usize),
}

/// Packets that are held back while later ones overtake them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reordering {
    /// The share of packets.
    pub(crate) share: f64,
    /// For how long.
    pub(crate) held_back: Duration,
}

/// What became of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// That came from the sender, and their bytes.
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) delivered: u64,
    /// On the wire.
    pub(crate) lost: u64,
    /// Because the queue was full.
    pub(crate) overflowed: u64,
}

/// One direction of a link.
#[derive(Debug)]
pub(crate) struct Direction<P> {
    conditions: Conditions,
    dice: Dice,
    bad: bool,
    /// When the bottleneck has sent what it has, and what that is: the end of each packet's sending, and its bytes.
    free_at: Moment,
    waiting: VecDeque<(Moment, usize)>,
    waiting_bytes: usize,
    wire: BinaryHeap<Reverse<InFlight<P>>>,
    number: u64,
    last_due: Moment,
    counts: Counts,
}

#[derive(Debug)]
struct Dice {
    loss: StdRng,
    jitter: StdRng,
    reordering: StdRng,
}

#[derive(Debug)]
struct InFlight<P> {
    due: Moment,
    number: u64,
    packet: P,
}

impl Loss {
    /// Each packet is lost with this probability.
    pub(crate) fn random(share: f64) -> Self {
        Self {
            good: share,
            bad: share,
            worsens: 0.0,
            mends: 1.0,
        }
    }

    /// So many are lost in the mean, in runs of so many in the mean, and nothing between them.
    pub(crate) fn bursts(share: f64, length: f64) -> Self {
        let mends = 1.0 / length;
        Self {
            good: 0.0,
            bad: 1.0,
            worsens: (mends * share / (1.0 - share)).min(1.0),
            mends,
        }
    }
}

impl Conditions {
    /// A link that delays, and does nothing else.
    #[cfg(test)]
    pub(crate) fn clean(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            loss: Loss::random(0.0),
            rate: None,
            queue: Queue::Packets(1000),
            reordering: Reordering {
                share: 0.0,
                held_back: Duration::ZERO,
            },
        }
    }
}

impl<P> Direction<P> {
    /// `seed` decides which packets have bad luck.
    pub(crate) fn new(conditions: Conditions, seed: u64) -> Self {
        let mut seeds = StdRng::seed_from_u64(seed);
        let mut dice = || StdRng::seed_from_u64(seeds.random());
        Self {
            conditions,
            dice: Dice {
                loss: dice(),
                jitter: dice(),
                reordering: dice(),
            },
            bad: false,
            free_at: Moment::ZERO,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            wire: BinaryHeap::new(),
            number: 0,
            last_due: Moment::ZERO,
            counts: Counts::default(),
        }
    }

    /// A packet of so many bytes comes from the sender. Moments never go back.
    pub(crate) fn push(&mut self, now: Moment, bytes: usize, packet: P) {
        self.counts.sent += 1;
        self.counts.sent_bytes += bytes as u64;
        let Some(sent_at) = self.pass_bottleneck(now, bytes) else {
            self.counts.overflowed += 1;
            return;
        };
        if self.is_lost() || self.wire.len() >= ON_THE_WIRE {
            self.counts.lost += 1;
            return;
        }
        let due = self.due(sent_at);
        self.number += 1;
        self.wire.push(Reverse(InFlight {
            due,
            number: self.number,
            packet,
        }));
    }

    /// When the next packet arrives.
    pub(crate) fn next_due(&self) -> Option<Moment> {
        self.wire.peek().map(|Reverse(next)| next.due)
    }

    /// The next packet that has arrived by now, and when it did.
    pub(crate) fn pop(&mut self, now: Moment) -> Option<(Moment, P)> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse(arrived) = self.wire.pop()?;
        self.counts.delivered += 1;
        Some((arrived.due, arrived.packet))
    }

    /// What became of packets so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// When the bottleneck has sent the packet, if there is room for it before.
    fn pass_bottleneck(&mut self, now: Moment, bytes: usize) -> Option<Moment> {
        let Some(rate) = self.conditions.rate else {
            return Some(now);
        };
        while let Some((_, sent)) = self.waiting.pop_front_if(|(sent_at, _)| *sent_at <= now) {
            self.waiting_bytes -= sent;
        }
        // The first of them is being sent, and waits no more.
        let being_sent = self.waiting.front().map_or(0, |(_, bytes)| *bytes);
        let full = !self.waiting.is_empty()
            && match self.conditions.queue {
                Queue::Packets(most) => self.waiting.len() > most,
                Queue::Bytes(most) => self.waiting_bytes - being_sent + bytes > most,
            };
        if full {
            return None;
        }
        self.free_at = self.free_at.max(now) + sending(bytes, rate);
        self.waiting.push_back((self.free_at, bytes));
        self.waiting_bytes += bytes;
        Some(self.free_at)
    }

    fn is_lost(&mut self) -> bool {
        let Loss {
            good,
            bad,
            worsens,
            mends,
        } = self.conditions.loss;
        let turns = if self.bad { mends } else { worsens };
        self.bad ^= self.dice.loss.random_bool(turns);
        self.dice.loss.random_bool(if self.bad { bad } else { good })
    }

    fn due(&mut self, sent_at: Moment) -> Moment {
        let Conditions {
            delay,
            jitter,
            reordering,
            ..
        } = self.conditions;
        let jitter = jitter.mul_f64(self.dice.jitter.random::<f64>());
        let in_order = (sent_at + delay + jitter).max(self.last_due);
        if self.dice.reordering.random_bool(reordering.share) {
            return in_order + reordering.held_back;
        }
        self.last_due = in_order;
        in_order
    }
}

/// How long so many bytes take at this rate.
fn sending(bytes: usize, bits_a_second: u64) -> Duration {
    let nanoseconds = bytes as u128 * 8 * 1_000_000_000 / u128::from(bits_a_second.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

impl<P> Ord for InFlight<P> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl<P> PartialOrd for InFlight<P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> PartialEq for InFlight<P> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<P> Eq for InFlight<P> {}

#[cfg(test)]
mod tests;
