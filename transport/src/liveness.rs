//! Whether a link is alive: when to probe it, when to spare it new calls, when to give it up.
//!
//! A state machine without a clock, a socket or a runtime. Whoever holds an end of a link drives it: looks at the link
//! with [`Liveness::check`] when the last [`Verdict`] said so, sends the heartbeats that it asks for, and tells it what
//! comes back. Both ends run the same, the agent with a longer interval, so that it seldom probes a hub that does.
//!
//! Two signs are told apart. *Packets*: QUIC acknowledges whatever is sent, so a link on which something was sent, and
//! nothing came back, is in doubt within a second. *Answers*: a heartbeat takes the way of calls, through both
//! processes, so a peer whose packets go on arriving, but whose answer doesn't, stands still; unless its calls go on, and
//! the answer is only late because there are so many of them.

mod listening;

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use listening::Listening;
pub use listening::{LISTEN_FOR, LISTEN_FOR_ROUND_TRIPS};

/// So long at the least may something that was sent go unacknowledged before the link is suspect.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(1);

/// So many round trips at the least, too.
pub const SUSPECT_AFTER_ROUND_TRIPS: u32 = 6;

/// A link that carries calls, and on which nothing is sent and nothing comes, is probed after so long: often enough to
/// find it dead in time, seldom enough that many quiet streams cost little.
pub const QUIET_PROBE: Duration = Duration::from_millis(2500);

/// A link is dead after so long at the least without a sign of life that is owed: since the last one where it carries
/// calls, since something was sent where it doesn't.
pub const DEAD_AFTER: Duration = Duration::from_millis(4500);

/// So many round trips at the least, too.
pub const DEAD_AFTER_ROUND_TRIPS: u32 = 12;

/// A peer that doesn't answer a heartbeat for so long, and carries nothing of any call, is dead, whatever else arrives.
pub const UNRESPONSIVE_AFTER: Duration = Duration::from_secs(30);

/// A longer round trip counts as this one: a peer that delays its acknowledgements cannot put off its death for ever.
pub const LONGEST_ROUND_TRIP: Duration = Duration::from_millis(2500);

/// The longest interval between heartbeats.
pub const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

/// A link in use is looked at so often, and what it received is known no more closely than that.
///
/// With [`DEAD_AFTER`] that makes 4.9 s, from the last packet of a link with calls, or the heartbeat of one without, to
/// its end.
pub const WATCH: Duration = Duration::from_millis(400);

/// How far a heartbeat may be from its interval, so that many links do not beat together.
const JITTER: f64 = 0.2;

/// What a link has received and sent so far. All of it only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Frames that came in authenticated packets: nobody but the peer can have sent them.
    pub received: u64,
    /// Frames sent that the peer has to acknowledge.
    pub sent: u64,
    /// Those of the frames received that a peer doesn't send for long once its process stands still: content of streams, and
    /// credit for what was read of them.
    pub carried: u64,
}

/// A look at a link.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// What it has received and sent.
    pub activity: Activity,
    /// Its smoothed round-trip time.
    pub round_trip: Duration,
    /// How many calls run on it. The control call isn't one.
    pub calls: usize,
    /// How many of them may still receive something, at the end whose address a NAT may change behind its back. Always none
    /// at the hub: no packet of its own finds an agent whose address has changed.
    pub receiving: usize,
}

/// What to do with a link.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// Send a heartbeat with this sequence number now. There is one at a time that isn't answered.
    pub heartbeat: Option<u64>,
    /// Nothing came back for what was sent, for longer than it takes: new calls had better go elsewhere.
    pub suspect: bool,
    /// The link is to be closed.
    pub dead: Option<Dead>,
    /// When to look again at the latest, as long as the number of calls doesn't rise from none: look at once then.
    pub check_at: Instant,
}

