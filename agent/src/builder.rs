//! What an agent is started with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use adit_certs::{AgentId, Credentials, LoadError, NoSystemRoots, TrustStore, upstream_config};
use adit_proto::labels::{InvalidLabel, Label, Labels};
use adit_proto::tunnel::v1::Hello;
use adit_transport::{Body, Carrier, DialError, Dialer, Tuning};
use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

use crate::agent::Agent;
use crate::dial::HubAddress;
use crate::discover::MAX_SERVICES;
use crate::forward::Forwarder;
use crate::race::{Carriers, FIRST_PROBE};
use crate::raw::{AllowedTarget, Raw};
use crate::routes::RoutesError;
use crate::upstream::{ServicePrefix, Upstream};

/// How long running calls may take to end, unless told otherwise, once the agent drains or another link takes the place of
/// theirs.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Links that an agent may keep to one hub, at the most.
pub const MAX_LINKS: u32 = 16;

/// The settings of an [`Agent`]; made by [`Agent::builder`].
///
/// An agent needs one hub, and one upstream or one target of raw TCP, at the least.
#[derive(Debug)]
pub struct Builder {
    id: AgentId,
    credentials: Credentials,
    hubs: Vec<HubAddress>,
    links: u32,
    upstreams: Vec<(Option<ServicePrefix>, Upstream)>,
    tcp: Vec<AllowedTarget>,
    services: Vec<String>,
    labels: Vec<Label>,
    exclusive: bool,
    drain_timeout: Duration,
    carriers: Option<Carriers>,
    first_probe: Duration,
    websocket_ca: Option<PathBuf>,
    coding: Vec<String>,
    tuning: Tuning,
    key_log: Option<Arc<dyn rustls::KeyLog>>,
}

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no hub to connect to.
    #[error("no hub to connect to: name one with --hub HOST:PORT")]
    NoHub,
    /// No links at all, or more than [`MAX_LINKS`].
    #[error("cannot keep {0} links to a hub: --links is from 1 to {MAX_LINKS}")]
    Links(u32),
    /// There is nothing to forward calls to.
    #[error(
        "nowhere to forward calls to: name a gRPC server with --upstream URL, or a target of raw TCP with --tcp HOST:PORT, or serve a service of this process"
    )]
    NoUpstream,
    /// Two upstreams are to have the same calls.
    #[error(transparent)]
    Routes(#[from] RoutesError),
    /// A name to advertise is none that a gRPC service can have.
    #[error(
        "cannot advertise {0:?}: it is no full name of a gRPC service; write --service package.Service, without slashes"
    )]
    ServiceName(String),
    /// More services than a hub takes.
    #[error(
        "cannot advertise {0} services: {MAX_SERVICES} are the limit; name those that matter with --service"
    )]
    TooManyServices(usize),
    /// The labels break a rule together: each for itself is sound.
    #[error("cannot have these labels: {0}; change --label")]
    Labels(#[from] InvalidLabel),
    /// The certificate is another agent's.
    #[error(transparent)]
    OtherId(#[from] LoadError),
    /// The certificate says of nobody whose it is.
    #[error("the certificate is not one of an agent: issue one with adit certs agent ID")]
    NoIdentity,
    /// The certificate cannot be used.
    #[error("cannot use the agent's certificate for TLS: {0}")]
    Tls(String),
    /// A WebSocket's address, and a carrier that is none.
    #[error(
        "{hub} is the address of a WebSocket, and --carrier {carriers} is to be used: name the hub as HOST:PORT, or leave --carrier out"
    )]
    CarrierOfUrl {
        /// The address.
        hub: HubAddress,
        /// What was asked for.
        carriers: Carriers,
    },
    /// A coding that the links do not know.
    #[error("unknown coding {name:?}: use identity, or {known}")]
    Coding {
        /// Its name.
        name: String,
        /// Those that are known.
        known: String,
    },
    /// The CA of what is before a hub cannot be used.
    #[error("cannot verify what is before a hub: {0}")]
    WebSocketCa(LoadError),
    /// The operating system trusts nobody.
    #[error("cannot verify what is before a hub: {0}, with --websocket-ca")]
    NoSystemRoots(#[from] NoSystemRoots),
    /// The TLS settings cannot serve QUIC.
    #[error(transparent)]
    Dialer(#[from] DialError),
}

impl Builder {
    pub(crate) fn new(id: AgentId, credentials: Credentials) -> Self {
        Self {
            id,
            credentials,
            hubs: Vec::new(),
            links: 1,
            upstreams: Vec::new(),
            tcp: Vec::new(),
            services: Vec::new(),
            labels: Vec::new(),
            exclusive: false,
            drain_timeout: DRAIN_TIMEOUT,
            carriers: None,
            first_probe: FIRST_PROBE,
            websocket_ca: None,
            coding: Vec::new(),
            tuning: Tuning::default(),
            key_log: None,
        }
    }

    /// Connects to this hub as well. Each hub has links of its own, and one that is out of reach delays no other.
    #[must_use]
    pub fn hub(mut self, hub: HubAddress) -> Self {
        self.hubs.push(hub);
        self
    }

    /// Keeps so many links to each hub, which share the calls: from 1 to [`MAX_LINKS`], and 1 unless told otherwise. Each has
    /// ports, windows and a congestion controller of its own, and when one is lost, only the calls on that one are.
    #[must_use]
    pub fn links(mut self, links: u32) -> Self {
        self.links = links;
        self
    }

    /// Forwards calls to `upstream` as well: those of the services that `prefix` matches, where no longer prefix does, or
    /// without a prefix those that no prefix matches.
    #[must_use]
    pub fn upstream(mut self, prefix: Option<ServicePrefix>, upstream: Upstream) -> Self {
        self.upstreams.push((prefix, upstream));
        self
    }

    /// Serves calls in this process, with no port: tonic's `Routes`, or one service that tonic generated. The same as
    /// [`upstream`](Self::upstream) with [`Upstream::service`] and no prefix.
    ///
    /// Add the service of `tonic-reflection`, or [`advertise`](Self::advertise) the services by name: hubs learn in either
    /// way what the agent serves.
    #[must_use]
    pub fn serve<S, B>(self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.upstream(None, Upstream::service(service))
    }

    /// Allows raw TCP connections to this target as well. Without any, none are made.
    #[must_use]
    pub fn tcp(mut self, target: AllowedTarget) -> Self {
        self.tcp.push(target);
        self
    }

    /// Advertises the service of this full name, such as `routeguide.RouteGuide`. Without any, the upstreams are asked by
    /// server reflection, again and again. At most [`MAX_SERVICES`].
    #[must_use]
    pub fn advertise(mut self, service: impl Into<String>) -> Self {
        self.services.push(service.into());
        self
    }

    /// Gives the agent a label, which callers select agents by.
    #[must_use]
    pub fn label(mut self, label: Label) -> Self {
        self.labels.push(label);
        self
    }

    /// Whether no other instance may have the agent's id while this one is connected. The hub refuses whoever comes second;
    /// it tries again, so that it takes over when the first is gone. Without it, instances of one id are replicas.
    #[must_use]
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// How long running calls may take to end once the agent drains, or once another link has taken the place of theirs.
    /// [`DRAIN_TIMEOUT`] unless told otherwise.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// What the links run over, and nothing else. Unless this or [`carriers`](Self::carriers) is called: QUIC, and a WebSocket to
    /// hubs whose address is one's.
    #[must_use]
    pub fn carrier(self, carrier: Carrier) -> Self {
        self.carriers(Carriers::Only(carrier))
    }

    /// What the links may run over.
    #[must_use]
    pub fn carriers(mut self, carriers: Carriers) -> Self {
        self.carriers = Some(carriers);
        self
    }

    /// How long a link runs over TCP at the most before QUIC is tried again, where [`Carriers::Auto`] lets the agent choose; each
    /// further try comes twice as late. [`FIRST_PROBE`] unless told otherwise.
    #[must_use]
    pub fn first_probe(mut self, within: Duration) -> Self {
        self.first_probe = within;
        self
    }

    /// The file of the CA of what is before a hub at a `wss://` address. Unless it is called: the CAs of the system.
    #[must_use]
    pub fn websocket_ca(mut self, file: PathBuf) -> Self {
        self.websocket_ca = Some(file);
        self
    }

    /// Compresses calls on the links with the coding of this name, where the hub knows it and a call is not compressed
    /// already; of several the first. The built-in one is `zstd`; [`Tuning::codings`] may have others. Unless it is called:
    /// calls go as they are.
    #[must_use]
    pub fn coding(mut self, name: impl Into<String>) -> Self {
        self.coding.push(name.into());
        self
    }

    /// Settings of the links.
    #[must_use]
    pub fn tuning(mut self, tuning: Tuning) -> Self {
        self.tuning = tuning;
        self
    }

    /// Has the keys of the links' TLS, and of the TLS of what is before a hub, written down, for whoever looks into packets. Who has them can read every call. Unless it is
    /// called: no keys leave the process.
    #[must_use]
    pub fn key_log(mut self, keys: Arc<dyn rustls::KeyLog>) -> Self {
        self.key_log = Some(keys);
        self
    }

    /// Checks what can be checked before anybody is dialled.
    ///
    /// # Errors
    ///
    /// [`StartError`] names the setting that has to change.
    pub fn build(self) -> Result<Agent, StartError> {
        if self.hubs.is_empty() {
            return Err(StartError::NoHub);
        }
        if !(1..=MAX_LINKS).contains(&self.links) {
            return Err(StartError::Links(self.links));
        }
        if self.upstreams.is_empty() && self.tcp.is_empty() {
            return Err(StartError::NoUpstream);
        }
        let forwarder = Forwarder::new(self.upstreams)?;
        if self.services.len() > MAX_SERVICES {
            return Err(StartError::TooManyServices(self.services.len()));
        }
        if let Some(name) = self.services.iter().find(|name| !is_service_name(name)) {
            return Err(StartError::ServiceName(name.chars().take(100).collect()));
        }
        let codings = &self.tuning.codings;
        if let Some(name) = self.coding.iter().find(|name| codings.find(name).is_none()) {
            let known: Vec<_> = codings.names().collect();
            return Err(StartError::Coding {
                name: name.clone(),
                known: known.join(", "),
            });
        }
        let labels = Labels::new(self.labels)?;
        self.credentials.check_agent_id(&self.id)?;
        let identity = self.credentials.identity().ok_or(StartError::NoIdentity)?;
        let mut tls = self
            .credentials
            .client_config()
            .map_err(|error| StartError::Tls(error.to_string()))?;
        log_keys_of(&mut tls, self.key_log.as_ref());
        let mut dialer = Dialer::new(tls, self.tuning)?;
        let url = self.hubs.iter().find(|hub| hub.is_url());
        match (url, self.carriers) {
            (None, _) => {}
            (Some(_), None | Some(Carriers::Auto | Carriers::Only(Carrier::WebSocket))) => {
                if self.hubs.iter().any(HubAddress::has_outer_tls) {
                    let mut web = web_tls(self.websocket_ca.as_deref())?;
                    log_keys_of(&mut web, self.key_log.as_ref());
                    dialer = dialer.web(web);
                }
            }
            (Some(hub), Some(carriers)) => {
                let hub = hub.clone();
                return Err(StartError::CarrierOfUrl { hub, carriers });
            }
        }
        Ok(Agent {
            hubs: self.hubs,
            links: self.links,
            dialer,
            first_probe: self.first_probe,
            carriers: self.carriers.unwrap_or(Carriers::Only(Carrier::Quic)),
            trust_domain: identity.trust_domain().clone(),
            hello: Hello {
                id: self.id.to_string(),
                // Tells this process from another one of the same id, and from itself before a restart.
                instance: format!("{:032x}", rand::random::<u128>()),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                labels: labels.to_map(),
                exclusive: self.exclusive,
                codings: self.coding,
                ..Hello::default()
            },
            forwarder,
            raw: Raw::new(self.tcp),
            services: (!self.services.is_empty()).then_some(self.services),
            drain_timeout: self.drain_timeout,
        })
    }
}

fn log_keys_of(tls: &mut rustls::ClientConfig, keys: Option<&Arc<dyn rustls::KeyLog>>) {
    if let Some(keys) = keys {
        tls.key_log = Arc::clone(keys);
    }
}

/// TLS of what is before a hub.
fn web_tls(ca: Option<&Path>) -> Result<rustls::ClientConfig, StartError> {
    let trust = match ca {
        Some(file) => TrustStore::load(file).map_err(StartError::WebSocketCa)?,
        None => TrustStore::system()?,
    };
    upstream_config(&trust, None).map_err(|error| StartError::Tls(error.to_string()))
}

/// Whether a call's path could name such a service.
fn is_service_name(name: &str) -> bool {
    let printable = |c: char| c.is_ascii_graphic() && c != '/';
    !name.is_empty() && name.chars().all(printable)
}
