//! What was sent last and is lost is missed soon.
//!
//! QUIC takes a packet for lost when a later one is acknowledged (RFC 9002 §6.1). After the last one there is none: a timeout
//! finds it (§6.2), more than a round trip later, and quinn's probe is then a PING, so that what was lost follows only after another
//! round trip. A link that carries few calls has nothing but last packets. So where a path may lose packets, what was sent last is
//! followed, a fraction of a round trip later, by a frame that means nothing: its acknowledgement tells what became of both.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quinn::Connection;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::activity;

/// A path that has not lost any of so many packets is taken for one that loses none, until it does.
const CLEAN_AFTER: u64 = 2000;

/// How often such a path is looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// What follows leaves after so much of a round trip: late enough for its acknowledgement to mean that the rest is lost
/// (RFC 9002 §6.1.2 waits for an eighth), and soon enough to be worth it.
const AFTER: f64 = 0.2;

/// With a shorter round trip a timeout is soon enough.
const SHORTEST_ROUND_TRIP: Duration = Duration::from_millis(10);

/// Knows whether a link has sent something that nothing follows.
#[derive(Debug, Default)]
pub(super) struct Tail {
    written: Notify,
    /// Nobody has to be told of what is written now.
    watched: AtomicBool,
}

impl Tail {
    /// Something of a call was written.
    pub(super) fn written(&self) {
        if !self.watched.load(Ordering::Relaxed) {
            self.written.notify_one();
        }
    }

    /// Watches a link for ever, and tells `follow` whenever something had better follow what was sent.
    pub(super) async fn watch(&self, connection: &Connection, follow: &Notify) -> Infallible {
        let mut losses = Losses::default();
        loop {
            self.watched.store(false, Ordering::Relaxed);
            self.written.notified().await;
            self.watched.store(true, Ordering::Relaxed);
            let round_trip = connection.rtt();
            if round_trip < SHORTEST_ROUND_TRIP || !losses.may_come(connection) {
                sleep(LOOK).await;
                continue;
            }
            let mut sent = activity(connection).sent;
            loop {
                sleep(round_trip.mul_f64(AFTER)).await;
                let before = std::mem::replace(&mut sent, activity(connection).sent);
                if sent == before {
                    break;
                }
            }
            follow.notify_one();
        }
    }
}

/// What a path has lost.
#[derive(Debug, Default)]
struct Losses {
    seen: u64,
    /// How many packets had been sent when it was last seen to have lost one.
    sent: u64,
}

impl Losses {
    fn may_come(&mut self, connection: &Connection) -> bool {
        let path = connection.stats().path;
        if path.lost_packets > self.seen {
            (self.seen, self.sent) = (path.lost_packets, path.sent_packets);
        }
        path.sent_packets.saturating_sub(self.sent) < CLEAN_AFTER
    }
}
