//! The agent's end of a link over TCP: the HTTP server.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use h2::Reason;
use http::{Request, Response};
use rustls::pki_types::CertificateDer;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::PollSender;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, debug, info};

use super::driver::{Connection, Driver, Incoming, Shared};
use super::pipe::{Pipe, Tap};
use super::receive::ReceivedBody;
use super::send::Sending;
use super::{SEND_BUFFER, advertised_headers, carried, h2_reset, link_error, link_window, section_size};
use crate::body::Body;
use crate::carrier::Carrier;
use crate::link::{LinkError, Reset, Standing};
use crate::liveness::Activity;
use crate::network::{self, Way};
use crate::rh3::Role;
use crate::rh3::code::Code;
use crate::running::{Count, Running};
use crate::tuning::Tuning;
use crate::wire::Wire;

/// Calls that h2 has handed over and nobody has looked at yet.
const QUEUE: usize = 64;

/// So many calls are accepted at a time before those accepted run, and their answers leave: a burst of calls then
/// doesn't have its first answer wait for its last.
const BUNCH: usize = 16;

/// How long the hub may take to show that it has heard a GOAWAY.
const HEARING_TIMEOUT: Duration = Duration::from_secs(3);

/// The agent's end of one link.
#[derive(Debug)]
pub(crate) struct Link {
    shared: Arc<Shared>,
    calls: Mutex<mpsc::Receiver<Incoming>>,
    /// Calls that come are refused.
    draining: AtomicBool,
    running: Arc<Count>,
    /// Ends the link with its address.
    _leaving: Option<AbortOnDropHandle<()>>,
}

impl Link {
    /// Speaks HTTP/2 on `wire` until the hub has, too.
    pub(crate) async fn establish(
        carrier: Carrier,
        peer: SocketAddr,
        certificates: Vec<CertificateDer<'static>>,
        wire: Box<dyn Wire>,
        tuning: &Tuning,
    ) -> Result<Self, LinkError> {
        let pipe = Pipe::new(wire, Role::Server);
        let mut connection = h2::server::Builder::new()
            .initial_window_size(tuning.stream_window)
            .initial_connection_window_size(link_window(tuning))
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(advertised_headers(tuning))
            .max_concurrent_streams(tuning.max_calls)
            // The hub gives calls up as its clients do, and closing the link would end all the others.
            .max_pending_accept_reset_streams(tuning.max_calls as usize)
            .max_local_error_reset_streams(None)
            .max_concurrent_reset_streams(tuning.max_calls as usize)
            .handshake(Tap(Arc::clone(&pipe)))
            .await
            .map_err(|error| link_error(Err(error), &pipe))?;
        let shared = Shared::new(carrier, peer, certificates, pipe, tuning);
        let ping_pong = connection.ping_pong();
        let (accepted, calls) = mpsc::channel(QUEUE);
        let connection = Connection::Agent(Box::new(connection), PollSender::new(accepted));
        let driver = Driver::new(connection, ping_pong, Arc::clone(&shared), tuning);
        // It ends with the link, within a second: whoever lets go of the link has it say goodbye.
        tokio::spawn(driver.run().in_current_span());
        Ok(Self {
            shared,
            calls: Mutex::new(calls),
            draining: AtomicBool::new(false),
            running: Arc::default(),
            _leaving: None,
        })
    }

    /// The same, of a connection that goes out from this machine's address `local`, and ends with it.
    pub(crate) fn bound_to(mut self, local: IpAddr) -> Self {
        let leaving = leave_with(local, Arc::clone(&self.shared), Arc::clone(&self.running));
        self._leaving = Some(AbortOnDropHandle::new(tokio::spawn(leaving.in_current_span())));
        self
    }

