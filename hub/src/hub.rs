//! A hub as a whole: its ports, and the tasks behind them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adit_certs::{Credentials, TrustDomain};
use adit_transport::{BindError, Listener, Tuning};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::{Instrument as _, info, info_span};

use crate::call::Calls;
use crate::registry::Registry;
use crate::{admin, attach, ingress};

/// How long a stopping hub takes to tell its agents.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a hub is started with.
#[derive(Debug)]
pub struct Config {
    /// UDP addresses for agents.
    pub agents: Vec<SocketAddr>,
    /// The TCP address for clients. Without TLS, so a loopback address only.
    pub clients: SocketAddr,
    /// The TCP address for operators. Without TLS, so a loopback address only.
    pub admin: SocketAddr,
    /// The hub's own certificate, and the CA whose agents may connect.
    pub credentials: Credentials,
    /// Whose agents may connect, where the CA does not say it.
    pub trust_domain: Option<TrustDomain>,
    /// How long a call waits for an agent that is not connected.
    pub reconnect_grace: Duration,
    /// Settings of the links.
    pub tuning: Tuning,
}

/// Why a hub could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Anybody who reaches the port could call every agent.
    #[error(
        "{flag} {address}: anybody who reaches this address could use it, for it has neither TLS nor \
         authentication; use a loopback address such as 127.0.0.1:{}", address.port()
    )]
    Exposed {
        /// The flag that names the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// A TCP port can't be had.
    #[error("cannot listen on {flag} {address}: {source}; choose another address with {flag}")]
    Listen {
        /// The flag that names the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A UDP port can't be had.
    #[error(transparent)]
    Agents(#[from] BindError),
    /// There is nowhere for an agent to connect to.
    #[error("no address for agents: name one with --agents, such as 0.0.0.0:4433")]
    NoAgentsAddress,
    /// Neither the CA nor the configuration says whose agents may connect.
    #[error("the CA names no trust domain: say with --trust-domain whose agents may connect")]
    NoTrustDomain,
    /// The CA says one thing and the configuration another.
    #[error("--trust-domain {configured} is not the CA's, which is {certified}: leave the flag out")]
    OtherTrustDomain {
        /// What the configuration says.
        configured: TrustDomain,
        /// What the CA says.
        certified: TrustDomain,
    },
    /// The certificate cannot be used.
    #[error("cannot use the hub's certificate for TLS: {0}")]
    Tls(String),
}

/// A hub whose ports are open.
#[derive(Debug)]
pub struct Hub {
    agents: Vec<Listener>,
    clients: TcpListener,
    admin: TcpListener,
    trust_domain: TrustDomain,
    registry: Arc<Registry>,
    calls: Arc<Calls>,
}

impl Hub {
    /// Opens the hub's ports. Connections wait in them until [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// [`StartError`] names the setting that has to change.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        for (flag, address) in [("--clients", config.clients), ("--admin", config.admin)] {
            if !address.ip().is_loopback() {
                return Err(StartError::Exposed { flag, address });
            }
        }
        if config.agents.is_empty() {
            return Err(StartError::NoAgentsAddress);
        }
        let trust_domain = trust_domain(config.credentials.trust_domain(), config.trust_domain.as_ref())?;
        let tls = config
            .credentials
            .server_config()
            .map_err(|error| StartError::Tls(error.to_string()))?;
        let secret = config.credentials.private_key_der();
        let agents = config
            .agents
            .iter()
            .map(|&address| Listener::bind(address, tls.clone(), secret, config.tuning.clone()))
            .collect::<Result<_, _>>()?;
        let registry = Arc::new(Registry::new());
        Ok(Self {
            agents,
            clients: listen("--clients", config.clients).await?,
            admin: listen("--admin", config.admin).await?,
            trust_domain,
            calls: Arc::new(Calls::new(Arc::clone(&registry), config.reconnect_grace)),
            registry,
        })
    }

    /// Where agents connect to, with the real ports.
    ///
    /// # Errors
    ///
    /// What the system says, which is nothing as a rule.
    pub fn agents_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.agents.iter().map(Listener::local_addr).collect()
    }

    /// Where clients connect to, with the real port.
    ///
    /// # Errors
    ///
    /// What the system says, which is nothing as a rule.
    pub fn clients_address(&self) -> io::Result<SocketAddr> {
        self.clients.local_addr()
    }

    /// Where operators connect to, with the real port.
    ///
    /// # Errors
    ///
    /// What the system says, which is nothing as a rule.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Serves until `stop` is ready, then closes every link and connection.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut tasks = JoinSet::new();
        let agents: Vec<Arc<Listener>> = self.agents.into_iter().map(Arc::new).collect();
        for listener in &agents {
            let (listener, registry) = (Arc::clone(listener), Arc::clone(&self.registry));
            let trust_domain = self.trust_domain.clone();
            tasks.spawn(async move { accept(&listener, &registry, &trust_domain).await });
        }
        tasks.spawn(ingress::serve(self.clients, self.calls));
        tasks.spawn(admin::serve(self.admin));
        tokio::select! {
            () = stop => info!("stopping"),
            // None of them ends by itself, unless the system takes its socket away or it panics.
            _ = tasks.join_next() => tracing::error!("a port of the hub failed: stopping"),
        }
        for listener in &agents {
            listener.close("the hub stopped");
        }
        let goodbyes = futures_util::future::join_all(agents.iter().map(|listener| listener.closed()));
        let _ = tokio::time::timeout(GOODBYE, goodbyes).await;
    }
}

/// Takes the links of agents; each is a task that ends with the listener's.
async fn accept(listener: &Listener, registry: &Arc<Registry>, trust_domain: &TrustDomain) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            handshake = listener.accept() => match handshake {
                Some(handshake) => {
                    let peer = handshake.remote_address();
                    let link = attach::run(handshake, Arc::clone(registry), trust_domain.clone());
                    links.spawn(link.instrument(info_span!("link", %peer)));
                }
                None => break,
            },
            Some(_) = links.join_next() => {}
        }
    }
    // Each ends as its agent is told why; dropped before, it would tell another reason.
    while links.join_next().await.is_some() {}
}

async fn listen(flag: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| StartError::Listen {
        flag,
        address,
        source,
    })
}

fn trust_domain(
    certified: Option<&TrustDomain>,
    configured: Option<&TrustDomain>,
) -> Result<TrustDomain, StartError> {
    match (certified, configured) {
        (Some(certified), Some(configured)) if certified != configured => Err(StartError::OtherTrustDomain {
            configured: configured.clone(),
            certified: certified.clone(),
        }),
        (Some(trust_domain), _) | (None, Some(trust_domain)) => Ok(trust_domain.clone()),
        (None, None) => Err(StartError::NoTrustDomain),
    }
}
