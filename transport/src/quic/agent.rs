//! The agent's end of a `quic` link: the HTTP server.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use http::{Request, Response};
use quinn::{Connection, Endpoint};
use rustls::pki_types::CertificateDer;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, debug, info, warn};

use super::control::{self, GoAway, Peer};
use super::readers::Readers;
use super::receive::{MessageReader, ReceiveError, ReceivedBody};
use super::send::send_message;
use super::stream::{RecvHalf, SendHalf, Senders};
use super::{activity, certificates, close, endpoint};
use crate::body::Body;
use crate::link::{LinkError, Reset, Standing};
use crate::liveness::Activity;
use crate::network::Way;
use crate::rh3::code::Code;
use crate::rh3::{Role, head};
use crate::running::{Count, Running};
use crate::tuning::Tuning;

/// So many calls are accepted at a time before those accepted run, and their answers leave: a burst of calls then
/// doesn't have its first answer wait for its last.
const BUNCH: usize = 16;

/// How long the hub may take to send a request's head once it has opened the stream.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The agent's end of one link.
#[derive(Debug)]
pub(crate) struct Link {
    endpoint: Endpoint,
    connection: Connection,
    certificates: Vec<CertificateDer<'static>>,
    peer: Arc<Peer>,
    readers: Arc<Readers>,
    senders: Arc<Senders>,
    max_header_section: u32,
    accepting: Mutex<Accepting>,
    goaways: mpsc::Sender<GoAway>,
    running: Arc<Count>,
    _control: AbortOnDropHandle<()>,
    _moving: AbortOnDropHandle<()>,
}

/// Which of the hub's streams are served.
#[derive(Debug)]
struct Accepting {
    /// The first that has not been accepted.
    next: u64,
    draining: bool,
}

/// The hub's first bidirectional stream, as QUIC's server (RFC 9000 §2.1); its others follow in steps of four.
const FIRST_STREAM: u64 = 1;
const STREAM_STEP: u64 = 4;

impl Link {
    pub(super) fn new(endpoint: Endpoint, connection: Connection, tuning: &Tuning) -> Self {
        let peer = Arc::new(Peer::new());
        let (goaways, wished) = mpsc::channel(1);
        let senders = Arc::new(Senders::default());
        let control = {
            let (connection, peer, senders) = (connection.clone(), Arc::clone(&peer), Arc::clone(&senders));
            let max_header_section = tuning.max_header_section;
            async move {
                control::watch(
                    &connection,
                    &peer,
                    &senders,
                    Role::Server,
                    max_header_section,
                    wished,
                )
                .await;
            }
        };
        let moving = move_along(endpoint.clone(), connection.clone(), tuning.socket_buffer);
        Self {
            readers: Readers::new(connection.clone(), tuning),
            endpoint,
            certificates: certificates(&connection),
            connection,
            peer,
            senders,
            max_header_section: tuning.max_header_section,
            accepting: Mutex::new(Accepting {
                next: FIRST_STREAM,
                draining: false,
            }),
            goaways,
            running: Arc::default(),
            _control: AbortOnDropHandle::new(tokio::spawn(control.in_current_span())),
            _moving: AbortOnDropHandle::new(tokio::spawn(moving.in_current_span())),
        }
    }