    pub(crate) async fn serve<H, F>(&self, handler: H) -> LinkError
    where
        H: Fn(Request<Body>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<Response<Body>, Reset>> + Send + 'static,
    {
        let mut incoming = self.calls.lock().await;
        let mut calls = JoinSet::new();
        let mut accepted = 0_usize;
        loop {
            accepted += 1;
            if accepted.is_multiple_of(BUNCH) {
                tokio::task::yield_now().await;
            }
            let Some((request, mut respond)) = incoming.recv().await else {
                return self.shared.ended().await;
            };
            // Calls that have ended are let go here: to wait for each would wake this task once more for every call.
            while calls.try_join_next().is_some() {}
            if self.draining.load(Ordering::Acquire) {
                respond.send_reset(Reason::REFUSED_STREAM);
                continue;
            }
            let stream = respond.stream_id().as_u32();
            self.shared.last_accepted.store(stream.into(), Ordering::Relaxed);
            let call = Call {
                running: Running::new(&self.running),
                shared: Arc::clone(&self.shared),
            };
            calls.spawn(Box::pin(call.run(request, respond, handler.clone())));
        }
    }

    pub(crate) async fn drain(&self) {
        self.running.wait_for();
        self.draining.store(true, Ordering::Release);
        let told = tokio::time::timeout(HEARING_TIMEOUT, self.shared.drain());
        tokio::select! {
            _ = async { tokio::join!(told, self.running.none_left()) } => {}
            _ = self.shared.ended() => {}
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.running.count()
    }

    pub(crate) fn receiving(&self) -> usize {
        self.shared.readers.count()
    }

    pub(crate) fn activity(&self) -> Activity {
        self.shared.activity()
    }

    pub(crate) fn carrier(&self) -> Carrier {
        self.shared.carrier
    }

    pub(crate) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.shared.certificates
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.shared.peer
    }

    pub(crate) fn round_trip(&self) -> Duration {
        self.shared.round_trip()
    }

    pub(crate) async fn closed(&self) {
        self.shared.gone().await;
    }

    pub(crate) fn close(&self, code: Code, reason: &str) {
        self.shared.close(code, reason);
    }
}

/// Ends the link when it can't be used any more, or had better be made anew: TCP stays with the address that it began at.
async fn leave_with(local: IpAddr, shared: Arc<Shared>, running: Arc<Count>) {
    let mut way = Way::to(vec![shared.peer]);
    loop {
        way.changed().await;
        let gone = !network::is_here(local);
        let hub = shared.peer;
        if gone || running.count() == 0 {
            info!(%hub, %local, gone, "this machine's way to the hub has changed: the link ends, and another follows");
            shared.close(Code::NO_ERROR, "the agent's way to the hub has changed");
        } else {
            // It may go on, and is given up within seconds if it doesn't.
            debug!(%hub, %local, "this machine's way to the hub has changed, and the link has calls");
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
    shared: Arc<Shared>,
}

impl Call {
    async fn run<F>(
        self,
        request: Request<h2::RecvStream>,
        respond: h2::server::SendResponse<bytes::Bytes>,
        handler: impl Fn(Request<Body>) -> F,
    ) where
        F: Future<Output = Result<Response<Body>, Reset>>,
    {
        let mut respond = Responding(Some(respond));
        let limit = self.shared.max_header_section as usize;
        let size = section_size(request.headers());
        if size > limit {
            debug!(size, limit, "a request's metadata is longer than this end takes");
            return respond.reset(Code::EXCESSIVE_LOAD);
        }
        let request = request.map(|recv| match recv.is_end_stream() {
            true => Body::empty(),
            false => Body::new(ReceivedBody::new(&self.shared, recv)),
        });
        let answer = {
            let mut answering = pin!(handler(request));
            poll_fn(|cx| match answering.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(answer),
                // The hub gave the call up: whoever works on it learns by being dropped.
                Poll::Pending => respond
                    .poll_reset(cx)
                    .map(|()| Err(Reset(Code::REQUEST_CANCELLED))),
            })
            .await
        };
        let response = match answer {
            Ok(response) => response,
            Err(Reset(code)) => return respond.reset(code),
        };

        let (mut parts, body) = response.into_parts();
        let standing = parts.extensions.get::<Standing>().is_some();
        let running = (!standing).then_some(self.running);
        parts.headers = carried(parts.headers);
        parts.version = http::Version::HTTP_2;
        let size = section_size(&parts.headers);
        let taken = self.shared.pipe.max_header_list.load(Ordering::Relaxed) as usize;
        if size > taken.min(limit) {
            debug!(size, "a response's metadata is longer than the hub takes");
            return respond.reset(Code::EXCESSIVE_LOAD);
        }
        let ended = http_body::Body::is_end_stream(&body);
        let is_waited_for = |bulk: bool| {
            running
                .as_ref()
                .is_some_and(|running| bulk || running.is_waited_for())
        };
        // To be asked for before the end is made.
        let mut left = (ended && is_waited_for(false)).then(|| self.shared.pipe.end_of(respond.id()));
        let Some(stream) = respond.send(Response::from_parts(parts, ()), ended) else {
            return;
        };
        let mut sending = Sending::new(body, stream);
        if !ended {
            // A failure needs no word here: the stream has been reset, or the hub wanted no more, or the link is gone.
            let Ok(last) = poll_fn(|cx| sending.poll(cx)).await else {
                return;
            };
            left =
                is_waited_for(sending.is_bulk(&last)).then(|| self.shared.pipe.end_of(sending.stream_id()));
            sending.finish(last);
        }
        if let Some(mut left) = left {
            // To end the link would lose what has not arrived.
            let stopped = poll_fn(|cx| match pin!(&mut left).poll(cx) {
                Poll::Ready(_) => Poll::Ready(false),
                Poll::Pending => sending.poll_stopped(cx).map(|()| true),
            });
            if !stopped.await {
                tokio::select! {
                    () = self.shared.heard() => {}
                    _ = self.shared.ended() => {}
                }
            }
        }
    }
}

/// The answer to a call, which is reset unless it is given.
struct Responding(Option<h2::server::SendResponse<bytes::Bytes>>);

impl Responding {
    fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, |respond| respond.stream_id().as_u32())
    }

    fn reset(&mut self, code: Code) {
        if let Some(mut respond) = self.0.take() {
            respond.send_reset(h2_reset(code));
        }
    }

    fn poll_reset(&mut self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(respond) => respond.poll_reset(cx).map(drop),
            None => Poll::Ready(()),
        }
    }

    /// `None` for a call that is no more.
    fn send(&mut self, head: Response<()>, ended: bool) -> Option<h2::SendStream<bytes::Bytes>> {
        let mut respond = self.0.take()?;
        match respond.send_response(head, ended) {
            Ok(stream) => Some(stream),
            Err(error) => {
                debug!(%error, "a response could not be sent");
                respond.send_reset(Reason::INTERNAL_ERROR);
                None
            }
        }
    }
}

impl Drop for Responding {
    fn drop(&mut self) {
        self.reset(if std::thread::panicking() {
            Code::INTERNAL_ERROR
        } else {
            Code::REQUEST_CANCELLED
        });
    }
}
