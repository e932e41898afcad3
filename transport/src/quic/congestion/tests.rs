//! The controller on links of every kind, in virtual time. The figures beside the bounds are what was seen.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod simulation;

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig};

use super::bounded::BoundedConfig;
use crate::quic::tests::support::Pki;
use simulation::{Load, Path, Simulation};

const MBIT: u64 = 125_000;

/// 20 Mbit/s, 40 ms there and back, and a queue that takes 1.2 s to drain.
const PATH: Path = Path {
    rate: 20 * MBIT,
    round_trip: Duration::from_millis(40),
    loss: 0.0,
    queue: 3_000_000,
};

/// A bulk stream from the second second on, beside small calls.
const MIXED: Load = Load {
    bulk: Some((Duration::from_secs(1), Duration::MAX)),
    calls: 100,
};

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A simulation with senders that bound their queues.
struct World {
    simulation: Simulation,
    pki: Pki,
}

impl World {
    fn new(path: Path) -> Self {
        Self {
            simulation: Simulation::new(path, 7),
            pki: Pki::new(),
        }
    }

    /// One sender with [`MIXED`], which is the first.
    fn mixed(path: Path) -> Self {
        let mut world = Self::new(path);
        world.sender(MIXED);
        world
    }

    fn sender(&mut self, load: Load) -> usize {
        self.sender_with(Arc::new(BoundedConfig), load)
    }

    fn sender_with(&mut self, controller: Arc<dyn ControllerFactory + Send + Sync>, load: Load) -> usize {
        self.simulation.sender(&self.pki, controller, load)
    }

    fn run_until(&mut self, seconds: f64) {
        self.simulation.run_until(secs(seconds));
    }

    fn change(&mut self, change: impl FnOnce(&mut Path)) {
        self.simulation.change(change);
    }

    /// Bulk of a sender in a span of seconds, as a share of what the link takes now.
    fn share(&self, sender: usize, from: f64, until: f64) -> f64 {
        let rate = self.simulation.seen(sender).bulk_rate(secs(from), secs(until));
        rate / self.simulation.path().rate as f64
    }

    /// What a hundredth of a sender's calls exceed, there and back, in round trips of the link as it is now.
    fn p99(&self, sender: usize, from: f64, until: f64) -> f64 {
        self.quantile(sender, 0.99, from, until)
    }

    fn quantile(&self, sender: usize, quantile: f64, from: f64, until: f64) -> f64 {
        let seen = self.simulation.seen(sender);
        let calls = seen.calls(secs(from), secs(until));
        assert!(calls > 0, "no calls from {from} s to {until} s");
        let round_trip = self.simulation.path().round_trip.as_secs_f64();
        seen.call_time(quantile, secs(from), secs(until)).as_secs_f64() / round_trip
    }
}

#[test]
fn small_calls_beside_bulk_wait_for_little_of_it() {
    for (loss, share, calls) in [
        (0.0, 0.87, 1.6),  // 0.90, 1.4
        (0.01, 0.85, 3.2), // 0.89, 2.6
        (0.05, 0.8, 5.0),  // 0.85, 4.2: some are lost twice
    ] {
        let mut world = World::mixed(Path { loss, ..PATH });
        world.run_until(9.0);
        let (bulk, p99) = (world.share(0, 2.0, 8.0), world.p99(0, 2.0, 8.0));
        assert!(bulk > share, "{loss}: {bulk:.2} of the link");
        assert!(p99 < calls, "{loss}: {p99:.2} round trips");
    }
}

#[test]
fn quinns_own_fills_a_queue_of_a_round_trip() {
    let mut world = World::new(PATH);
    let bbr = world.sender_with(Arc::new(BbrConfig::default()), MIXED);
    world.run_until(5.0);
    let p50 = world.quantile(bbr, 0.5, 2.0, 4.5);
    assert!(
        p50 > 1.9,
        "{p50:.2}: it has become better, and ours is of less use"
    );
}

#[test]
fn random_loss_does_not_slow_calls_down() {
    for loss in [0.0, 0.01, 0.05] {
        let mut world = World::new(Path { loss, ..PATH });
        let calls = world.sender(Load {
            bulk: None,
            calls: 500,
        });
        world.run_until(8.0);
        let (p50, p99) = (world.quantile(calls, 0.5, 2.0, 7.0), world.p99(calls, 2.0, 7.0));
        assert!(p50 < 1.05, "{loss}: {p50:.2} round trips");
        // One loss is found out by the packets behind it.
        assert!(p99 < 2.4, "{loss}: {p99:.2} round trips");
    }
}

#[test]
fn a_lost_call_that_nothing_follows_is_found_out_soon() {
    let mut world = World::new(Path { loss: 0.01, ..PATH });
    let calls = world.sender(Load { bulk: None, calls: 5 });
    world.run_until(203.0);
    // A probe, its acknowledgement and the call anew, each a round trip: quinn probes without what was lost.
    let p99 = world.p99(calls, 2.0, 202.0);
    assert!(p99 < 3.3, "{p99:.2} round trips"); // 3.2, and 3.7 with the 25 ms of RFC 9000
}

#[test]
fn a_link_that_becomes_faster_is_filled() {
    let mut world = World::mixed(Path {
        rate: 5 * MBIT,
        ..PATH
    });
    world.run_until(6.0);
    world.change(|path| path.rate *= 10);
    world.run_until(9.5);
    let (first, then) = (world.share(0, 6.0, 7.0), world.share(0, 7.0, 9.0));
    assert!(first > 0.5 && then > 0.87, "{first:.2}, {then:.2}"); // 0.70, 0.90
    assert!(world.p99(0, 7.0, 9.0) < 1.6);
}

