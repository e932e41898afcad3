//! What a hub is started with, and what can be wrong with it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use adit_certs::{Credentials, TrustDomain};
use adit_proto::raw;
use adit_transport::{BindError, Listener, Tuning};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::address::AgentsAddress;
use crate::attach::Attach;
use crate::call::{Calls, Routing};
use crate::domain::AgentDomain;
use crate::health::HubHealth;
use crate::hub::Hub;
use crate::ingress::{self, ClientTls, ExposedClients, Ingress, Limits, Stopping};
use crate::pools::Pool;
use crate::registry::Registry;

/// How long a call waits for an agent that is not connected, unless told otherwise.
pub const RECONNECT_GRACE: Duration = Duration::from_secs(3);

/// How long a stopping hub lets calls run, unless told otherwise.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The settings of a [`Hub`]; made by [`Hub::builder`]. Each has a default but the credentials.
#[derive(Debug)]
pub struct Builder {
    credentials: Credentials,
    agents: Vec<AgentsAddress>,
    websocket: Option<SocketAddr>,
    clients: SocketAddr,
    client_tls: Option<ClientTls>,
    insecure_clients: bool,
    tcp: Option<SocketAddr>,
    limits: Limits,
    admin: Option<SocketAddr>,
    agent_domain: Option<AgentDomain>,
    pools: Vec<Pool>,
    trust_domain: Option<TrustDomain>,
    reconnect_grace: Duration,
    drain_timeout: Duration,
    tuning: Tuning,
    key_log: Option<Arc<dyn rustls::KeyLog>>,
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
    /// Anybody who reaches the clients' port could call every agent.
    #[error(transparent)]
    ExposedClients(#[from] ExposedClients),
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
    /// A port for agents can't be had.
    #[error(transparent)]
    Agents(#[from] BindError),
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

impl Builder {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            agents: Vec::new(),
            websocket: None,
            clients: (Ipv4Addr::LOCALHOST, 9090).into(),
            client_tls: None,
            insecure_clients: false,
            tcp: None,
            limits: Limits::default(),
            admin: None,
            agent_domain: None,
            pools: Vec::new(),
            trust_domain: None,
            reconnect_grace: RECONNECT_GRACE,
            drain_timeout: DRAIN_TIMEOUT,
            tuning: Tuning::default(),
            key_log: None,
        }
    }

    /// An address for agents, UDP and TCP on one port unless it says otherwise; may be called again for further ones. Unless it
    /// is called: `0.0.0.0:4433`.
    #[must_use]
    pub fn agents(mut self, address: AgentsAddress) -> Self {
        self.agents.push(address);
        self
    }

    /// The TCP address for agents whose WebSockets come through something that terminates their TLS, such as nginx. They prove
    /// who they are inside. Unless it is called there is no such port.
    #[must_use]
    pub fn websocket(mut self, address: SocketAddr) -> Self {
        self.websocket = Some(address);
        self
    }

    /// The TCP address for clients. Unless it is called: `127.0.0.1:9090`.
    #[must_use]
    pub fn clients(mut self, address: SocketAddr) -> Self {
        self.clients = address;
        self
    }

    /// What is asked of clients. Unless it is called: nothing on a loopback address, and a certificate elsewhere.
    #[must_use]
    pub fn client_tls(mut self, mode: ClientTls) -> Self {
        self.client_tls = Some(mode);
        self
    }

    /// Whether clients may use an address that others reach without a certificate. Unless it is called: no.
    #[must_use]
    pub fn insecure_clients(mut self, insecure: bool) -> Self {
        self.insecure_clients = insecure;
        self
    }

    /// The TCP address where clients get raw TCP connections through agents, after one line of JSON each way. What is asked of
    /// them is what [`client_tls`](Self::client_tls) and [`insecure_clients`](Self::insecure_clients) say of clients. Unless it is
    /// called there is no such port.
    #[must_use]
    pub fn tcp(mut self, address: SocketAddr) -> Self {
        self.tcp = Some(address);
        self
    }

    /// What clients may take.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The TCP address for operators, a loopback address. Unless it is called there is no such port.
    #[must_use]
    pub fn admin(mut self, address: SocketAddr) -> Self {
        self.admin = Some(address);
        self
    }

    /// A client that dials `<agent id>.<domain>` means that agent.
    #[must_use]
    pub fn agent_domain(mut self, domain: AgentDomain) -> Self {
        self.agent_domain = Some(domain);
        self
    }

    /// The agents that have these services are equal, and share the calls that name no agent; may be called again.
    #[must_use]
    pub fn pool(mut self, pool: Pool) -> Self {
        self.pools.push(pool);
        self
    }

    /// Whose agents may connect. Needed only with a CA that doesn't say it.
    #[must_use]
    pub fn trust_domain(mut self, trust_domain: TrustDomain) -> Self {
        self.trust_domain = Some(trust_domain);
        self
    }

    /// How long a call waits for an agent that is not connected: [`RECONNECT_GRACE`] unless it is called.
    #[must_use]
    pub fn reconnect_grace(mut self, grace: Duration) -> Self {
        self.reconnect_grace = grace;
        self
    }

    /// How long calls may go on once the hub is told to stop: [`DRAIN_TIMEOUT`] unless it is called.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Settings of the links.
    #[must_use]
    pub fn tuning(mut self, tuning: Tuning) -> Self {
        self.tuning = tuning;
        self
    }

    /// Has the keys of agents' and clients' TLS written down, for whoever looks into packets. Who has them can read every call. Unless it is
    /// called: no keys leave the process.
    #[must_use]
    pub fn key_log(mut self, keys: Arc<dyn rustls::KeyLog>) -> Self {
        self.key_log = Some(keys);
        self
    }

    /// Checks all that can be checked without opening a port.
    ///
    /// # Errors
    ///
    /// [`StartError`] names the setting that has to change.
    pub fn check(&self) -> Result<(), StartError> {
        if let Some(address) = self.admin
            && !address.ip().is_loopback()
        {
            let flag = "--admin";
            return Err(StartError::Exposed { flag, address });
        }
        self.whose_agents()?;
        self.agents_tls()?;
        self.clients_tls()?;
        self.tcp_tls()?;
        Ok(())
    }

    /// Opens the hub's ports. Connections wait in them until [`Hub::run`].
    ///
    /// # Errors
    ///
    /// [`StartError`] names the setting that has to change.
    pub async fn bind(self) -> Result<Hub, StartError> {
        self.check()?;
        let (tls, clients_tls, tcp_tls) = (self.agents_tls()?, self.clients_tls()?, self.tcp_tls()?);
        let secret = self.credentials.private_key_der();
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 4433)).into();
        let agents = match self.agents.as_slice() {
            [] => std::slice::from_ref(&everywhere),
            agents => agents,
        };
        let agents = agents
            .iter()
            .map(|&AgentsAddress { address, udp_only }| {
                let bind = if udp_only {
                    Listener::bind_udp
                } else {
                    Listener::bind
                };
                bind(address, tls.clone(), secret, self.tuning.clone()).map(Arc::new)
            })
            .collect::<Result<_, _>>()?;
        let websocket = self
            .websocket
            .map(|address| Listener::bind_websocket(address, tls, self.tuning.clone()).map(Arc::new))
            .transpose()?;
        let registry = Arc::new(Registry::new());
        let attach = Attach {
            registry: Arc::clone(&registry),
            trust_domain: self.whose_agents()?,
            draining: CancellationToken::new(),
        };
        let health = HubHealth::new(Arc::clone(&registry), attach.draining.clone());
        let routing = Routing {
            agent_domain: self.agent_domain,
            pools: self.pools.into_iter().collect(),
            reconnect_grace: self.reconnect_grace,
        };
        let admin = match self.admin {
            Some(address) => Some(listen("--admin", address).await?),
            None => None,
        };
        let calls = Arc::new(Calls::new(registry, health, routing));
        let stopping = Stopping {
            drain: attach.draining.clone(),
            end: calls.stopped().clone(),
        };
        let clients = listen("--clients", self.clients).await?;
        let clients = Ingress::new(clients, clients_tls, &self.limits, Arc::clone(&calls), stopping);
        let tcp = match self.tcp {
            Some(address) => Some(clients.for_bytes(listen("--tcp", address).await?, tcp_tls)),
            None => None,
        };
        Ok(Hub {
            agents,
            websocket,
            clients,
            tcp,
            admin,
            attach,
            calls,
            drain_timeout: self.drain_timeout,
        })
    }

    fn agents_tls(&self) -> Result<rustls::ServerConfig, StartError> {
        let tls = self.credentials.server_config();
        let mut tls = tls.map_err(|error| StartError::Tls(error.to_string()))?;
        self.log_keys_of(&mut tls);
        Ok(tls)
    }

    fn clients_tls(&self) -> Result<Option<Arc<rustls::ServerConfig>>, StartError> {
        self.tls_of("--clients", self.clients, ingress::HTTP2)
    }

    fn tcp_tls(&self) -> Result<Option<Arc<rustls::ServerConfig>>, StartError> {
        match self.tcp {
            Some(address) => self.tls_of("--tcp", address, raw::ALPN),
            None => Ok(None),
        }
    }

    /// TLS of a port of clients.
    fn tls_of(
        &self,
        flag: &'static str,
        address: SocketAddr,
        protocol: &[u8],
    ) -> Result<Option<Arc<rustls::ServerConfig>>, StartError> {
        let mode = ClientTls::choose(flag, address, self.client_tls, self.insecure_clients)?;
        let tls = ingress::clients_tls(&self.credentials, &self.whose_agents()?, mode, protocol);
        let mut tls = tls.map_err(|error| StartError::Tls(error.to_string()))?;
        if let Some(tls) = &mut tls {
            self.log_keys_of(tls);
        }
        Ok(tls.map(Arc::new))
    }

    fn log_keys_of(&self, tls: &mut rustls::ServerConfig) {
        if let Some(keys) = &self.key_log {
            tls.key_log = Arc::clone(keys);
        }
    }

    fn whose_agents(&self) -> Result<TrustDomain, StartError> {
        match (self.credentials.trust_domain(), &self.trust_domain) {
            (Some(certified), Some(configured)) if certified != configured => {
                Err(StartError::OtherTrustDomain {
                    configured: configured.clone(),
                    certified: certified.clone(),
                })
            }
            (Some(trust_domain), _) | (None, Some(trust_domain)) => Ok(trust_domain.clone()),
            (None, None) => Err(StartError::NoTrustDomain),
        }
    }
}

async fn listen(flag: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| StartError::Listen {
        flag,
        address,
        source,
    })
}
