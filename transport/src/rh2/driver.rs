//! The one task behind a link: moves HTTP/2's bytes, asks the peer for signs of life, and says the last words.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use h2::{PingPong, RecvStream};
use http::Request;
use rustls::pki_types::CertificateDer;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Sleep, timeout};
use tokio_util::sync::{CancellationToken, PollSender};
use tracing::debug;

use super::frames::GoAway;
use super::pipe::{Pipe, Tap};
use super::pulse::{Beat, Pulse};
use super::readers::Readers;
use super::{h2_reason, link_error};
use crate::carrier::Carrier;
use crate::link::LinkError;
use crate::liveness::Activity;
use crate::rh3::Role;
use crate::rh3::code::Code;
use crate::tuning::Tuning;

/// How long a frame that has begun may take to leave before the link's last words: where it is stuck, they are left out.
const LAST_FRAME: Duration = Duration::from_millis(200);

/// How long the peer may take to hear the last words.
const LINGER: Duration = Duration::from_secs(1);

/// A call that the hub makes, as h2 hands it over.
pub(super) type Incoming = (Request<RecvStream>, h2::server::SendResponse<Bytes>);

/// What a link's handles share with its task.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) carrier: Carrier,
    pub(super) peer: SocketAddr,
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) pipe: Arc<Pipe>,
    pub(super) readers: Arc<Readers>,
    pub(super) max_header_section: u32,
    /// Of the hub: calls at once that the agent allows.
    pub(super) max_calls: AtomicUsize,
    /// Of the hub: told when there may be room for one more call.
    pub(super) room: Notify,
    /// Of the agent: the last call that is looked at.
    pub(super) last_accepted: AtomicU64,
    /// Smoothed, and the shortest of all; microseconds.
    round_trip: AtomicU64,
    shortest_round_trip: AtomicU64,
    wishes: Mutex<Wishes>,
    waker: AtomicWaker,
    end: OnceLock<LinkError>,
    /// The link has ended, and it is known why.
    ended: CancellationToken,
    /// Its last words were said.
    gone: CancellationToken,
    /// The last of the numbered wishes to be heard that has been fulfilled.
    heard: watch::Sender<u64>,
}

/// What the link's handles want of its task.
#[derive(Debug, Default)]
struct Wishes {
    close: Option<(Code, String)>,
    drain: bool,
    /// How often somebody wished to know when the peer has everything that had left by then.
    hear: u64,
}

/// One of the two ends of h2.
pub(super) enum Connection {
    Hub(Box<h2::client::Connection<Tap, Bytes>>),
    Agent(Box<h2::server::Connection<Tap, Bytes>>, PollSender<Incoming>),
}

/// The task of one link.
pub(super) struct Driver {
    connection: Connection,
    shared: Arc<Shared>,
    ping_pong: Option<PingPong>,
    pulse: Pulse,
    timer: Pin<Box<Sleep>>,
    /// GOAWAY was said.
    draining: bool,
    /// How long the peer may be silent.
    idle_timeout: Duration,
    /// The last wish to be heard that the latest PING is the answer to.
    asked: u64,
    /// The last call has left after GOAWAY, and h2 has nothing more to say.
    finished: bool,
    /// Until when the frame that has begun may leave.
    closing: Option<Pin<Box<Sleep>>>,
}