#[test]
fn a_link_that_becomes_slower_is_not_drowned() {
    let mut world = World::mixed(Path {
        rate: 50 * MBIT,
        ..PATH
    });
    world.run_until(5.0);
    world.change(|path| path.rate /= 10);
    world.run_until(10.5);
    // What was in flight has to pass first, which takes a second and a half.
    let p50 = world.quantile(0, 0.5, 6.5, 10.0);
    assert!(p50 < 1.8, "{p50:.2} round trips"); // 1.4
    let bulk = world.share(0, 6.5, 10.0);
    assert!(bulk > 0.7, "{bulk:.2}"); // 0.77, and the calls take 0.18
}

#[test]
fn a_way_that_becomes_longer_or_shorter_is_filled() {
    for (from, to) in [(40, 120), (120, 40)] {
        let mut world = World::mixed(Path {
            round_trip: Duration::from_millis(from),
            ..PATH
        });
        world.run_until(5.0);
        world.change(|path| path.round_trip = Duration::from_millis(to));
        world.run_until(9.5);
        let bulk = world.share(0, 6.5, 9.0);
        assert!(bulk > 0.8, "{from} to {to}: {bulk:.2}"); // 0.86, 0.90
        let p99 = world.p99(0, 6.5, 9.0);
        assert!(p99 < 1.8, "{from} to {to}: {p99:.2} round trips"); // 1.6, 1.5
    }
}

#[test]
fn what_is_known_of_a_link_outlasts_a_time_of_few_calls() {
    let mut world = World::new(PATH);
    let load = Load {
        bulk: Some((secs(1.0), secs(3.0))),
        ..MIXED
    };
    let sender = world.sender(load);
    world.run_until(15.0);
    let alone = world.p99(sender, 4.0, 15.0);
    assert!(alone < 1.05, "{alone:.2} round trips without bulk");
    world.simulation.resume(sender, secs(15.0), Duration::MAX);
    world.run_until(16.5);
    let (bulk, p99) = (world.share(sender, 15.0, 16.0), world.p99(sender, 15.0, 16.0));
    assert!(bulk > 0.8 && p99 < 1.6, "{bulk:.2}, {p99:.2}"); // 0.86, 1.4
}

#[test]
fn a_short_queue_is_lived_with() {
    // A twentieth of what the link holds, and an eighth.
    for queue_ms in [2, 5] {
        let mut world = World::mixed(Path {
            queue: PATH.rate * queue_ms / 1000,
            ..PATH
        });
        world.run_until(7.0);
        let (bulk, p99) = (world.share(0, 2.0, 6.5), world.p99(0, 2.0, 6.5));
        assert!(bulk > 0.8, "{queue_ms} ms: {bulk:.2}"); // 0.85, 0.88
        assert!(p99 < 2.6, "{queue_ms} ms: {p99:.2} round trips"); // 1.4, 2.3
    }
}

#[test]
fn two_share_a_link() {
    let mut world = World::mixed(PATH);
    let late = Load {
        bulk: Some((secs(4.0), Duration::MAX)),
        ..MIXED
    };
    let second = world.sender(late);
    world.run_until(14.0);
    let shares = [world.share(0, 9.0, 13.5), world.share(second, 9.0, 13.5)];
    assert!(shares.iter().all(|&share| share > 0.25), "{shares:.2?}"); // 0.48, 0.39
    assert!(shares.iter().sum::<f64>() > 0.75, "{shares:.2?}");
    for sender in [0, second] {
        let p99 = world.p99(sender, 9.0, 13.5);
        assert!(p99 < 2.2, "{p99:.2} round trips"); // 1.8
    }
}

#[test]
fn beside_cubic_neither_starves() {
    // Cubic fills whatever queue there is; where that is long, everybody waits in it.
    for (queue, ours, theirs) in [
        (100_000, 0.2, 0.3),    // 0.33, 0.55
        (3_000_000, 0.08, 0.3), // 0.19, 0.68
    ] {
        let mut world = World::mixed(Path { queue, ..PATH });
        let late = Load {
            bulk: Some((secs(4.0), Duration::MAX)),
            ..MIXED
        };
        let cubic = world.sender_with(Arc::new(CubicConfig::default()), late);
        world.run_until(20.0);
        let shares = [world.share(0, 6.0, 19.5), world.share(cubic, 6.0, 19.5)];
        assert!(shares[0] > ours && shares[1] > theirs, "{queue}: {shares:.2?}");
    }
}

#[test]
fn any_link_is_filled() {
    for (mbit, round_trip, share) in [
        (1, 40, 0.8),   // 0.91 without calls
        (1, 300, 0.7),  // 0.88
        (5, 300, 0.75), // 0.90
        (100, 1, 0.9),  // 0.96
    ] {
        let path = Path {
            rate: mbit * MBIT,
            round_trip: Duration::from_millis(round_trip),
            ..PATH
        };
        let mut world = World::new(path);
        world.sender(Load { calls: 0, ..MIXED });
        let until = if round_trip == 1 { 4.0 } else { 14.0 };
        world.run_until(until);
        let bulk = world.share(0, until / 2.0, until);
        assert!(bulk > share, "{mbit} Mbit/s, {round_trip} ms: {bulk:.2}");
    }
}
