//! The choice among links that are equal: of two random ones, the one on which a call waits less.
//!
//! Two random picks keep the load even without asking everybody, and without everybody rushing to the one that is
//! free now (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing").

use std::sync::Arc;
use std::time::Instant;

use crate::directory::Links;
use crate::member::{Member, State};
use crate::offer::Suits;

/// Among more links than this, random ones are looked at first, and all of them only when none of these will do.
const FEW: usize = 16;

/// How much a link is wanted for a call. What comes first weighs more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// It may have the service.
    fit: bool,
    /// Nothing says that the link is dead.
    ready: bool,
    suits: Suits,
}

/// From here on a link is good enough not to look at all others for a better one.
const GOOD: Rank = Rank {
    fit: true,
    ready: true,
    suits: Suits::Perhaps,
};

/// Two random ones of the links that rank highest of those seen.
#[derive(Debug)]
struct Draw<'a, L> {
    rank: Option<Rank>,
    seen: usize,
    first: Option<&'a Arc<Member<L>>>,
    second: Option<&'a Arc<Member<L>>>,
}

/// The link that a call for `service` goes to, of those that take calls and are `meant`.
pub(crate) fn pick<L>(
    links: &Links<L>,
    service: &str,
    meant: impl Fn(&Member<L>) -> bool,
) -> Option<Arc<Member<L>>> {
    let rank = |member: &Member<L>| match member.state() {
        State::Draining => None,
        _ if !meant(member) => None,
        state => {
            let suits = member.suits(service);
            Some(Rank {
                fit: suits > Suits::Badly,
                ready: state == State::Ready,
                suits,
            })
        }
    };
    if links.len() > FEW {
        let mut draw = Draw::new();
        for _ in 0..FEW {
            let random = links.get_index(rand::random_range(0..links.len()));
            if let Some((_, member)) = random
                && let Some(rank) = rank(member)
            {
                draw.add(member, rank);
                if draw.rank > Some(GOOD) && draw.second.is_some() {
                    break;
                }
            }
        }
        if draw.rank >= Some(GOOD) {
            return draw.lighter();
        }
    }
    let mut draw = Draw::new();
    for member in links.values() {
        if let Some(rank) = rank(member) {
            draw.add(member, rank);
        }
    }
    draw.lighter()
}

impl<'a, L> Draw<'a, L> {
    fn new() -> Self {
        Self {
            rank: None,
            seen: 0,
            first: None,
            second: None,
        }
    }

    fn add(&mut self, member: &'a Arc<Member<L>>, rank: Rank) {
        if Some(rank) < self.rank {
            return;
        }
        if Some(rank) > self.rank {
            *self = Self {
                rank: Some(rank),
                ..Self::new()
            };
        }
        // Each of those seen so far stays with the same chance (reservoir sampling).
        self.seen += 1;
        match (self.first, self.second) {
            (None, _) => self.first = Some(member),
            // Random picks may meet the same link twice.
            (Some(first), _) if Arc::ptr_eq(first, member) => {}
            (Some(_), None) => self.second = Some(member),
            (Some(_), Some(_)) => match rand::random_range(0..self.seen) {
                0 => self.first = Some(member),
                1 => self.second = Some(member),
                _ => {}
            },
        }
    }

