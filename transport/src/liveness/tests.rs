//! A link made of numbers, in a time of its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use proptest::prelude::*;

use super::*;

const INTERVAL: Duration = Duration::from_secs(15);
const TICK: Duration = Duration::from_millis(10);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What the peer does with what reaches it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Peer {
    Lives,
    /// Its calls go on, and its answers wait behind them.
    Busy,
    /// Its system acknowledges, and its process doesn't answer.
    StandsStill,
    /// Nothing comes from it any more, not even what was under way.
    Gone,
}

#[derive(Clone, Copy, Debug)]
enum Arrival {
    Packet,
    Answer(u64),
}

/// A link, both ends of it, and the one who looks at it.
struct Link {
    liveness: Liveness,
    now: Instant,
    peer: Peer,
    round_trip: Duration,
    calls: usize,
    /// It is the agent's end, and its calls are to receive.
    listens: bool,
    activity: Activity,
    arriving: Vec<(Instant, Arrival)>,
    verdict: Verdict,
    /// When something came last.
    heard: Instant,
    unanswered: Option<u64>,
    heartbeats: Vec<Instant>,
    suspected: bool,
}

impl Link {
    fn new(round_trip: Duration, seed: u64) -> Self {
        let now = Instant::now();
        let mut liveness = Liveness::new(INTERVAL, seed, now);
        let sample = Sample {
            activity: Activity::default(),
            round_trip,
            calls: 0,
            receiving: 0,
        };
        Self {
            verdict: liveness.check(now, &sample),
            liveness,
            now,
            peer: Peer::Lives,
            round_trip,
            calls: 0,
            listens: false,
            activity: Activity::default(),
            arriving: Vec::new(),
            heard: now,
            unanswered: None,
            heartbeats: Vec::new(),
            suspected: false,
        }
    }

    /// The agent's end, whose calls are to receive, and which has no other reason to send heartbeats.
    fn listening(round_trip: Duration, seed: u64) -> Self {
        let mut link = Self::new(round_trip, seed);
        link.liveness = Liveness::new(LONGEST_INTERVAL, seed, link.now);
        link.listens = true;
        link.begin();
        link
    }

    /// Sends what the peer has to acknowledge.
    fn send(&mut self) {
        self.activity.sent += 1;
        self.arriving.push((self.now + self.round_trip, Arrival::Packet));
    }

    fn begin(&mut self) {
        self.calls += 1;
        self.send();
        if self.calls == 1 {
            self.look();
        }
    }

    fn look(&mut self) {
        let sample = Sample {
            activity: self.activity,
            round_trip: self.round_trip,
            calls: self.calls,
            receiving: if self.listens { self.calls } else { 0 },
        };
        self.verdict = self.liveness.check(self.now, &sample);
        self.suspected |= self.verdict.suspect;
        assert!(self.verdict.dead.is_some() || self.verdict.check_at > self.now);
        if let Some(sequence) = self.verdict.heartbeat {
            assert_eq!(self.unanswered, None, "one heartbeat at a time");
            assert_eq!(sequence, self.heartbeats.len() as u64 + 1);
            self.unanswered = Some(sequence);
            self.heartbeats.push(self.now);
            self.send();
            self.arriving
                .push((self.now + self.round_trip, Arrival::Answer(sequence)));
        }
    }

    fn arrive(&mut self) {
        let now = self.now;
        let (due, later) = self.arriving.drain(..).partition(|(at, _)| *at <= now);
        self.arriving = later;
        let due: Vec<_> = due;
        for (_, arrival) in due {
            match (self.peer, arrival) {
                (Peer::Gone, Arrival::Packet) => {
                    // QUIC sends again what isn't acknowledged.
                    self.activity.sent += 1;
                    let again = now + ms(200).max(self.round_trip * 3);
                    self.arriving.push((again, Arrival::Packet));
                    continue;
                }
                (_, Arrival::Answer(_)) if self.peer != Peer::Lives => continue,
                (_, Arrival::Answer(sequence)) => {
                    self.unanswered = None;
                    self.activity.carried += 1;
                    self.liveness.answered(now, sequence);
                }
                (Peer::Busy, Arrival::Packet) => self.activity.carried += 1,
                (_, Arrival::Packet) => {}
            }
            self.activity.received += 1;
            self.heard = now;
        }
    }

