//! Whether the peer waits for the link's credit.

use std::time::{Duration, Instant};

/// What the peer says of the link's credit. It says that it has none left once for each limit (DATA_BLOCKED, RFC 9000
/// §19.12), and what it said may be about a limit that has been raised since. So when it seems to wait it is given a
/// little more, and waits only if it says so again.
#[derive(Debug)]
pub(super) enum Starved {
    /// Not since it had said so this many times, which was before the limit was last raised.
    No { said: u64 },
    /// It was given a little more at this time; it had said so this many times.
    Asked { said: u64, at: Instant },
    /// It is, until something is done about it.
    Yes,
}

impl Starved {
    /// Nothing is known of the present limit; `said` counts what was said of earlier ones.
    pub(super) fn unknown(said: u64) -> Self {
        Self::No { said }
    }

    /// The peer is given a little more now. By this time it has said `said` times that it waits.
    pub(super) fn ask(&mut self, said: u64, now: Instant) {
        *self = Self::Asked { said, at: now };
    }

    /// Looks how often the peer has said that it waits: `said` times by now. No answer is faster than `rtt`.
    pub(super) fn look(&mut self, said: u64, now: Instant, rtt: Duration) {
        match self {
            Self::No { said: before } if said > *before => self.ask(said, now),
            Self::Asked { said: before, at } if said > *before => {
                if now.duration_since(*at) < rtt {
                    // That was about an earlier limit.
                    *before = said;
                } else {
                    *self = Self::Yes;
                }
            }
            _ => {}
        }
    }

    pub(super) fn is_asked(&self) -> bool {
        matches!(self, Self::Asked { .. })
    }

    pub(super) fn is_so(&self) -> bool {
        matches!(self, Self::Yes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Starved;

    const RTT: Duration = Duration::from_millis(100);

    #[test]
    fn a_peer_waits_when_it_says_so_again_with_a_little_more() {
        let begun = Instant::now();
        let mut starved = Starved::unknown(7);
        starved.look(7, begun, RTT);
        assert!(!starved.is_asked() && !starved.is_so());
        starved.look(8, begun, RTT);
        assert!(starved.is_asked() && !starved.is_so());
        starved.look(8, begun + 9 * RTT, RTT);
        assert!(starved.is_asked() && !starved.is_so());
        starved.look(9, begun + 9 * RTT, RTT);
        assert!(starved.is_so());
        // It does so until something is done about it.
        starved.look(9, begun + 10 * RTT, RTT);
        assert!(starved.is_so());
        starved.ask(9, begun + 10 * RTT);
        assert!(!starved.is_so());
    }

    #[test]
    fn what_comes_before_an_answer_can_is_about_an_earlier_limit() {
        let begun = Instant::now();
        let mut starved = Starved::unknown(0);
        starved.look(1, begun, RTT);
        starved.look(3, begun + RTT / 2, RTT);
        starved.look(3, begun + 2 * RTT, RTT);
        assert!(starved.is_asked());
        starved.look(4, begun + 2 * RTT, RTT);
        assert!(starved.is_so());
    }
}
