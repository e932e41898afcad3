//! When to ask the peer for a sign of life, and when to stop waiting for one. No clock of its own, no socket.
//!
//! TCP acknowledges what is sent, but tells it to nobody: a PING does (RFC 9113 §6.7), which HTTP/2 libraries answer by
//! themselves, as QUIC stacks acknowledge packets.

use std::time::{Duration, Instant};

use crate::liveness::Activity;
use crate::rh3::Role;
use crate::tuning::Tuning;

/// What was sent may go without anything coming back for so long before a PING asks for it. Calls that are answered sooner
/// need none.
const ASK_AFTER: Duration = Duration::from_millis(200);

/// A PING that has no answer for so long is owed one again, whatever else came meanwhile: where the peer is heard and hears
/// nothing, the system sends it again and again, as QUIC would, and tells nobody.
const OVERDUE: Duration = Duration::from_secs(1);

/// So many round trips at the least, too.
const OVERDUE_ROUND_TRIPS: u32 = 3;

/// What is known of the peer's life on one link.
#[derive(Debug)]
pub(super) struct Pulse {
    idle_timeout: Duration,
    /// How often to ask in any case. The hub asks only for what it has sent.
    keep_alive: Option<Duration>,
    seen: Activity,
    last_received: Instant,
    /// Since when something that was sent has had no sign of life after it.
    unanswered: Option<Instant>,
    /// When the PING left that has no answer yet.
    ping: Option<Instant>,
    /// When that is due the next time.
    overdue_at: Instant,
    last_ping: Option<Instant>,
    /// A sign of life is wanted that comes after what was sent so far.
    wanted: bool,
    round_trip: Option<Duration>,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Send a PING.
    Ping,
    /// The last one is still without its answer: what was sent has not arrived, as it seems.
    Overdue,
    /// Nothing before this time, unless something is sent or comes.
    Until(Instant),
    /// Nothing came for the idle timeout.
    TimedOut,
}

impl Pulse {
    /// `role` is this end's in HTTP.
    pub(super) fn new(tuning: &Tuning, role: Role, now: Instant) -> Self {
        Self {
            idle_timeout: tuning.idle_timeout,
            keep_alive: (role == Role::Server).then_some(tuning.keep_alive),
            seen: Activity::default(),
            last_received: now,
            unanswered: None,
            ping: None,
            overdue_at: now,
            last_ping: None,
            // The first one measures the round trip.
            wanted: true,
            round_trip: None,
        }
    }

    /// What to do now, where `activity` is what has come and left so far.
    pub(super) fn beat(&mut self, activity: Activity, now: Instant) -> Beat {
        if activity.received != self.seen.received {
            self.seen = activity;
            self.last_received = now;
            self.unanswered = None;
        } else if activity.sent != self.seen.sent {
            self.unanswered.get_or_insert(now);
        }
        let timeout = self.last_received + self.idle_timeout;
        if now >= timeout {
            return Beat::TimedOut;
        }
        if self.ping.is_some() {
            if now >= self.overdue_at {
                self.overdue_at = now + self.overdue();
                return Beat::Overdue;
            }
            return Beat::Until(timeout.min(self.overdue_at));
        }
        let asked = self.unanswered.map(|since| since + ASK_AFTER);
        let kept = self
            .keep_alive
            .map(|every| self.last_ping.unwrap_or(self.last_received) + every);
        match asked.into_iter().chain(kept).min() {
            _ if self.wanted => {}
            Some(due) if now < due => return Beat::Until(due.min(timeout)),
            Some(_) => {}
            None => return Beat::Until(timeout),
        }
        self.wanted = false;
        self.ping = Some(now);
        self.overdue_at = now + self.overdue();
        self.last_ping = Some(now);
        Beat::Ping
    }