    /// Lets time pass, and looks whenever it is time to. Stops at the link's death.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end && self.verdict.dead.is_none() {
            self.now += TICK;
            self.arrive();
            if self.now >= self.verdict.check_at {
                self.look();
            }
        }
    }

    /// Nobody looks for this time, and what came meanwhile is seen only after the next look.
    /// A call receives something every so often for some time.
    fn stream(&mut self, every: Duration, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.activity.carried += 1;
            self.arriving.push((self.now, Arrival::Packet));
            self.pass(every);
        }
    }

    fn stall(&mut self, time: Duration) {
        self.now += time;
        if self.now >= self.verdict.check_at {
            self.look();
        }
        self.arrive();
    }

    /// Passes so much time that the link is dead, and says for how long it lived.
    fn die(&mut self, at_most: Duration) -> (Dead, Duration) {
        let before = self.now;
        self.pass(at_most);
        let dead = self
            .verdict
            .dead
            .unwrap_or_else(|| panic!("lives after {at_most:?}"));
        (dead, self.now - before)
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Begin,
    End,
    Send,
    PeerSends,
    PeerBeats,
    Look,
    Stall(Duration),
}

impl Event {
    fn befall(self, link: &mut Link) {
        match self {
            Self::Begin => link.begin(),
            Self::End => link.calls = link.calls.saturating_sub(1),
            Self::Send => link.send(),
            Self::PeerSends => link.arriving.push((link.now, Arrival::Packet)),
            Self::PeerBeats => {
                link.arriving.push((link.now, Arrival::Packet));
                link.activity.carried += 1;
                link.liveness.heard(link.now);
            }
            Self::Look => link.look(),
            Self::Stall(time) => link.stall(time),
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Begin),
        Just(Event::End),
        Just(Event::Send),
        Just(Event::PeerSends),
        Just(Event::PeerBeats),
        Just(Event::Look),
    ]
}

/// What befalls a link, each event after some time.
fn history(event: impl Strategy<Value = Event>) -> impl Strategy<Value = Vec<(Duration, Event)>> {
    let pause = prop_oneof![3 => 0..1000_u64, 1 => 0..20_000_u64].prop_map(ms);
    prop::collection::vec((pause, event), 0..40)
}

fn live_through(link: &mut Link, history: &[(Duration, Event)]) {
    for (pause, event) in history {
        link.pass(*pause);
        event.befall(link);
        assert_eq!(link.verdict.dead, None);
    }
}

