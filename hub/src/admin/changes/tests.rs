#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{Changes, Now, Told};
use crate::member::State;
use crate::offer::Offer;

fn now() -> Now {
    Now {
        state: State::Ready,
        address: (Ipv4Addr::LOCALHOST, 1).into(),
        offer: Arc::new(Offer::default()),
        round_trip: Duration::from_millis(40),
        calls_in_flight: 0,
        calls: 0,
    }
}

fn update(told: &mut Told, links: &[(u64, Now)]) -> Changes {
    told.update(links.iter().map(|(key, now)| (*key, now)))
}

fn changes(changed: &[usize], ended: &[u64]) -> Changes {
    Changes {
        changed: changed.into(),
        ended: ended.into(),
    }
}

#[test]
fn only_what_differs_is_told_again() {
    let first = now();
    let mut told = Told::default();
    let links = [(7, first.clone()), (3, first.clone())];
    assert_eq!(update(&mut told, &links), changes(&[0, 1], &[]));
    assert_eq!(update(&mut told, &links), changes(&[], &[]));

    let begun = Now {
        calls_in_flight: 1,
        calls: 1,
        ..first.clone()
    };
    let ended = Now {
        calls_in_flight: 0,
        ..begun.clone()
    };
    let drained = Now {
        state: State::Draining,
        ..ended.clone()
    };
    let offers = Now {
        offer: Arc::new(Offer::default()),
        ..drained
    };
    let moved = Now {
        address: (Ipv4Addr::LOCALHOST, 2).into(),
        ..offers.clone()
    };
    for later in [begun, ended, drained, offers, moved] {
        assert_eq!(
            update(&mut told, &[(7, first.clone()), (3, later.clone())]),
            changes(&[1], &[])
        );
        assert_eq!(
            update(&mut told, &[(7, first.clone()), (3, later)]),
            changes(&[], &[])
        );
    }
    assert_eq!(update(&mut told, &[(9, first)]), changes(&[0], &[3, 7]));
    assert_eq!(update(&mut told, &[]), changes(&[], &[9]));
}

#[test]
fn a_round_trip_counts_when_it_has_moved_far_enough() {
    let first = now();
    let mut told = Told::default();
    let mut at = |ms: f64| {
        let later = Now {
            round_trip: Duration::from_secs_f64(ms / 1e3),
            ..first.clone()
        };
        !update(&mut told, &[(1, later)]).changed.is_empty()
    };
    assert!(at(40.0));
    // In small steps, each of which is nothing.
    assert!(!at(44.0) && !at(48.0) && at(52.0));
    assert!(!at(60.0) && at(20.0));
    // Near nothing a millisecond is what counts.
    assert!(at(0.1) && !at(0.9) && !at(0.3) && at(1.2));
}

proptest! {
    /// Whoever applies all that is told has what is.
    #[test]
    fn what_is_told_adds_up(looks in prop::collection::vec(prop::collection::btree_map(0..8_u64, 0..4_u64, 0..8), 1..20)) {
        let first = now();
        let (mut told, mut mirror) = (Told::default(), BTreeMap::new());
        for look in looks {
            let links: Vec<_> = look.iter().map(|(&key, &calls)| (key, Now { calls, ..first.clone() })).collect();
            let changes = update(&mut told, &links);
            for key in changes.ended {
                prop_assert!(mirror.remove(&key).is_some());
            }
            for place in changes.changed {
                let (key, now) = &links[place];
                prop_assert_ne!(mirror.insert(*key, now.calls), Some(now.calls));
            }
            prop_assert_eq!(&mirror, &look);
        }
    }
}
