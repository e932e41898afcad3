//! The clients' ports: HTTP/2 connections, with TLS or without, and what they may cost; and, where there is a port for it, raw TCP.
//!
//! A connection is *opened* (TLS handshake, HTTP/2 preface: each within a time, and none holds up another), counted for
//! its [`Principal`], and *served* until its client leaves, the hub drains, or the client breaks a rule.

mod bucket;
mod identify;
mod limits;
mod preface;
mod raw;
mod service;
mod tls;
mod wire;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, debug, field, info, info_span, warn};

use crate::call::{Calls, MAX_HEADER_SECTION};
use crate::principal::Principal;
use bucket::Bucket;
use identify::Identified;
use limits::{Clients, Connected, Full};
use preface::Prefaced;
use service::Service;
use wire::{Callless, Turn, Wire};

pub use limits::{
    Limits, MAX_CALLS_PER_CLIENT, MAX_CLIENT_HANDSHAKES, MAX_CONNECTIONS, MAX_CONNECTIONS_PER_CLIENT, RAPID,
    RAPID_RESETS, RAPID_RESETS_PER_SECOND,
};
pub(crate) use preface::expect as prefaced;
pub use raw::RAW_ANSWER_TIMEOUT;
pub use tls::{ClientTls, ExposedClients, InvalidClientTls};
pub(crate) use tls::{HTTP2, clients_tls};

/// Streams at once on one connection; a client with more calls waits, or opens another connection.
pub const MAX_STREAMS: u32 = 1024;

/// What a client may send on one stream before the agent has taken it: 1 MiB fills 100 Mbit/s at 80 ms.
const STREAM_WINDOW: u32 = 1 << 20;

/// The same over all streams of one connection. hyper can't raise it for uploads that stand still, so it is large
/// enough for a hundred and more of them beside the live ones.
const CONNECTION_WINDOW: u32 = 128 << 20;

/// Bytes of responses that wait for one stream's client: one window's worth is enough to keep it busy.
const SEND_BUFFER: usize = 64 << 10;

/// h2's own limit for header sections. Above ours, because h2 answers an excess with HTTP 431, which gRPC doesn't know,
/// and closes the whole connection beyond four times this.
const H2_HEADER_SECTION: u32 = 256 << 10;
const _: () = assert!(H2_HEADER_SECTION as usize > MAX_HEADER_SECTION);

/// Streams that a client has opened and reset before the hub has looked at them. h2's own limit of 20 closes the
/// connection of a client that gives up some calls at a time while the hub is busy; rapid resets are counted below.
const RESET_UNSEEN: usize = MAX_STREAMS as usize;

/// How long a client may take for its TLS handshake and to say that it speaks HTTP/2,
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);

/// and how long, when the hub drains.
const LAST_OPENING: Duration = Duration::from_secs(1);

/// A connection on which nothing comes for this long is asked whether it lives,
const PING_INTERVAL: Duration = Duration::from_secs(60);

/// and closed when it doesn't answer within this.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long to wait when the system has no socket left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long connections have for the last bytes of calls that the hub has ended.
pub(crate) const FLUSH: Duration = Duration::from_secs(1);

/// Log lines about refused clients at once,
const REFUSALS_LOGGED: u32 = 20;

/// and further ones each second. Who is refused can come again as often as it likes.
const REFUSALS_LOGGED_PER_SECOND: u32 = 1;

/// A port of clients, before it serves.
#[derive(Debug)]
pub(crate) struct Ingress {
    listener: TcpListener,
    shared: Arc<Shared>,
    connections: usize,
    open: Connections,
    /// Held by the first port, and by each connection of any.
    _first: Option<Arc<()>>,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    /// HTTP/2, with gRPC in it.
    Http2,
    /// A line of JSON, and then bytes of any kind.
    Bytes,
}

/// Tells how many connections there are.
#[derive(Clone, Debug)]
pub(crate) struct Connections(Weak<()>);

/// What tells an ingress to stop, in two steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stopping {
    /// No new connections and calls from now on; those calls that run go on.
    pub(crate) drain: CancellationToken,
    /// The calls that still run are being ended: connections get [`FLUSH`] to say so.
    pub(crate) end: CancellationToken,
}

/// What all connections of a port share. What one client may take, it may take on all ports together.
#[derive(Debug)]
struct Shared {
    speaks: Speaks,
    calls: Arc<Calls>,
    tls: Option<Arc<ServerConfig>>,
    handshakes: Arc<Semaphore>,
    clients: Arc<Clients>,
    refusals: Arc<Bucket>,
    /// How old connections get, give or take a tenth.
    age: Option<Duration>,
    stopping: Stopping,
}

impl Connections {
    /// Those that are open at this moment.
    pub(crate) fn count(&self) -> usize {
        // One more holds it: the first port itself.
        self.0.strong_count().saturating_sub(1)
    }
}

impl Stopping {
    /// Ready once there is any word of stopping.
    async fn told(&self) {
        tokio::select! {
            () = self.drain.cancelled() => {}
            () = self.end.cancelled() => {}
        }
    }
}