    pub(crate) async fn serve<H, F>(&self, handler: H) -> LinkError
    where
        H: Fn(Request<Body>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<Response<Body>, Reset>> + Send + 'static,
    {
        let mut calls = JoinSet::new();
        let mut accepted = 0_usize;
        loop {
            accepted += 1;
            if accepted.is_multiple_of(BUNCH) {
                tokio::task::yield_now().await;
            }
            let (send, recv) = match self.connection.accept_bi().await {
                Ok(stream) => stream,
                Err(lost) => return lost.into(),
            };
            // Calls that have ended are let go here: to wait for each would wake this task once more for every call.
            // One that panicked has reset its stream, and is no concern of the others.
            while calls.try_join_next().is_some() {}
            // Wrapped here, because a task can be dropped before it first runs.
            let mut send = SendHalf::new(send, &self.senders);
            // A handler may answer before it has read all of the request: to stop there is no error
            // (RFC 9114 §4.1.1).
            let mut recv = RecvHalf::new(recv, Code::NO_ERROR);
            let Some(running) = self.admit(send.id()) else {
                send.reset(Code::REQUEST_REJECTED);
                recv.stop(Code::REQUEST_REJECTED);
                continue;
            };
            let call = Call {
                running,
                peer: Arc::clone(&self.peer),
                readers: Arc::clone(&self.readers),
                max_header_section: self.max_header_section,
            };
            // Boxed, because a task moves its future several times before it runs, and this one is large.
            calls.spawn(Box::pin(call.run(send, recv, handler.clone())));
        }
    }

    /// Counts a call in, unless the link drains. Every stream below the id in the GOAWAY is served, and none above it.
    fn admit(&self, stream: u64) -> Option<Running> {
        let mut accepting = self.accepting();
        if accepting.draining {
            return None;
        }
        accepting.next = stream + STREAM_STEP;
        Some(Running::new(&self.running))
    }

    fn accepting(&self) -> MutexGuard<'_, Accepting> {
        // Nothing panics under this lock.
        self.accepting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn drain(&self) {
        self.running.wait_for();
        let first = {
            let mut accepting = self.accepting();
            let already = std::mem::replace(&mut accepting.draining, true);
            (!already).then_some(accepting.next)
        };
        let (sent, goaway_sent) = oneshot::channel();
        match first {
            // There is room for the one that is ever sent, unless the link has ended.
            Some(first) => drop(self.goaways.try_send(GoAway { first, sent })),
            None => drop(sent),
        }
        let told = async {
            // It fails at once for whoever drains a link again, and where the frame cannot be sent.
            let _ = goaway_sent.await;
            control::heard(&self.connection, &self.senders).await;
        };
        tokio::select! {
            _ = async { tokio::join!(told, self.running.none_left()) } => {}
            // Whoever serves it may not have seen that yet.
            _ = self.connection.closed() => {}
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.running.count()
    }

    pub(crate) fn receiving(&self) -> usize {
        self.readers.count()
    }

    pub(crate) fn activity(&self) -> Activity {
        activity(&self.connection)
    }

    pub(crate) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    pub(crate) fn round_trip(&self) -> Duration {
        self.connection.rtt()
    }

    pub(crate) async fn closed(&self) {
        self.endpoint.wait_idle().await;
    }

    pub(crate) fn close(&self, code: Code, reason: &str) {
        close(&self.connection, code, reason.as_bytes());
    }
}

/// Moves the link to another socket whenever this machine's packets take another way to the hub, or have one again: the
/// hub hears of it at once, and what was lost on the old way is sent again.
async fn move_along(endpoint: Endpoint, connection: Connection, socket_buffer: u32) {
    let hub = connection.remote_address();
    let mut way = Way::to(vec![hub]);
    loop {
        way.changed().await;
        match endpoint::socket_towards(hub, socket_buffer).and_then(|socket| endpoint.rebind(socket)) {
            Ok(()) => info!(%hub, "this machine's way to the hub has changed, and the link moves with it"),
            // The old socket goes on, from whatever address the system gives its packets.
            Err(error) => {
                warn!(%hub, %error, "cannot open another socket for the link, whose way has changed");
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close(Code::NO_ERROR, "the agent let the link go");
    }
}

/// One call that the hub makes.
struct Call {
    running: Running,
    peer: Arc<Peer>,
    readers: Arc<Readers>,
    max_header_section: u32,
}

impl Call {
    async fn run<F>(self, mut send: SendHalf, recv: RecvHalf, handler: impl Fn(Request<Body>) -> F)
    where
        F: Future<Output = Result<Response<Body>, Reset>>,
    {
        let mut reader = MessageReader::new(Role::Server, self.readers.enter(recv), self.max_header_section);
        let request = match tokio::time::timeout(HEAD_TIMEOUT, reader.request_head()).await {
            Ok(Ok(request)) => request.map(|()| Body::new(ReceivedBody::new(reader, None))),
            Ok(Err(error)) => {
                debug!(%error, "a request could not be read");
                return send.reset(refusal(&error));
            }
            Err(_) => return send.reset(Code::REQUEST_INCOMPLETE),
        };

        let answer = {
            let mut stopped = pin!(send.stopped());
            let mut answering = pin!(handler(request));
            tokio::select! {
                biased;
                answer = &mut answering => answer,
                // The hub gave the call up: whoever works on it learns by being dropped.
                _ = &mut stopped => Err(Reset(Code::REQUEST_CANCELLED)),
            }
        };
        let response = match answer {
            Ok(response) => response,
            Err(Reset(code)) => return send.reset(code),
        };

        let (parts, body) = response.into_parts();
        let standing = parts.extensions.get::<Standing>().is_some();
        if standing {
            send.raise_priority();
        }
        let running = (!standing).then_some(self.running);
        let mut head = BytesMut::with_capacity(256);
        let size = head::encode_response(parts.status, &parts.headers, &mut head);
        if size > self.peer.max_header_section() {
            debug!(size, "a response's metadata is longer than the hub takes");
            return send.reset(Code::EXCESSIVE_LOAD);
        }
        // A failure needs no word here: the stream has been reset, or the hub wanted no more, or the link is gone.
        let sent = send_message(&mut send, head, body).await.is_ok();
        if sent
            && running
                .as_ref()
                .is_some_and(|running| send.is_bulk() || running.is_waited_for())
        {
            // To end the link would lose what has not arrived. Of a small response that is nothing after a moment, and no
            // reason to wake this task once more.
            let _ = send.stopped().await;
        }
    }
}

/// The code that answers a request that could not be read.
fn refusal(error: &ReceiveError) -> Code {
    match error {
        ReceiveError::Reset(_) | ReceiveError::LinkLost(_) | ReceiveError::SlowReader => {
            Code::REQUEST_CANCELLED
        }
        ReceiveError::HeaderSectionTooLarge => Code::EXCESSIVE_LOAD,
        ReceiveError::Malformed(error) => error.code,
    }
}