impl Shared {
    pub(super) fn new(
        carrier: Carrier,
        peer: SocketAddr,
        certificates: Vec<CertificateDer<'static>>,
        pipe: Arc<Pipe>,
        tuning: &Tuning,
    ) -> Arc<Self> {
        let micros = u64::try_from(tuning.initial_rtt.as_micros()).unwrap_or(u64::MAX);
        Arc::new(Self {
            carrier,
            peer,
            certificates,
            pipe,
            readers: Readers::new(peer, tuning),
            max_header_section: tuning.max_header_section,
            max_calls: AtomicUsize::new(0),
            room: Notify::new(),
            last_accepted: AtomicU64::new(0),
            round_trip: AtomicU64::new(micros),
            shortest_round_trip: AtomicU64::new(micros),
            wishes: Mutex::default(),
            waker: AtomicWaker::new(),
            end: OnceLock::new(),
            ended: CancellationToken::new(),
            gone: CancellationToken::new(),
            heard: watch::Sender::new(0),
        })
    }

    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip.load(Ordering::Relaxed))
    }

    pub(super) fn shortest_round_trip(&self) -> Duration {
        Duration::from_micros(self.shortest_round_trip.load(Ordering::Relaxed))
    }

    pub(super) fn activity(&self) -> Activity {
        self.pipe.activity()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.pipe.draining.is_cancelled()
    }

    /// Why the link has ended, once it has.
    pub(super) async fn ended(&self) -> LinkError {
        self.ended.cancelled().await;
        self.end.get().cloned().unwrap_or(LinkError::LocallyClosed)
    }

    /// The same now, if it has.
    pub(super) fn end(&self) -> Option<LinkError> {
        self.end.get().cloned()
    }

    /// Waits until the last words were said.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Ends the link now: nothing more of it leaves but the frame that has begun, and `reason`. The first reason stands.
    pub(super) fn close(&self, code: Code, reason: &str) {
        self.pipe.freeze();
        self.wishes()
            .close
            .get_or_insert_with(|| (code, reason.to_owned()));
        self.waker.wake();
    }

    /// Says GOAWAY, and waits until that is heard.
    pub(super) async fn drain(&self) {
        self.wishes().drain = true;
        self.heard().await;
    }

    /// Waits until the peer has everything that has left so far.
    pub(super) async fn heard(&self) {
        let wish = {
            let mut wishes = self.wishes();
            wishes.hear += 1;
            wishes.hear
        };
        self.waker.wake();
        // The sender lives as long as this.
        let _ = self.heard.subscribe().wait_for(|&heard| heard >= wish).await;
    }

    /// Waits until somebody wants the link's end.
    async fn is_to_close(&self) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            match self.wishes().close {
                Some(_) => Poll::Ready(()),
                None => Poll::Pending,
            }
        })
        .await;
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        // Each wish is noted in one step.
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driver {
    pub(super) fn new(
        connection: Connection,
        ping_pong: Option<PingPong>,
        shared: Arc<Shared>,
        tuning: &Tuning,
    ) -> Self {
        let role = match &connection {
            Connection::Hub(_) => Role::Client,
            Connection::Agent(..) => Role::Server,
        };
        Self {
            connection,
            shared,
            ping_pong,
            pulse: Pulse::new(tuning, role, Instant::now().into_std()),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            draining: false,
            idle_timeout: tuning.idle_timeout,
            asked: 0,
            finished: false,
            closing: None,
        }
    }

    /// Runs the link to its end.
    pub(super) async fn run(mut self) {
        // Whoever waits for the link must not wait for a task that is no more.
        let tell = Tell(Arc::clone(&self.shared));
        let end = poll_fn(|cx| self.poll(cx)).await;
        let Self {
            connection,
            shared,
            finished,
            idle_timeout,
            pulse,
            ..
        } = self;
        if finished {
            // What has left may be on its way for long. Calls wait for its arrival, and whoever drains for them.
            let heard = timeout(idle_timeout, shared.pipe.hear_out());
            tokio::select! {
                _ = heard => {}
                () = shared.is_to_close() => {}
            }
        }
        debug!(peer = %shared.peer, reason = %end, "the link ends");
        if pulse.is_overdue(Instant::now().into_std()) {
            // TCP would keep the end to itself until what was sent before is acknowledged, and a peer that is still heard, and hears
            // nothing, would wait for it.
            shared.pipe.abort();
        }
        let closed = match &end {
            LinkError::LocallyClosed if finished => None,
            LinkError::LocallyClosed => shared.wishes().close.clone(),
            LinkError::TimedOut => Some((Code::NO_ERROR, end.to_string())),
            _ => None,
        };
        let _ = shared.end.set(end);
        shared.ended.cancel();
        shared.room.notify_waiters();
        shared.pipe.freeze();
        // Calls fail here.
        drop(connection);
        if let Some((code, reason)) = closed
            && shared.pipe.is_at_boundary()
        {
            let goaway = GoAway {
                last: u32::try_from(shared.last_accepted.load(Ordering::Relaxed)).unwrap_or(0),
                code: h2_reason(code).into(),
                reason: reason.into(),
            };
            // Whoever doesn't listen learns from the connection's end.
            let _ = timeout(LINGER, shared.pipe.say_goodbye(&goaway)).await;
        }
        drop(tell);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkError> {
        self.shared.waker.register(cx.waker());
        let (close, drain, hear) = {
            let wishes = self.shared.wishes();
            (wishes.close.is_some(), wishes.drain, wishes.hear)
        };
        if close {
            return self.poll_close(cx);
        }
        if drain && !self.draining {
            self.draining = true;
            if let Connection::Agent(connection, _) = &mut self.connection {
                connection.graceful_shutdown();
            }
        }
        if hear > self.asked {
            self.pulse.ask();
        }
        loop {
            if let Poll::Ready(ended) = self.connection.poll(cx, &self.shared) {
                self.finished = self.draining && ended.is_ok() && !self.shared.pipe.has_ended();
                if self.finished {
                    return Poll::Ready(LinkError::LocallyClosed);
                }
                return Poll::Ready(link_error(ended, &self.shared.pipe));
            }
            self.look_for_pong(cx);
            let look_again = self.shared.readers.check(&self.shared.pipe);
            let next = match self.pulse.beat(self.shared.activity(), Instant::now().into_std()) {
                Beat::TimedOut => return Poll::Ready(LinkError::TimedOut),
                Beat::Ping => {
                    self.asked = hear;
                    if let Some(ping_pong) = &mut self.ping_pong {
                        // It fails when the connection does, or for one that is under way, which there is none of.
                        let _ = ping_pong.send_ping(h2::Ping::opaque());
                    }
                    continue;
                }
                Beat::Overdue => {
                    self.shared.pipe.wants_sign();
                    continue;
                }
                Beat::Until(next) => next,
            };
            let next = Instant::from_std(look_again.map_or(next, |again| again.min(next)));
            if self.timer.is_elapsed() || next < self.timer.deadline() {
                self.timer.as_mut().reset(next);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Lets the frame that has begun leave.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<LinkError> {
        let closing = self
            .closing
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LAST_FRAME)));
        if self.shared.pipe.is_at_boundary()
            || self.connection.poll(cx, &self.shared).is_ready()
            || self.shared.pipe.is_at_boundary()
            || closing.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(LinkError::LocallyClosed);
        }
        Poll::Pending
    }

    fn look_for_pong(&mut self, cx: &mut Context<'_>) {
        let Some(ping_pong) = &mut self.ping_pong else {
            return;
        };
        while let Poll::Ready(Ok(_)) = ping_pong.poll_pong(cx) {
            let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            if let Some(sample) = self.pulse.pong(Instant::now().into_std()) {
                self.shared
                    .shortest_round_trip
                    .fetch_min(micros(sample), Ordering::Relaxed);
            }
            if let Some(round_trip) = self.pulse.round_trip() {
                self.shared
                    .round_trip
                    .store(micros(round_trip), Ordering::Relaxed);
            }
            self.shared
                .heard
                .send_if_modified(|heard| std::mem::replace(heard, self.asked) < self.asked);
        }
    }
}

impl Connection {
    /// Moves bytes. Ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Poll<Result<(), h2::Error>> {
        match self {
            Self::Hub(connection) => {
                let ended = Pin::new(&mut **connection).poll(cx);
                let now = connection.max_concurrent_send_streams();
                if shared.max_calls.swap(now, Ordering::Relaxed) < now {
                    shared.room.notify_waiters();
                }
                ended
            }
            Self::Agent(connection, calls) => loop {
                // A call is taken from h2 when there is room to hand it over.
                match calls.poll_reserve(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) | Poll::Pending => return connection.poll_closed(cx),
                }
                match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok(call))) => drop(calls.send_item(call)),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => return Poll::Pending,
                }
            },
        }
    }
}

/// Tells everybody that the link is no more, however its task ends.
struct Tell(Arc<Shared>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.ended.cancel();
        self.0.room.notify_waiters();
        self.0.pipe.let_go();
        self.0.gone.cancel();
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}
