//! A hub as a whole: its ports, the tasks behind them, and how it stops.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use adit_certs::Credentials;
use adit_transport::Listener;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, info, info_span};

use crate::admin;
use crate::attach::Attach;
use crate::builder::Builder;
use crate::call::Calls;
use crate::ingress::{self, Ingress};
use crate::member::Closing;
use crate::registry::Registry;

/// How long a stopping hub takes to tell its agents.
const GOODBYE: Duration = Duration::from_secs(1);

/// How soon a link is looked at that has got its first call.
const WATCH_BUSY: Duration = Duration::from_millis(100);

/// A hub whose ports are open.
#[derive(Debug)]
pub struct Hub {
    pub(crate) agents: Vec<Arc<Listener>>,
    pub(crate) websocket: Option<Arc<Listener>>,
    pub(crate) clients: Ingress,
    pub(crate) tcp: Option<Ingress>,
    pub(crate) admin: Option<TcpListener>,
    pub(crate) attach: Attach,
    pub(crate) calls: Arc<Calls>,
    pub(crate) drain_timeout: Duration,
}

impl Hub {
    /// Begins a hub that proves itself with these credentials, and takes the agents of their CA.
    pub fn builder(credentials: Credentials) -> Builder {
        Builder::new(credentials)
    }

    /// Where agents connect to, with the real ports.
    ///
    /// # Errors
    ///
    /// What the system says, which is nothing as a rule.
    pub fn agents_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.agents.iter().map(|listener| listener.local_addr()).collect()
    }

    /// Where agents' WebSockets connect to that come through something that terminates their TLS, with the real port: none
    /// unless the builder was given one.
    ///
    /// # Errors
    ///
    /// What the system says, which is nothing as a rule.
    pub fn websocket_address(&self) -> io::Result<Option<SocketAddr>> {
        self.websocket
            .as_ref()
            .map(|listener| listener.local_addr())
            .transpose()
    }

    /// Where clients connect to, with the real port.
    ///
    /// # Errors
    ///
    /// What the system says, which is nothing as a rule.
    pub fn clients_address(&self) -> io::Result<SocketAddr> {
        self.clients.local_addr()
    }

    /// Where clients get raw TCP connections, with the real port: none unless the builder was given one.
    ///
    /// # Errors
    ///
    /// What the system says, which is nothing as a rule.
    pub fn tcp_address(&self) -> io::Result<Option<SocketAddr>> {
        self.tcp.as_ref().map(Ingress::local_addr).transpose()
    }

    /// Where operators connect to, with the real port: none unless the builder was given one.
    ///
    /// # Errors
    ///
    /// What the system says, which is nothing as a rule.
    pub fn admin_address(&self) -> io::Result<Option<SocketAddr>> {
        self.admin.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Serves until `drain` is ready. Then no new links, connections and calls are taken, agents are told, and the
    /// calls that run may go on for the drain timeout; what still runs then ends UNAVAILABLE, `draining`.
    ///
    /// When `stop` is ready, before or meanwhile, the calls that run are ended at once.
    pub async fn run(self, drain: impl Future<Output = ()>, stop: impl Future<Output = ()>) {
        let registry = Arc::clone(&self.attach.registry);
        let draining = self.attach.draining.clone();
        let end = self.calls.stopped().clone();
        let mut tasks = JoinSet::new();
        let ports: Vec<_> = self.agents.iter().chain(&self.websocket).cloned().collect();
        for listener in &ports {
            tasks.spawn(accept(Arc::clone(listener), self.attach.clone()));
        }
        tasks.spawn(watch_busy(Arc::clone(&registry)));
        let mut admins = JoinSet::new();
        if let Some(admin) = self.admin {
            let hub = admin::Hub {
                registry: Arc::clone(&registry),
                calls: Arc::clone(&self.calls),
                trust_domain: self.attach.trust_domain.clone(),
                started_at: SystemTime::now(),
                connections: self.clients.open(),
                draining: draining.clone(),
                stopped: end.clone(),
            };
            admins.spawn(admin::serve(admin, hub));
        }
        let (clients, tcp) = (self.clients, self.tcp);
        let ingress = async move {
            let tcp = async {
                if let Some(tcp) = tcp {
                    tcp.serve().await;
                }
            };
            tokio::join!(clients.serve(), tcp)
        };
        let mut ingress = AbortOnDropHandle::new(tokio::spawn(ingress));

        let mut stop = std::pin::pin!(stop);
        let stopped = tokio::select! {
            () = drain => false,
            () = &mut stop => true,
            // None of them ends by itself, unless the system takes its socket away or it panics.
            _ = tasks.join_next() => {
                tracing::error!("a port of the hub failed: stopping");
                true
            }
            _ = &mut ingress => true,
            Some(_) = admins.join_next() => {
                tracing::error!("the port for operators failed: stopping");
                true
            }
        };
        if !stopped {
            info!(timeout = ?self.drain_timeout, calls = registry.in_flight(), "draining");
            for listener in &ports {
                listener.refuse_new();
            }
            draining.cancel();
            tokio::select! {
                _ = &mut ingress => {}
                () = tokio::time::sleep(self.drain_timeout) => {}
                () = &mut stop => {}
            }
        }
        info!(calls = registry.in_flight(), "stopping");
        self.calls.stop();
        for member in registry.links(None) {
            member.close(Closing::HubStopped);
        }
        for listener in &ports {
            listener.close("the hub stopped");
        }
        if !ingress.is_finished() {
            // It ends by itself once its clients know how their calls ended.
            let _ = timeout(2 * ingress::FLUSH, &mut ingress).await;
        }
        let goodbyes = futures_util::future::join_all(ports.iter().map(|listener| listener.closed()));
        let _ = timeout(GOODBYE, futures_util::future::join(goodbyes, admins.join_next())).await;
    }
}

/// Takes the links of agents; each is a task that ends with the listener's.
async fn accept(listener: Arc<Listener>, attach: Attach) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            handshake = listener.accept() => match handshake {
                Some(handshake) => {
                    let span = info_span!("link", peer = %handshake.remote_address());
                    links.spawn(attach.clone().run(handshake).instrument(span));
                }
                None => break,
            },
            Some(_) = links.join_next() => {}
        }
    }
    // Each ends as its agent is told why; dropped before, it would tell another reason.
    while links.join_next().await.is_some() {}
}

/// Has links looked at that have just got their first call, so that a dead one is found soon.
async fn watch_busy(registry: Arc<Registry>) {
    let mut ticks = interval(WATCH_BUSY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        registry.watch_busy();
    }
}