/// Why a link is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dead {
    /// Nothing arrives.
    #[error("nothing was received for {:.1} s with {calls} calls running, probed by a heartbeat", .silence.as_secs_f64())]
    Silent {
        /// For how long, since the peer had to give a sign of life.
        silence: Duration,
        /// Calls that ran at the end.
        calls: usize,
    },
    /// Packets arrive, and answers don't: the peer's process stands still.
    #[error(
        "the peer did not answer heartbeat {sequence}, nor carry on with a call, for {:.1} s, though its packets arrive",
        .waited.as_secs_f64()
    )]
    Unresponsive {
        /// The heartbeat.
        sequence: u64,
        /// For how long.
        waited: Duration,
    },
}

/// What is known of one link's life.
#[derive(Debug)]
pub struct Liveness {
    interval: Duration,
    jitter: SmallRng,
    /// What had been received at the last check, and sent when the peer was last seen to be alive.
    seen: Activity,
    /// Since when something has gone unacknowledged: until then all that was sent had been followed by a sign of life.
    unacknowledged: Option<Instant>,
    /// Since when a sign of life is owed: there are calls, or something was sent.
    owed: Option<Instant>,
    unanswered: Option<Heartbeat>,
    listening: Listening,
    /// The last heartbeat's number.
    sequence: u64,
    /// When the next heartbeat is due.
    heartbeat_at: Instant,
    check_at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Heartbeat {
    sequence: u64,
    /// Since when nothing has shown that the peer's process goes on: when this was sent, or something was carried later.
    waiting_since: Instant,
}

impl Liveness {
    /// A link that has just been made. Its peer is probed every `interval` (at the most [`LONGEST_INTERVAL`]), give or
    /// take a fifth; `seed` decides how much, and had better be random.
    pub fn new(interval: Duration, seed: u64, now: Instant) -> Self {
        let mut new = Self {
            interval: interval.min(LONGEST_INTERVAL),
            jitter: SmallRng::seed_from_u64(seed),
            seen: Activity::default(),
            unacknowledged: None,
            owed: None,
            unanswered: None,
            listening: Listening::new(now),
            sequence: 0,
            heartbeat_at: now,
            check_at: now,
        };
        new.put_heartbeat_off(now);
        new.check_at = new.heartbeat_at;
        new
    }

    /// The peer answered the heartbeat `sequence`.
    ///
    /// Another number than the last heartbeat's answers nothing, and is a sign of life all the same.
    pub fn answered(&mut self, now: Instant, sequence: u64) {
        if self
            .unanswered
            .is_some_and(|heartbeat| heartbeat.sequence == sequence)
        {
            self.unanswered = None;
            self.put_heartbeat_off(now);
        }
        self.listening.beat();
        self.alive();
    }

    /// The peer sent a heartbeat of its own: this end needn't soon.
    pub fn heard(&mut self, now: Instant) {
        self.listening.beat();
        self.alive();
        self.put_heartbeat_off(now);
    }

    /// Judges the link by a look at it.
    pub fn check(&mut self, now: Instant, sample: &Sample) -> Verdict {
        let late = now.saturating_duration_since(self.check_at);
        if late > WATCH {
            self.forgive(late);
        }
        if sample.activity.carried != self.seen.carried
            && let Some(heartbeat) = &mut self.unanswered
        {
            heartbeat.waiting_since = now;
        }
        if sample.activity.received != self.seen.received {
            self.seen = sample.activity;
            self.alive();
        } else if sample.activity.sent != self.seen.sent {
            self.unacknowledged.get_or_insert(now);
        }
        if sample.calls > 0 || self.unacknowledged.is_some() || self.unanswered.is_some() {
            self.owed.get_or_insert(now);
        } else {
            self.owed = None;
        }

        let limits = Limits::of(sample);
        let suspect = self
            .unacknowledged
            .is_some_and(|since| now >= since + limits.suspect);
        let dead = self.dead(now, sample.calls, &limits);
        let quiet = sample.calls > 0 && self.owed.is_some_and(|since| now >= since + QUIET_PROBE);
        let under_way = self.unacknowledged.is_some() || self.unanswered.is_some();
        let unheard = self.listening.look(now, sample, under_way);
        let due = suspect || quiet || unheard || now >= self.heartbeat_at;
        let heartbeat = (due && dead.is_none() && self.unanswered.is_none()).then(|| self.send(now));

        self.check_at = self.next(now, sample, suspect, &limits);
        Verdict {
            heartbeat,
            suspect,
            dead,
            check_at: self.check_at,
        }
    }

