#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// Sends packets of these sizes at these gaps, and says when each arrived: `(number, moment)`.
fn arrivals(direction: &mut Direction<usize>, sent: &[(Duration, usize)]) -> Vec<(usize, Moment)> {
    let mut now = Moment::ZERO;
    let mut arrived = Vec::new();
    let mut take = |direction: &mut Direction<usize>, now| {
        while let Some((at, number)) = direction.pop(now) {
            arrived.push((number, at));
        }
    };
    for (number, (gap, bytes)) in sent.iter().enumerate() {
        now += *gap;
        take(direction, now);
        direction.push(now, *bytes, number);
    }
    while let Some(due) = direction.next_due() {
        take(direction, due);
    }
    arrived
}

/// So many packets of 1,000 bytes, one each millisecond.
fn steadily(count: usize) -> Vec<(Duration, usize)> {
    vec![(MS, 1000); count]
}

fn lost(conditions: Conditions, seed: u64, count: usize) -> Vec<bool> {
    let mut lost = vec![true; count];
    for (number, _) in arrivals(&mut Direction::new(conditions, seed), &steadily(count)) {
        lost[number] = false;
    }
    lost
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn share(lost: &[bool]) -> f64 {
    lost.iter().filter(|lost| **lost).count() as f64 / lost.len() as f64
}

#[test]
fn a_clean_link_only_delays() {
    let mut direction = Direction::new(Conditions::clean(20 * MS), 1);
    let arrived = arrivals(&mut direction, &steadily(3));
    assert_eq!(arrived, [(0, 21 * MS), (1, 22 * MS), (2, 23 * MS)]);
    let counts = direction.counts();
    assert_eq!((counts.sent, counts.sent_bytes, counts.delivered), (3, 3000, 3));
    assert_eq!((counts.lost, counts.overflowed), (0, 0));
}

#[test]
fn a_packet_arrives_when_it_is_due_and_not_before() {
    let mut direction = Direction::new(Conditions::clean(20 * MS), 1);
    direction.push(MS, 100, 0);
    assert_eq!(direction.next_due(), Some(21 * MS));
    assert_eq!(direction.pop(21 * MS - Duration::from_nanos(1)), None);
    assert_eq!(direction.pop(30 * MS), Some((21 * MS, 0)));
    assert_eq!(direction.next_due(), None);
}

#[test]
fn a_bottleneck_sends_one_packet_after_the_other_and_drops_what_its_queue_cannot_hold() {
    let conditions = Conditions {
        // A packet of 1,000 bytes takes a millisecond.
        rate: Some(8_000_000),
        queue: Queue::Packets(2),
        ..Conditions::clean(20 * MS)
    };
    let mut direction = Direction::new(conditions, 1);
    let at_once = vec![(Duration::ZERO, 1000); 5];
    let arrived = arrivals(&mut direction, &at_once);
    // One that is being sent, and two that wait.
    assert_eq!(arrived, [(0, 21 * MS), (1, 22 * MS), (2, 23 * MS)]);
    assert_eq!(direction.counts().overflowed, 2);
    // In bytes: 1,500 hold one that waits, and a small one beside it.
    let conditions = Conditions {
        queue: Queue::Bytes(1500),
        ..conditions
    };
    let mut direction = Direction::new(conditions, 1);
    let sizes = [1000, 1000, 1000, 400, 200].map(|bytes| (Duration::ZERO, bytes));
    let numbers: Vec<usize> = arrivals(&mut direction, &sizes)
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    assert_eq!(numbers, [0, 1, 3]);
}

#[test]
fn random_loss_loses_its_share_without_runs() {
    let conditions = Conditions {
        loss: Loss::random(0.05),
        ..Conditions::clean(MS)
    };
    let lost = lost(conditions, 7, 100_000);
    assert!((0.047..0.053).contains(&share(&lost)), "{}", share(&lost));
    assert!((1.0..1.1).contains(&mean_run(&lost)), "{}", mean_run(&lost));
}

#[test]
fn bursts_lose_the_same_share_in_runs() {
    let conditions = Conditions {
        loss: Loss::bursts(0.05, 4.0),
        ..Conditions::clean(MS)
    };
    let lost = lost(conditions, 7, 200_000);
    assert!((0.045..0.055).contains(&share(&lost)), "{}", share(&lost));
    assert!((3.8..4.2).contains(&mean_run(&lost)), "{}", mean_run(&lost));
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn mean_run(lost: &[bool]) -> f64 {
    let all = lost.iter().filter(|lost| **lost).count();
    let begun = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
    all as f64 / begun as f64
}

#[test]
fn jitter_and_reordering_lose_no_other_packets() {
    let plain = Conditions {
        loss: Loss::random(0.1),
        ..Conditions::clean(20 * MS)
    };
    let rough = Conditions {
        jitter: 5 * MS,
        reordering: Reordering {
            share: 0.2,
            held_back: 10 * MS,
        },
        ..plain
    };
    assert_eq!(lost(plain, 3, 10_000), lost(rough, 3, 10_000));
    assert_ne!(lost(plain, 3, 10_000), lost(plain, 4, 10_000));
}

#[test]
fn a_share_of_packets_is_overtaken() {
    let conditions = Conditions {
        reordering: Reordering {
            share: 0.1,
            held_back: 5 * MS,
        },
        ..Conditions::clean(20 * MS)
    };
    let arrived = arrivals(&mut Direction::new(conditions, 5), &steadily(10_000));
    assert_eq!(arrived.len(), 10_000);
    let late = arrived
        .iter()
        .filter(|(number, at)| *at != (u32::try_from(*number).unwrap() + 21) * MS)
        .count();
    assert!((900..1100).contains(&late), "{late}");
    assert!(arrived.windows(2).any(|pair| pair[0].0 > pair[1].0));
}

fn any_conditions() -> impl Strategy<Value = Conditions> {
    let queue = prop_oneof![
        (0..50_usize).prop_map(Queue::Packets),
        (0..50_000_usize).prop_map(Queue::Bytes)
    ];
    let loss = prop_oneof![
        (0.0..=1.0).prop_map(Loss::random),
        (0.0..0.9, 1.0..20.0).prop_map(|(share, length)| Loss::bursts(share, length))
    ];
    let rate = proptest::option::of(10_000..1_000_000_000_u64);
    (
        0..200_000_u64,
        0..50_000_u64,
        loss,
        rate,
        queue,
        0.0..=1.0,
        0..50_000_u64,
    )
        .prop_map(
            |(delay, jitter, loss, rate, queue, share, held_back)| Conditions {
                delay: Duration::from_micros(delay),
                jitter: Duration::from_micros(jitter),
                loss,
                rate,
                queue,
                reordering: Reordering {
                    share,
                    held_back: Duration::from_micros(held_back),
                },
            },
        )
}

fn any_packets() -> impl Strategy<Value = Vec<(Duration, usize)>> {
    let packet = (0..5_000_u64, 40..1500_usize);
    proptest::collection::vec(
        packet.prop_map(|(gap, bytes)| (Duration::from_micros(gap), bytes)),
        1..300,
    )
}

proptest! {
    #[test]
    fn every_packet_arrives_once_or_is_counted_as_lost(
        conditions in any_conditions(), seed: u64, sent in any_packets(),
    ) {
        let mut direction = Direction::new(conditions, seed);
        let mut numbers: Vec<usize> = arrivals(&mut direction, &sent).into_iter().map(|(number, _)| number).collect();
        let counts = direction.counts();
        prop_assert_eq!(counts.sent, sent.len() as u64);
        prop_assert_eq!(counts.delivered, numbers.len() as u64);
        prop_assert_eq!(counts.sent, counts.delivered + counts.lost + counts.overflowed);
        numbers.sort_unstable();
        numbers.dedup();
        prop_assert_eq!(counts.delivered, numbers.len() as u64);
    }

    #[test]
    fn no_packet_is_early_and_none_later_than_the_link_can_make_it(
        conditions in any_conditions(), seed: u64, sent in any_packets(),
    ) {
        let arrived = arrivals(&mut Direction::new(conditions, seed), &sent);
        let sent_at: Vec<Moment> = sent
            .iter()
            .scan(Moment::ZERO, |now, (gap, _)| { *now += *gap; Some(*now) })
            .collect();
        let whole: Duration = sent.iter().map(|(_, bytes)| sending(*bytes, conditions.rate.unwrap_or(u64::MAX))).sum();
        let latest = conditions.delay + conditions.jitter + conditions.reordering.held_back + whole;
        for (number, at) in arrived {
            prop_assert!(at >= sent_at[number] + conditions.delay);
            // The order is kept, so that a packet may have to wait for those before it: at most as late as they could be.
            prop_assert!(at <= sent_at[number] + latest);
        }
    }

    #[test]
    fn without_reordering_the_order_is_kept(conditions in any_conditions(), seed: u64, sent in any_packets()) {
        let conditions = Conditions {
            reordering: Reordering { share: 0.0, ..conditions.reordering },
            ..conditions
        };
        let arrived = arrivals(&mut Direction::new(conditions, seed), &sent);
        prop_assert!(arrived.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
    }

    #[test]
    fn no_stretch_of_time_carries_more_than_the_rate(
        rate in 100_000..100_000_000_u64, seed: u64, sent in any_packets(),
    ) {
        let conditions = Conditions { rate: Some(rate), ..Conditions::clean(20 * MS) };
        let arrived = arrivals(&mut Direction::new(conditions, seed), &sent);
        for (index, (first, begun)) in arrived.iter().enumerate() {
            let mut bytes = 0;
            for (number, at) in &arrived[index + 1..] {
                bytes += sent[*number].1;
                // Each packet's time is rounded down to a nanosecond.
                let rounding = Duration::from_nanos((number - first) as u64);
                prop_assert!(*at - *begun + rounding >= sending(bytes, rate));
            }
        }
    }

    #[test]
    fn the_same_seed_decides_the_same(conditions in any_conditions(), seed: u64, sent in any_packets()) {
        let run = || arrivals(&mut Direction::new(conditions, seed), &sent);
        prop_assert_eq!(run(), run());
    }
}
