//! The operator's port: `adit.hub.v1.Hub`, beside the hub's own health and server reflection.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use adit_certs::{AgentId, TrustDomain};
use adit_proto::hub::v1::hub_server::HubServer;
use adit_proto::hub::v1::{FILE_DESCRIPTOR_SET, Status};
use futures_util::FutureExt as _;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower_service::Service as _;
use tracing::{Instrument as _, debug, error, info_span, warn};

use crate::call::Calls;
use crate::ingress::{self, Connections};
use crate::registry::Registry;

use links::count;
use service::{Operator, Service};

mod changes;
mod links;
mod service;
mod watch;

pub use service::{MAX_REASON, MAX_WATCHES};

/// Connections of operators at once. Further ones wait in the system's queue.
pub const MAX_OPERATORS: usize = 256;

/// Calls at once on one of them.
const MAX_STREAMS: u32 = 128;

/// The longest request of an operator: an id and a few words.
const MAX_REQUEST: usize = 16 << 10;

/// Bytes of responses that wait for one call's operator.
const SEND_BUFFER: usize = 256 << 10;

/// How long a connection may take to say that it speaks HTTP/2.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection on which nothing comes for this long is asked whether it lives,
const PING_INTERVAL: Duration = Duration::from_secs(60);

/// and closed when it doesn't answer within this.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long connections have for their last bytes at the hub's end.
const FLUSH: Duration = Duration::from_secs(1);

/// How long to wait when the system has no socket left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What an operator is told about, and acts on.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) registry: Arc<Registry>,
    pub(crate) calls: Arc<Calls>,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) started_at: SystemTime,
    /// Those of clients.
    pub(crate) connections: Connections,
    /// The hub takes no new links and clients from now on,
    pub(crate) draining: CancellationToken,
    /// and this is its end.
    pub(crate) stopped: CancellationToken,
}

impl Hub {
    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: Some(self.started_at.into()),
            draining: self.draining.is_cancelled() || self.stopped.is_cancelled(),
            agents: count(self.registry.read().directory().agents()),
            links: count(self.registry.links(None).len()),
            clients: count(self.connections.count()),
            calls_in_flight: self.registry.in_flight() as u64,
            calls_waiting: count(self.calls.waiting()),
            trust_domain: self.trust_domain.to_string(),
        }
    }

    /// Whether an agent, or one instance of it, has a link.
    fn connected(&self, id: &AgentId, instance: Option<&str>) -> bool {
        let links = self.registry.links(Some(id));
        links.iter().any(|member| {
            let place = member.peer.place.as_ref();
            instance.is_none_or(|instance| place.is_some_and(|place| place.instance == instance))
        })
    }
}

/// Answers operators on `listener` until the hub's end, or until it is dropped.
pub(crate) async fn serve(listener: TcpListener, hub: Hub) {
    let (draining, stopped) = (hub.draining.clone(), hub.stopped.clone());
    let (health, routes) = match routes(Arc::new(hub)).await {
        Ok(made) => made,
        // The schema is the build's own, and a test reads it.
        Err(error) => return error!(%error, "the admin port has no schema to show"),
    };
    let room = Arc::new(Semaphore::new(MAX_OPERATORS));
    let mut connections = JoinSet::new();
    let mut draining = pin!(draining.cancelled().fuse());
    loop {
        tokio::select! {
            accepted = accept(&listener, &room) => {
                let Some((stream, peer, permit)) = accepted else { continue };
                let connection = connection(stream, peer, routes.clone(), stopped.clone(), permit);
                connections.spawn(connection.instrument(info_span!("operator", %peer)));
            }
            Some(_) = connections.join_next() => {}
            () = &mut draining => not_serving(&health).await,
            () = stopped.cancelled() => break,
        }
    }
    // Each has a bound for its last words.
    while connections.join_next().await.is_some() {}
}

/// The next connection, when there is room for it.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            warn!(%error, "cannot accept an operator's connection");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    routes: Routes,
    stopped: CancellationToken,
    _room: OwnedSemaphorePermit,
) {
    // Small answers must not wait for the acknowledgement of the last one.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot turn Nagle's algorithm off");
    }
    let stream = match timeout(PREFACE_TIMEOUT, ingress::prefaced(stream)).await {
        Ok(Ok(Some(stream))) => stream,
        Ok(Ok(None)) => return debug!("an operator does not speak HTTP/2"),
        Ok(Err(error)) => return debug!(%error, "an operator left before the first request"),
        Err(_) => return debug!("an operator connected and said nothing"),
    };
    let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Operator(peer));
        routes.clone().call(request)
    });
    let mut served = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = stopped.cancelled() => {
            served.as_mut().graceful_shutdown();
            match timeout(FLUSH, served).await {
                Ok(ended) => ended,
                Err(_) => return debug!("an operator's connection is closed before its last bytes are sent"),
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "an operator's connection ended");
    }
}

/// What the port answers, and what says that the hub is well.
async fn routes(hub: Arc<Hub>) -> Result<(HealthReporter, Routes), tonic_reflection::server::Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<HubServer<Service>>().await;
    let schema = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let service = HubServer::new(Service::new(hub)).max_decoding_message_size(MAX_REQUEST);
    let routes = Routes::new(service)
        .add_service(health_service)
        .add_service(schema().build_v1()?)
        .add_service(schema().build_v1alpha()?);
    Ok((health, routes.prepare()))
}

/// Says that the hub takes no new calls. The empty name is the hub as a whole.
async fn not_serving(health: &HealthReporter) {
    health.set_service_status("", ServingStatus::NotServing).await;
    health.set_not_serving::<HubServer<Service>>().await;
}