proptest! {
    #[test]
    fn a_peer_that_answers_is_never_suspect(
        history in history(event()), round_trip in 1..3000_u64, seed in any::<u64>(),
    ) {
        let mut link = Link::new(ms(round_trip), seed);
        live_through(&mut link, &history);
        link.pass(ms(60_000));
        prop_assert_eq!(link.verdict.dead, None);
        prop_assert!(!link.suspected);
    }

    #[test]
    fn a_peer_is_not_blamed_for_a_stall_at_this_end(
        history in history(prop_oneof![3 => event(), 1 => (0..120_000_u64).prop_map(|time| Event::Stall(ms(time)))]),
        round_trip in 1..3000_u64, seed in any::<u64>(),
    ) {
        let mut link = Link::new(ms(round_trip), seed);
        live_through(&mut link, &history);
        link.pass(ms(60_000));
        prop_assert_eq!(link.verdict.dead, None);
    }

    #[test]
    fn a_silent_link_with_calls_is_dead_in_time(
        before in history(event()), after in history(event()), idle in prop_oneof![Just(0), 0..20_000_u64],
        round_trip in 1..3000_u64, seed in any::<u64>(),
    ) {
        let round_trip = ms(round_trip);
        let mut link = Link::new(round_trip, seed);
        live_through(&mut link, &before);
        // It may have died when nobody had a call: the first call is told in time as well.
        link.calls = 0;
        link.pass(round_trip * 2);
        link.peer = Peer::Gone;
        link.pass(ms(idle));
        let limit = DEAD_AFTER.max(round_trip.min(LONGEST_ROUND_TRIP) * DEAD_AFTER_ROUND_TRIPS);
        if link.verdict.dead.is_none() {
            link.begin();
            let begun = link.now;
            for (pause, event) in after {
                if link.now + pause >= begun + limit || link.verdict.dead.is_some() {
                    break;
                }
                link.pass(pause);
                // The call goes on, and nothing comes.
                match event {
                    Event::Begin | Event::Send | Event::Look => event.befall(&mut link),
                    _ => {}
                }
            }
            let left = (begun + limit + WATCH + 2 * TICK).saturating_duration_since(link.now);
            link.pass(left);
        }
        prop_assert!(link.verdict.dead.is_some());
        prop_assert!(link.now - link.heard >= DEAD_AFTER);
    }

    #[test]
    fn a_link_that_falls_silent_in_a_call_is_dead_in_time(
        before in history(event()), round_trip in 1..375_u64, seed in any::<u64>(),
    ) {
        let mut link = Link::new(ms(round_trip), seed);
        live_through(&mut link, &before);
        link.begin();
        link.peer = Peer::Gone;
        let (dead, lived) = link.die(ms(6000));
        prop_assert!(matches!(dead, Dead::Silent { calls: 1.., .. }), "{dead}");
        prop_assert!(lived <= DEAD_AFTER + WATCH + 2 * TICK, "{lived:?}");
        prop_assert!(link.now - link.heard >= DEAD_AFTER);
        // A quiet call has waited for some of its time before anything was sent.
        prop_assert!(link.suspected || round_trip > 100);
    }

    #[test]
    fn a_silent_link_without_calls_is_dead_within_an_interval_and_its_limit(
        before in history(event()), round_trip in 1..400_u64, seed in any::<u64>(),
    ) {
        let mut link = Link::new(ms(round_trip), seed);
        live_through(&mut link, &before);
        link.calls = 0;
        link.peer = Peer::Gone;
        let (dead, lived) = link.die(ms(60_000));
        prop_assert!(matches!(dead, Dead::Silent { calls: 0, .. }), "{dead}");
        prop_assert!(lived <= INTERVAL.mul_f64(1.2) + Duration::from_secs(5), "{lived:?}");
    }

    #[test]
    fn a_peer_that_stands_still_is_dead_though_its_packets_arrive(
        before in history(event()), traffic in 10..1000_u64, round_trip in 1..1000_u64, seed in any::<u64>(),
    ) {
        let mut link = Link::new(ms(round_trip), seed);
        live_through(&mut link, &before);
        link.pass(ms(round_trip * 2));
        link.peer = Peer::StandsStill;
        link.begin();
        let since = link.now;
        while link.verdict.dead.is_none() {
            link.send();
            link.pass(ms(traffic));
            prop_assert!(link.now - since < ms(60_000));
        }
        let asked = *link.heartbeats.last().unwrap();
        let unresponsive = matches!(link.verdict.dead, Some(Dead::Unresponsive { .. }));
        prop_assert!(unresponsive);
        prop_assert!(link.now - asked >= UNRESPONSIVE_AFTER);
        prop_assert!(link.now - asked <= UNRESPONSIVE_AFTER + TICK);
        prop_assert!(asked - since <= INTERVAL.mul_f64(1.2) + 2 * TICK);
    }

    #[test]
    fn an_idle_link_beats_once_an_interval(round_trip in 1..500_u64, seed in any::<u64>()) {
        let mut link = Link::new(ms(round_trip), seed);
        link.pass(ms(600_000));
        let beats = link.heartbeats.len();
        prop_assert!((600 / 19..=600 / 12).contains(&beats), "{beats}");
        let pauses: Vec<_> = link.heartbeats.windows(2).map(|pair| pair[1] - pair[0]).collect();
        prop_assert!(pauses.iter().any(|pause| *pause != pauses[0]), "they are jittered");
    }

    #[test]
    fn a_stream_that_falls_silent_is_asked_after_at_once(round_trip in 1..500_u64, every in 1..40_u64, seed in any::<u64>()) {
        let mut link = Link::listening(ms(round_trip), seed);
        let least = LISTEN_FOR.max(link.round_trip * LISTEN_FOR_ROUND_TRIPS);
        let looks = (least / 4).min(WATCH) + 2 * TICK;
        // Once when it has always been busy, and once more when it is busy again.
        for quiet in [0, 20_000] {
            link.pass(ms(quiet));
            let before = link.heartbeats.len();
            link.stream(ms(every), least * 10);
            prop_assert!(link.heartbeats.len() <= before + 1, "a stream that goes on needs none");
            let (before, since) = (link.heartbeats.len(), link.heard);
            link.pass(least + looks);
            prop_assert_eq!(link.heartbeats.len(), before + 1);
            prop_assert!(link.heartbeats[before] - since >= least - TICK);
        }
    }

    #[test]
    fn a_quiet_call_that_is_to_receive_is_asked_after_ever_more_seldom(round_trip in 1..60_u64, seed in any::<u64>()) {
        let mut link = Link::listening(ms(round_trip), seed);
        link.pass(ms(600_000));
        prop_assert!(link.heartbeats.len() <= 600 * 1000 / 2500 + 4, "{}", link.heartbeats.len());
        let pauses: Vec<_> = link.heartbeats.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for pair in pauses[..4].windows(2) {
            prop_assert!(pair[1] > pair[0], "{pauses:?}");
        }
    }

    #[test]
    fn a_call_that_sends_is_not_asked_after(every in 1..40_u64, seed in any::<u64>()) {
        let mut link = Link::listening(ms(40), seed);
        for _ in 0..5000 / every {
            link.send();
            link.pass(ms(every));
        }
        prop_assert!(link.heartbeats.is_empty());
    }

    #[test]
    fn a_quiet_call_costs_few_heartbeats(round_trip in 1..500_u64, seed in any::<u64>()) {
        let mut link = Link::new(ms(round_trip), seed);
        link.begin();
        link.pass(ms(600_000));
        prop_assert!(link.heartbeats.len() <= 600 * 1000 / 2500, "{}", link.heartbeats.len());
        prop_assert!(!link.suspected);
    }
}