impl Ingress {
    /// Takes connections from `listener`, with TLS where `tls` is given.
    pub(crate) fn new(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        limits: &Limits,
        calls: Arc<Calls>,
        stopping: Stopping,
    ) -> Self {
        let first = Arc::default();
        let handshakes = limits.handshakes.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            listener,
            connections: limits.connections.clamp(1, Semaphore::MAX_PERMITS),
            open: Connections(Arc::downgrade(&first)),
            _first: Some(first),
            shared: Arc::new(Shared {
                speaks: Speaks::Http2,
                calls,
                tls,
                handshakes: Arc::new(Semaphore::new(handshakes)),
                clients: Clients::new(limits),
                refusals: Arc::new(Bucket::new(REFUSALS_LOGGED, REFUSALS_LOGGED_PER_SECOND)),
                age: limits.connection_age,
                stopping,
            }),
        }
    }

    /// A further port of the same clients, for raw TCP. It has connections of its own, as many as the first.
    pub(crate) fn for_bytes(&self, listener: TcpListener, tls: Option<Arc<ServerConfig>>) -> Self {
        let Shared {
            calls,
            handshakes,
            clients,
            refusals,
            stopping,
            ..
        } = &*self.shared;
        Self {
            listener,
            connections: self.connections,
            open: self.open.clone(),
            _first: None,
            shared: Arc::new(Shared {
                speaks: Speaks::Bytes,
                calls: Arc::clone(calls),
                tls,
                handshakes: Arc::clone(handshakes),
                clients: Arc::clone(clients),
                refusals: Arc::clone(refusals),
                age: None,
                stopping: stopping.clone(),
            }),
        }
    }

    /// Tells how many connections there are on all ports, for as long as the first serves.
    pub(crate) fn open(&self) -> Connections {
        self.open.clone()
    }

    /// Where it listens.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is told to stop and all connections have ended, or until it is dropped, which drops them all.
    ///
    /// While draining, the port is closed, so that clients go to another hub; each connection is sent GOAWAY, in two
    /// steps (RFC 9113 §6.8), and ends with its last call.
    pub(crate) async fn serve(self) {
        let Self {
            listener,
            shared,
            connections: most,
            open,
            _first,
        } = self;
        let room = Arc::new(Semaphore::new(most));
        let mut connections = JoinSet::new();
        let stopping = shared.stopping.clone();
        let serve = |(stream, peer), permit| {
            let shared = Arc::clone(&shared);
            let open = open.0.upgrade();
            let span = info_span!("client", %peer, name = field::Empty);
            async move {
                let (_permit, _open) = (permit, open);
                shared.connection(stream, peer).await;
            }
            .instrument(span)
        };
        loop {
            let accept = async {
                let permit = Arc::clone(&room).acquire_owned().await.ok();
                (listener.accept().await, permit)
            };
            tokio::select! {
                (accepted, permit) = accept => match accepted {
                    Ok(accepted) => {
                        connections.spawn(serve(accepted, permit));
                    }
                    Err(error) => {
                        warn!(%error, "cannot accept a client's connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                () = stopping.told() => break,
            }
        }
        // The system has accepted these already, and would reset them with what their clients have sent.
        while let Ok(permit) = Arc::clone(&room).try_acquire_owned()
            && let Some(Ok(accepted)) = listener.accept().now_or_never()
        {
            connections.spawn(serve(accepted, Some(permit)));
        }
        drop(listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        let flushed = async {
            stopping.end.cancelled().await;
            tokio::time::sleep(FLUSH).await;
        };
        tokio::select! {
            () = ended => {}
            () = flushed => debug!("connections of clients are closed before their last bytes are sent"),
        }
    }
}

impl Shared {
    /// The life of one connection.
    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        match self.speaks {
            Speaks::Http2 => self.http2(stream, peer).await,
            Speaks::Bytes => self.bytes(stream, peer).await,
        }
    }

    /// The life of one connection for gRPC.
    async fn http2(&self, stream: TcpStream, peer: SocketAddr) {
        // Small answers must not wait for the acknowledgement of the last one.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "cannot turn Nagle's algorithm off");
        }
        let nameless = Principal {
            name: None,
            address: tls::address(peer),
        };
        let connected = self.clients.connect(&nameless);
        match (&self.tls, connected) {
            (None, Ok(connected)) => {
                let opened = self.in_time(self.preface(stream)).await.flatten();
                if let Some(stream) = opened {
                    self.serve(stream, nameless, connected).await;
                }
            }
            (None, Err(full)) => self.refuse(stream, &nameless, full).await,
            (Some(tls), Ok(connected)) => self.secured(stream, tls, nameless, connected).await,
            // A handshake would cost more than the client is to have.
            (Some(_), Err(full)) => self.log_refusal(&too_many(&nameless, full)),
        }
    }

    /// The life of one connection with TLS.
    async fn secured(
        &self,
        stream: TcpStream,
        tls: &Arc<ServerConfig>,
        nameless: Principal,
        connected: Connected,
    ) {
        let (stream, principal, connected) = match self.identify(stream, tls, nameless, connected).await {
            Identified::Client(stream, principal, connected) => (stream, principal, connected),
            Identified::Full(mut stream, principal, full) => {
                return self.refuse(&mut stream, &principal, full).await;
            }
            Identified::Failed | Identified::TooMany => return,
        };
        if principal.name.is_some() {
            info!("a client is connected");
        }
        if let Some(Some(stream)) = self.in_time(self.preface(stream)).await {
            self.serve(stream, principal, connected).await;
        }
    }

    /// What comes of `opening` a connection, within the time that it has; `None` after that.
    async fn in_time<T>(&self, opening: impl Future<Output = T>) -> Option<T> {
        let hurried = async {
            self.stopping.told().await;
            tokio::time::sleep(LAST_OPENING).await;
        };
        tokio::select! {
            opened = timeout(OPENING_TIMEOUT, opening) => opened.ok().or_else(|| {
                debug!("a client took too long to open its connection");
                None
            }),
            () = hurried => None,
        }
    }

    /// Serves HTTP/2 until one side has had enough.
    async fn serve<S>(&self, stream: Prefaced<S>, principal: Principal, connected: Connected)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = Arc::new(Service::new(Arc::clone(&self.calls), principal, connected));
        let span = Span::current();
        let calls = Arc::clone(&service);
        let calls = service_fn(move |request| {
            let service = Arc::clone(&calls);
            // It is large, and hyper and tokio move it several times on its way into a task.
            Box::pin(async move { service.call(request).await }.instrument(span.clone()))
        });
        let turn = Turn::default();
        let served = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            // A date would be one more piece of metadata that the service did not send.
            .auto_date_header(false)
            .max_concurrent_streams(MAX_STREAMS)
            .max_pending_accept_reset_streams(RESET_UNSEEN)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(H2_HEADER_SECTION)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(TokioIo::new(Wire::of(stream, turn.clone())), calls);
        let mut served = std::pin::pin!(served);
        let mut aged = std::pin::pin!(aged(self.age));
        let mut draining = false;
        loop {
            tokio::select! {
                ended = poll_fn(|cx| {
                    turn.begin();
                    served.as_mut().poll(cx)
                }) => {
                    return match ended.err() {
                        None => debug!("a client's connection ended"),
                        Some(error) => match broken_rule(&error) {
                            Some(rule) => self.log_refusal(&rule),
                            None => debug!(%error, "a client's connection ended"),
                        },
                    };
                }
                () = service.abused() => {
                    return self.log_refusal("it gives up calls as fast as it makes them");
                }
                () = self.stopping.told(), if !draining => {
                    served.as_mut().graceful_shutdown();
                    draining = true;
                }
                () = &mut aged, if !draining => {
                    debug!("a client's connection is old: its next calls need another one");
                    served.as_mut().graceful_shutdown();
                    draining = true;
                }
            }
        }
    }

    /// The connection, if its client speaks HTTP/2.
    async fn preface<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Option<Prefaced<S>> {
        match preface::expect(stream).await {
            Ok(Some(stream)) => return Some(stream),
            Ok(None) => self.log_refusal("it does not speak HTTP/2"),
            Err(error) => debug!(%error, "a client left before its first request"),
        }
        None
    }

    /// Closes an HTTP/2 connection that is one too many.
    async fn refuse<S>(&self, mut stream: S, principal: &Principal, full: Full)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let reason = too_many(principal, full);
        self.log_refusal(&reason);
        let _ = timeout(LAST_OPENING, preface::calm_down(&mut stream, &reason)).await;
    }

    /// One line, unless there have been many; the span says which client it is about.
    fn log_refusal(&self, reason: &str) {
        if self.refusals.take() {
            warn!(reason, "closed a client's connection");
        } else {
            debug!(reason, "closed a client's connection");
        }
    }
}

/// Ready once a connection that begins now is old. Some are it sooner than others, so that clients which came at a time do
/// not go at a time.
async fn aged(age: Option<Duration>) {
    match age {
        Some(age) => {
            let some = age.as_secs_f64() * rand::random_range(0.9..1.1);
            tokio::time::sleep(Duration::try_from_secs_f64(some).unwrap_or(age)).await;
        }
        None => std::future::pending().await,
    }
}

fn too_many(principal: &Principal, full: Full) -> String {
    format!("{principal} has {} connections, which is the limit", full.limit)
}

/// The rule that this end closed a connection for.
fn broken_rule(error: &hyper::Error) -> Option<String> {
    let error = std::error::Error::source(error)?.downcast_ref::<h2::Error>()?;
    if let Some(callless) = error
        .get_io()
        .and_then(|error| error.get_ref()?.downcast_ref::<Callless>())
    {
        return Some(callless.to_string());
    }
    let code = error.reason().filter(|reason| *reason != h2::Reason::NO_ERROR)?;
    let ours = error.is_go_away() && error.is_library();
    ours.then(|| format!("it breaks the rules of HTTP/2: {code:?}"))
}
