//! One live link of an agent, as the calls and the operator see it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use adit_certs::AgentId;
use adit_proto::labels::Labels;
use adit_transport::{Code, HubLink};
use tokio::sync::{Notify, watch};

use crate::offer::{Offer, Suits};

/// Below this a difference of round-trip times says nothing about which agent is nearer: so far off is the one measured
/// by a handshake.
const SAME_PLACE: Duration = Duration::from_millis(5);

/// So long after it was measured a round-trip time still says what a call waits for. A link without calls is measured only by
/// its heartbeats, and the smoothed time needs many of them to forget a busy moment: what is older than this counts no more,
/// but the shortest time ever seen on the link.
const FRESH: Duration = Duration::from_secs(1);

/// Who is at the other end of a link, as the certificate and the hello say it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) id: AgentId,
    /// Which process and which of its links this is; none for a bare agent.
    pub(crate) place: Option<Place>,
    pub(crate) version: String,
    pub(crate) labels: Labels,
    /// No other instance may have the id at the same time.
    pub(crate) exclusive: bool,
    /// Why the agent chose the carrier, as it says.
    pub(crate) carrier_reason: String,
    /// How often its slot has changed the carrier.
    pub(crate) carrier_moves: u32,
}

/// Of two links of the same instance and slot, the one with the higher generation takes the calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) instance: String,
    pub(crate) slot: u32,
    pub(crate) generation: u64,
}

/// One live link.
#[derive(Debug)]
pub(crate) struct Member<L = HubLink> {
    /// The hub's own number for it.
    pub(crate) key: u64,
    pub(crate) peer: Peer,
    pub(crate) link: L,
    pub(crate) connected_at: SystemTime,
    offer: RwLock<Arc<Offer>>,
    /// A later link has taken its place, or its agent asked for no new calls.
    retired: AtomicBool,
    /// An operator wants no new calls here.
    paused: AtomicBool,
    /// Nothing has come for a while, though something should have.
    suspect: AtomicBool,
    in_flight: AtomicUsize,
    calls: AtomicU64,
    /// What was observed of these last, and when the first of them last changed, all in microseconds.
    round_trip: AtomicU32,
    shortest_round_trip: AtomicU32,
    measured_at: AtomicU64,
    epoch: Instant,
    /// Why this end closed the link.
    closed: OnceLock<Closing>,
    /// The link's task looks at it often, because it carries calls.
    watched: AtomicBool,
    wake: Notify,
    ask: Notify,
    /// Counts the heartbeats that were answered.
    answers: watch::Sender<u64>,
}

/// Why the hub closes a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Closing {
    /// The hub's own end. The calls on it were given their time.
    #[error("the hub stopped")]
    HubStopped,
    /// Its agent takes no new calls, and the last one has ended.
    #[error("the agent takes no new calls, and has none left")]
    Drained,
    /// It was found dead.
    #[error("{0}")]
    Dead(String),
    /// An operator wants it closed.
    #[error("closed by the hub's operator: {0}")]
    Kicked(String),
}

/// What a link does with new calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    Suspect,
    Draining,
}

/// A call on a member, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight<L = HubLink>(Arc<Member<L>>);

impl<L> Member<L> {
    pub(crate) fn new(key: u64, peer: Peer, offer: Offer, link: L) -> Self {
        Self {
            key,
            peer,
            link,
            connected_at: SystemTime::now(),
            offer: RwLock::new(Arc::new(offer)),
            retired: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            calls: AtomicU64::new(0),
            round_trip: AtomicU32::new(0),
            shortest_round_trip: AtomicU32::new(0),
            measured_at: AtomicU64::new(0),
            epoch: Instant::now(),
            closed: OnceLock::new(),
            watched: AtomicBool::new(false),
            wake: Notify::new(),
            ask: Notify::new(),
            answers: watch::Sender::new(0),
        }
    }