    fn lighter(self) -> Option<Arc<Member<L>>> {
        let first = self.first?;
        let Some(second) = self.second else {
            return Some(Arc::clone(first));
        };
        let now = Instant::now();
        let (first_cost, second_cost) = (first.cost(now), second.cost(now));
        // Of two that weigh the same, either: the order of the index is no fair choice.
        let is_second = second_cost < first_cost || (second_cost == first_cost && rand::random());
        Some(Arc::clone(if is_second { second } else { first }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::registry::tests::{Fleet, offering};

    /// How often each of `count` links is picked, none of whose calls ends.
    fn picks(fleet: &Fleet, times: usize) -> BTreeMap<u64, usize> {
        let mut picks = BTreeMap::new();
        for _ in 0..times {
            let state = fleet.registry.read();
            let member = pick(state.directory().all().links(), "a.B", |_| true).unwrap();
            *picks.entry(member.key).or_default() += 1;
            std::mem::forget(member.begin());
        }
        picks
    }

    #[test]
    fn calls_are_spread_evenly() {
        for links in [2, 5, 100] {
            let mut fleet = Fleet::default();
            for _ in 0..links {
                fleet.enter("a", offering(&["a.B"]));
            }
            let picks = picks(&fleet, links * 100);
            assert_eq!(picks.len(), links);
            assert!(
                picks.values().all(|&count| (80..=120).contains(&count)),
                "{picks:?}"
            );
        }
    }

    #[test]
    fn a_link_that_is_far_away_gets_less() {
        let mut fleet = Fleet::default();
        let near = fleet.enter("a", offering(&["a.B"]));
        let far = fleet.enter("a", offering(&["a.B"]));
        let (ten, ninety) = (Duration::from_millis(10), Duration::from_millis(90));
        fleet.members[&near].observe(ten, ten, false);
        fleet.members[&far].observe(ninety, ninety, false);
        let picks = picks(&fleet, 1000);
        assert!((890..=910).contains(&picks[&near]), "{picks:?}");
    }

    #[test]
    fn a_round_trip_time_of_a_busy_moment_counts_for_no_longer_than_it_is_known() {
        let mut fleet = Fleet::default();
        let calm = fleet.enter("a", offering(&["a.B"]));
        let was_busy = fleet.enter("a", offering(&["a.B"]));
        let (near, queued) = (Duration::from_millis(1), Duration::from_millis(90));
        fleet.members[&calm].observe(near, near, false);
        fleet.members[&was_busy].observe(queued, near, false);
        let cost = |key: u64, after: u64| {
            let now = Instant::now() + Duration::from_millis(after);
            fleet.members[&key].cost(now)
        };
        assert!(cost(was_busy, 0) > cost(calm, 0));
        // Nothing new is known of it later, as of a link without calls.
        fleet.members[&was_busy].observe(queued, near, false);
        assert_eq!(cost(was_busy, 1500), cost(calm, 1500));

        // One that has always been far away is so after any time.
        let far = fleet.enter("a", offering(&["a.B"]));
        fleet.members[&far].observe(queued, queued, false);
        let later = Instant::now() + Duration::from_secs(60);
        assert!(fleet.members[&far].cost(later) > fleet.members[&calm].cost(later));
    }

    #[test]
    fn the_best_that_there_is_takes_the_call() {
        for others in [0, 3, FEW - 3] {
            let mut fleet = Fleet::default();
            let worst_to_best = [
                fleet.enter("a", offering(&["x.Y"])),
                fleet.enter("a", None),
                fleet.enter("a", offering(&["a.B"])),
            ];
            for _ in 0..others {
                fleet.enter("a", offering(&["x.Y"]));
            }
            let choose = |fleet: &Fleet| {
                let state = fleet.registry.read();
                pick(state.directory().all().links(), "a.B", |_| true).map(|member| member.key)
            };
            assert_eq!(choose(&fleet), Some(worst_to_best[2]));
            // A suspect link is worse than one that isn't, whatever it offers.
            fleet.members[&worst_to_best[2]].observe(Duration::ZERO, Duration::ZERO, true);
            assert_eq!(choose(&fleet), Some(worst_to_best[1]));
            // But one that lacks the service is worse still.
            fleet.members[&worst_to_best[1]].observe(Duration::ZERO, Duration::ZERO, true);
            assert_eq!(choose(&fleet), Some(worst_to_best[2]));
            for member in fleet.members.values() {
                member.observe(Duration::ZERO, Duration::ZERO, true);
            }
            assert_eq!(choose(&fleet), Some(worst_to_best[2]));
            fleet.members[&worst_to_best[2]].retire();
            assert_eq!(choose(&fleet), Some(worst_to_best[1]));
            for member in fleet.members.values() {
                member.retire();
            }
            assert_eq!(choose(&fleet), None);
        }
    }

    #[test]
    fn only_those_that_are_meant_are_picked() {
        let mut fleet = Fleet::default();
        for _ in 0..500 {
            fleet.enter("a", offering(&["a.B"]));
        }
        let state = fleet.registry.read();
        let links = state.directory().all().links();
        for _ in 0..100 {
            let member = pick(links, "a.B", |member| member.key == 7).unwrap();
            assert_eq!(member.key, 7);
        }
        assert!(pick(links, "a.B", |_| false).is_none());
    }
}