    fn alive(&mut self) {
        self.unacknowledged = None;
        self.owed = None;
    }

    /// This end stood still, and didn't look: what may have come meanwhile is still to be seen, and the time isn't the
    /// peer's fault.
    fn forgive(&mut self, late: Duration) {
        let waiting = self.unanswered.as_mut();
        let waiting = waiting.map(|heartbeat| &mut heartbeat.waiting_since);
        self.listening.forgive(late);
        let all = [self.unacknowledged.as_mut(), self.owed.as_mut(), waiting];
        for since in all.into_iter().flatten() {
            *since += late;
        }
    }

    fn dead(&self, now: Instant, calls: usize, limits: &Limits) -> Option<Dead> {
        if let Some(Heartbeat {
            sequence,
            waiting_since,
        }) = self.unanswered
            && now >= waiting_since + limits.unresponsive
        {
            let waited = now.saturating_duration_since(waiting_since);
            return Some(Dead::Unresponsive { sequence, waited });
        }
        let silence = now.saturating_duration_since(self.silent_since(calls)?);
        (silence >= limits.dead).then_some(Dead::Silent { silence, calls })
    }

    /// Since when the peer should have given a sign of life. Nothing has to come where nothing was sent; calls that
    /// have heard nothing for long have no patience to begin anew when something is.
    fn silent_since(&self, calls: usize) -> Option<Instant> {
        let asked = self.unacknowledged?;
        let owed = self.owed?;
        Some(if calls > 0 { owed } else { owed.max(asked) })
    }

    fn send(&mut self, now: Instant) -> u64 {
        self.sequence += 1;
        self.unanswered = Some(Heartbeat {
            sequence: self.sequence,
            waiting_since: now,
        });
        // That it is sent, and so has to be acknowledged, is seen by the next look: where calls have used up all of the
        // credit that they share with it, it waits here, and the silence says nothing of the peer.
        self.owed.get_or_insert(now);
        self.sequence
    }

    /// When something can change next.
    fn next(&self, now: Instant, sample: &Sample, suspect: bool, limits: &Limits) -> Instant {
        let heartbeat = match self.unanswered {
            Some(heartbeat) => heartbeat.waiting_since + limits.unresponsive,
            None => self.heartbeat_at,
        };
        let watch = self.owed.map(|_| now + WATCH);
        let suspicion = self.unacknowledged.filter(|_| !suspect);
        let suspicion = suspicion.map(|since| since + limits.suspect);
        let death = self.silent_since(sample.calls).map(|since| since + limits.dead);
        let unheard = self.listening.next(now, sample);
        let all = [Some(heartbeat), watch, suspicion, death, unheard];
        all.into_iter().flatten().min().unwrap_or(now + WATCH)
    }

    fn put_heartbeat_off(&mut self, now: Instant) {
        let factor = self.jitter.random_range(1.0 - JITTER..=1.0 + JITTER);
        self.heartbeat_at = now + self.interval.mul_f64(factor);
    }
}

/// What a link is given, with its round-trip time and its calls.
struct Limits {
    suspect: Duration,
    dead: Duration,
    unresponsive: Duration,
}

impl Limits {
    fn of(sample: &Sample) -> Self {
        let round_trip = sample.round_trip.min(LONGEST_ROUND_TRIP);
        Self {
            suspect: SUSPECT_AFTER.max(round_trip * SUSPECT_AFTER_ROUND_TRIPS),
            dead: DEAD_AFTER.max(round_trip * DEAD_AFTER_ROUND_TRIPS),
            unresponsive: UNRESPONSIVE_AFTER.max(round_trip * DEAD_AFTER_ROUND_TRIPS),
        }
    }
}

#[cfg(test)]
mod tests;