    /// What its agent offers now.
    pub(crate) fn offer(&self) -> Arc<Offer> {
        Arc::clone(&self.offer.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How well a call for `service` is placed here.
    pub(crate) fn suits(&self, service: &str) -> Suits {
        self.offer
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .suits(service)
    }

    /// The registry's to call, because it has an index of the services.
    pub(crate) fn set_offer(&self, offer: Offer) {
        *self.offer.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(offer);
    }

    /// Takes no new calls from now on; those that run go on.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Whether its agent wants no new calls, or a later link has taken its place.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Says whether an operator wants no new calls here.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// Notes what the latest look at the link showed: its round-trip time, the shortest that it ever had, and whether it is in
    /// doubt.
    pub(crate) fn observe(&self, round_trip: Duration, shortest: Duration, suspect: bool) {
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        // Every measurement changes the smoothed time a little.
        if self.round_trip.swap(micros(round_trip), Ordering::Relaxed) != micros(round_trip) {
            self.measured_at
                .store(self.age(Instant::now()), Ordering::Relaxed);
        }
        self.shortest_round_trip
            .store(micros(shortest), Ordering::Relaxed);
        self.suspect.store(suspect, Ordering::Relaxed);
    }

    /// Microseconds of the member's life.
    fn age(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX)
    }

    /// Says whether the link's task looks at the link often.
    pub(crate) fn set_watched(&self, watched: bool) {
        self.watched.store(watched, Ordering::Relaxed);
    }

    /// Has the link's task look at a link that has got its first call.
    pub(crate) fn watch_if_busy(&self) {
        if self.in_flight() > 0 && !self.watched.load(Ordering::Relaxed) {
            self.wake.notify_one();
        }
    }

    /// Waits until the link should be looked at.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Waits until somebody wants to know whether the agent is there.
    pub(crate) async fn asked(&self) {
        self.ask.notified().await;
    }

    /// The agent answered a heartbeat.
    pub(crate) fn answered(&self) {
        self.answers.send_modify(|count| *count += 1);
    }

    /// Whether the agent answers a heartbeat within `time`. A bare agent can't be asked, and counts as there.
    pub(crate) async fn is_there(&self, time: Duration) -> bool {
        if self.peer.place.is_none() {
            return true;
        }
        let mut answers = self.answers.subscribe();
        self.ask.notify_one();
        tokio::time::timeout(time, answers.changed())
            .await
            .is_ok_and(|changed| changed.is_ok())
    }

    /// What it does with new calls.
    pub(crate) fn state(&self) -> State {
        if self.is_retired() || self.paused.load(Ordering::Relaxed) || self.closing().is_some() {
            State::Draining
        } else if self.suspect.load(Ordering::Relaxed) {
            State::Suspect
        } else {
            State::Ready
        }
    }

    /// The round-trip time as it was last observed.
    pub(crate) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip.load(Ordering::Relaxed).into())
    }

    /// Calls that run here now.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Calls begun here so far.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// What one more call would wait here, roughly: the calls that it shares the link with, each a round trip.
    pub(crate) fn cost(&self, now: Instant) -> u128 {
        let measured_at = self.measured_at.load(Ordering::Relaxed);
        let round_trip = if u128::from(self.age(now).saturating_sub(measured_at)) <= FRESH.as_micros() {
            self.round_trip()
        } else {
            let shortest = self.shortest_round_trip.load(Ordering::Relaxed);
            Duration::from_micros(shortest.into()).min(self.round_trip())
        };
        round_trip.max(SAME_PLACE).as_micros() * (self.in_flight() as u128 + 1)
    }

    /// Counts a call until the guard is dropped.
    pub(crate) fn begin(self: Arc<Self>) -> InFlight<L> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    /// Why this end closed the link, if it did.
    pub(crate) fn closing(&self) -> Option<&Closing> {
        self.closed.get()
    }
}

impl Member {
    /// Ends the link now. Calls on it fail, and their clients and the agent are told why; the first reason stands.
    pub(crate) fn close(&self, why: Closing) {
        let why = self.closed.get_or_init(|| why);
        let code = match why {
            Closing::HubStopped | Closing::Drained => Code::NO_ERROR,
            Closing::Dead(_) | Closing::Kicked(_) => Code::REQUEST_CANCELLED,
        };
        self.link.close(code, &why.to_string());
    }
}

impl<L> InFlight<L> {
    /// Who has the call.
    pub(crate) fn member(&self) -> &Member<L> {
        &self.0
    }
}

impl<L> Drop for InFlight<L> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