    /// Whether a PING has gone without its answer for so long that what is said now will hardly be heard.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.ping.is_some_and(|sent| now >= sent + self.overdue())
    }

    fn overdue(&self) -> Duration {
        let round_trip = self.round_trip.unwrap_or_default();
        OVERDUE.max(round_trip * OVERDUE_ROUND_TRIPS)
    }

    /// The PING was answered: after what time, if there was one.
    pub(super) fn pong(&mut self, now: Instant) -> Option<Duration> {
        let sent = self.ping.take()?;
        let sample = now.saturating_duration_since(sent);
        // RFC 6298 §2, as QUIC does it.
        self.round_trip = Some(match self.round_trip {
            Some(smoothed) => (smoothed * 7 + sample) / 8,
            None => sample,
        });
        Some(sample)
    }

    /// Asks for a sign of life that can only follow what was sent so far: the next PING's. Where one is under way, it is the one
    /// after it.
    pub(super) fn ask(&mut self) {
        self.wanted = true;
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity(received: u64, sent: u64) -> Activity {
        Activity {
            received,
            sent,
            carried: 0,
        }
    }

    fn pulse(role: Role, begun: Instant) -> Pulse {
        let mut pulse = Pulse::new(&Tuning::default(), role, begun);
        assert_eq!(
            pulse.beat(activity(0, 0), begun),
            Beat::Ping,
            "the first measures"
        );
        pulse.pong(begun + Duration::from_millis(40));
        pulse
    }

    #[test]
    fn an_agent_keeps_its_way_open_and_a_hub_does_not() {
        let begun = Instant::now();
        let (mut agent, mut hub) = (pulse(Role::Server, begun), pulse(Role::Client, begun));
        let (keep, idle) = (Duration::from_secs(10), Duration::from_secs(30));
        assert_eq!(agent.beat(activity(1, 1), begun), Beat::Until(begun + keep));
        assert_eq!(agent.beat(activity(1, 1), begun + keep), Beat::Ping);
        assert_eq!(hub.beat(activity(1, 1), begun), Beat::Until(begun + idle));
        assert_eq!(hub.beat(activity(1, 1), begun + keep), Beat::Until(begun + idle));
    }

    #[test]
    fn what_was_sent_is_asked_after() {
        let begun = Instant::now();
        let mut hub = pulse(Role::Client, begun);
        hub.beat(activity(1, 1), begun);
        let sent = begun + Duration::from_secs(1);
        assert_eq!(hub.beat(activity(1, 2), sent), Beat::Until(sent + ASK_AFTER));
        assert_eq!(hub.beat(activity(1, 3), sent + ASK_AFTER), Beat::Ping);
        // One at a time.
        assert!(matches!(
            hub.beat(activity(1, 9), sent + 3 * ASK_AFTER),
            Beat::Until(_)
        ));
        hub.pong(sent + 4 * ASK_AFTER);
        let heard = sent + 4 * ASK_AFTER;
        assert!(
            matches!(hub.beat(activity(2, 9), heard), Beat::Until(_)),
            "all was answered"
        );
    }

    #[test]
    fn a_ping_without_an_answer_is_owed_one_though_something_else_comes() {
        let begun = Instant::now();
        let mut hub = pulse(Role::Client, begun);
        hub.beat(activity(1, 1), begun);
        hub.beat(activity(1, 2), begun);
        assert_eq!(hub.beat(activity(1, 2), begun + ASK_AFTER), Beat::Ping);
        let mut at = begun + ASK_AFTER;
        for received in 2..5 {
            assert_eq!(
                hub.beat(activity(received, 3), at + OVERDUE / 2),
                Beat::Until(at + OVERDUE)
            );
            at += OVERDUE;
            assert_eq!(hub.beat(activity(received, 3), at), Beat::Overdue);
        }
        hub.pong(at);
        assert!(matches!(hub.beat(activity(5, 3), at + OVERDUE), Beat::Until(_)));
    }

    #[test]
    fn who_is_answered_soon_asks_nothing() {
        let begun = Instant::now();
        let mut hub = pulse(Role::Client, begun);
        for step in 1..1000 {
            let now = begun + ASK_AFTER / 2 * step;
            let beat = hub.beat(activity(u64::from(step), u64::from(step)), now);
            assert!(matches!(beat, Beat::Until(_)), "{step}: {beat:?}");
        }
    }

    #[test]
    fn silence_ends_at_the_idle_timeout() {
        let begun = Instant::now();
        let mut hub = pulse(Role::Client, begun);
        hub.beat(activity(1, 1), begun);
        let last = begun + Duration::from_secs(30);
        assert_ne!(
            hub.beat(activity(1, 5), last - Duration::from_millis(1)),
            Beat::TimedOut
        );
        assert_eq!(hub.beat(activity(1, 5), last), Beat::TimedOut);
    }

    #[test]
    fn the_round_trip_is_smoothed() {
        let begun = Instant::now();
        let mut hub = pulse(Role::Client, begun);
        assert_eq!(hub.round_trip(), Some(Duration::from_millis(40)));
        hub.ask();
        hub.beat(activity(1, 1), begun);
        hub.pong(begun + Duration::from_millis(120));
        assert_eq!(hub.round_trip(), Some(Duration::from_millis(50)));
    }
}