#[test]
fn suspicion_comes_with_a_probe_and_goes_with_a_packet() {
    let mut link = Link::new(ms(40), 1);
    link.begin();
    link.pass(ms(100));
    link.peer = Peer::Gone;
    link.send();
    let silent = link.now;
    link.pass(SUSPECT_AFTER - TICK);
    assert!(!link.verdict.suspect);
    assert!(link.heartbeats.is_empty());
    link.pass(WATCH * 2 + TICK);
    assert!(link.verdict.suspect);
    assert_eq!(link.heartbeats.len(), 1);
    assert!(link.heartbeats[0] - silent <= SUSPECT_AFTER + WATCH * 2);

    link.pass(ms(1000));
    assert!(link.verdict.suspect);
    link.peer = Peer::Lives;
    Event::PeerSends.befall(&mut link);
    link.pass(WATCH + TICK);
    assert!(!link.verdict.suspect);
    assert_eq!(link.verdict.dead, None);
}

#[test]
fn a_call_on_a_link_that_has_long_been_idle_is_given_its_time() {
    let mut link = Link::new(ms(40), 1);
    // The peer's keep-alive is all that comes.
    link.pass(ms(10_000));
    Event::PeerSends.befall(&mut link);
    link.pass(ms(1000));
    link.begin();
    link.pass(ms(39));
    assert!(!link.verdict.suspect);
    assert_eq!(link.verdict.dead, None);
    link.pass(ms(5000));
    assert_eq!(link.verdict.dead, None);
}

#[test]
fn short_calls_one_after_the_other_do_not_hide_a_silent_link() {
    let mut link = Link::new(ms(40), 1);
    link.pass(ms(100));
    link.peer = Peer::Gone;
    link.begin();
    let begun = link.now;
    while link.verdict.dead.is_none() {
        link.pass(ms(300));
        link.calls = 0;
        link.look();
        link.pass(ms(10));
        link.begin();
        assert!(link.now - begun < ms(10_000));
    }
    assert!(link.now - begun <= DEAD_AFTER + WATCH);
}

#[test]
fn a_busy_peer_is_not_dead_though_its_answers_are_late() {
    let mut link = Link::new(ms(40), 1);
    link.begin();
    link.peer = Peer::Busy;
    for _ in 0..300 {
        link.send();
        link.pass(ms(1000));
        assert_eq!(link.verdict.dead, None);
    }
    assert_eq!(link.heartbeats.len(), 1);

    // From its last sign of work on it has the time that any peer has.
    link.peer = Peer::StandsStill;
    let since = link.now;
    while link.verdict.dead.is_none() {
        link.send();
        link.pass(ms(1000));
        assert!(link.now - since <= UNRESPONSIVE_AFTER + WATCH);
    }
    assert!(matches!(
        link.verdict.dead,
        Some(Dead::Unresponsive { sequence: 1, .. })
    ));
    assert!(link.now - since >= UNRESPONSIVE_AFTER - ms(1000));
}

#[test]
fn an_answer_to_another_heartbeat_answers_nothing() {
    let mut link = Link::new(ms(40), 1);
    link.peer = Peer::StandsStill;
    while link.verdict.dead.is_none() {
        Event::PeerSends.befall(&mut link);
        link.pass(ms(1000));
        link.liveness.answered(link.now, 7);
    }
    assert!(matches!(
        link.verdict.dead,
        Some(Dead::Unresponsive { sequence: 1, .. })
    ));
    assert!(link.now - link.heartbeats[0] >= UNRESPONSIVE_AFTER);
}

#[test]
fn whoever_hears_heartbeats_sends_none() {
    let mut agent = Link::new(ms(40), 1);
    agent.liveness = Liveness::new(ms(20_000), 1, agent.now);
    agent.look();
    for _ in 0..40 {
        agent.pass(INTERVAL);
        Event::PeerBeats.befall(&mut agent);
    }
    assert!(agent.heartbeats.is_empty());
    agent.pass(ms(24_000));
    assert_eq!(agent.heartbeats.len(), 1);
}
