//! What changes among the links between two looks at them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::member::State;
use crate::offer::Offer;

/// A round trip that moved by less is as good as the one before: it moves with every packet.
const ROUND_TRIP_STEP: Duration = Duration::from_millis(1);

/// What can change of a link, at one moment.
#[derive(Clone, Debug)]
pub(super) struct Now {
    pub(super) state: State,
    pub(super) address: SocketAddr,
    pub(super) offer: Arc<Offer>,
    pub(super) round_trip: Duration,
    pub(super) calls_in_flight: usize,
    pub(super) calls: u64,
}

/// The links as they were told, by their keys.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<u64, Now>);

/// What has to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// The places, in what was looked at, of links that are new or have changed; in order.
    pub(super) changed: Vec<usize>,
    /// The keys of links that are no more, in order.
    pub(super) ended: Vec<u64>,
}

impl Told {
    /// Says what has changed, and takes it as told.
    pub(super) fn update<'a>(&mut self, links: impl Iterator<Item = (u64, &'a Now)>) -> Changes {
        let mut changes = Changes::default();
        let mut told = HashMap::with_capacity(self.0.len());
        for (place, (key, now)) in links.enumerate() {
            let before = self.0.remove(&key).filter(|before| !before.differs(now));
            // What was told stays: many small steps of a round trip make one that counts.
            told.insert(
                key,
                before.unwrap_or_else(|| {
                    changes.changed.push(place);
                    now.clone()
                }),
            );
        }
        changes.ended = self.0.keys().copied().collect();
        changes.ended.sort_unstable();
        self.0 = told;
        changes
    }
}

impl Now {
    fn differs(&self, later: &Self) -> bool {
        let moved = self.round_trip.abs_diff(later.round_trip);
        self.state != later.state
            || self.address != later.address
            || !Arc::ptr_eq(&self.offer, &later.offer)
            || self.calls_in_flight != later.calls_in_flight
            || self.calls != later.calls
            || moved >= ROUND_TRIP_STEP.max(self.round_trip / 4)
    }
}

#[cfg(test)]
mod tests;
