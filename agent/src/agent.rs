//! An agent as a whole: links to its hubs, and the services that it tells them of.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_certs::{AgentId, Credentials, Identity, IdentityError, LoadError, TrustDomain};
use adit_proto::tunnel::v1::Hello;
use adit_proto::tunnel::v1::agent_server::AgentServer;
use adit_transport::{AgentLink, Body, Code, DialError, Dialer, Reset, Tuning};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use tracing::{Instrument as _, info, info_span, warn};

use crate::attach::Control;
use crate::dial::{Backoff, HubAddress};
use crate::forward::Forwarder;
use crate::offer::{self, Offer};

/// The path of the control service.
const CONTROL: &str = "/adit.tunnel.v1.Agent/";

/// How long a stopping agent takes to tell its hubs.
const GOODBYE: Duration = Duration::from_secs(1);

/// What an agent is started with.
#[derive(Debug)]
pub struct Config {
    /// The agent's id: the one in its certificate.
    pub id: AgentId,
    /// The agent's certificate, and the CA of its hubs.
    pub credentials: Credentials,
    /// The hubs to connect to: each is given a link of its own.
    pub hubs: Vec<HubAddress>,
    /// Where the calls go.
    pub forwarder: Forwarder,
    /// The full names of the services to advertise. Empty: the upstreams are asked for them by server reflection.
    pub services: Vec<String>,
    /// Settings of the links.
    pub tuning: Tuning,
}

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no hub to connect to.
    #[error("no hub to connect to: name one with --hub HOST:PORT")]
    NoHub,
    /// The certificate is another agent's.
    #[error(transparent)]
    OtherId(#[from] LoadError),
    /// The certificate says of nobody whose it is.
    #[error("the certificate is not one of an agent: issue one with adit certs agent ID")]
    NoIdentity,
    /// The certificate cannot be used.
    #[error("cannot use the agent's certificate for TLS: {0}")]
    Tls(String),
    /// The TLS settings cannot serve QUIC.
    #[error(transparent)]
    Dialer(#[from] DialError),
}

/// Why what answers at the hub's address is not the hub.
#[derive(Debug, thiserror::Error)]
enum NotTheHub {
    #[error("it sent no certificate")]
    NoCertificate,
    #[error("its certificate is of no hub: {0}; issue one with adit certs hub --san HOST")]
    NoIdentity(#[from] IdentityError),
    #[error("its certificate is for {identity}, and not for the hub of {expected}")]
    Other {
        identity: Identity,
        expected: TrustDomain,
    },
}

/// An agent that is ready to connect.
#[derive(Debug)]
pub struct Agent {
    links: Vec<Link>,
    forwarder: Forwarder,
    /// Named in the configuration; otherwise the upstreams are asked.
    services: Option<Vec<String>>,
}

/// What makes one link after another to one hub.
#[derive(Debug)]
struct Link {
    hub: HubAddress,
    dialer: Dialer,
    /// Whose hub it has to be.
    trust_domain: TrustDomain,
    hello: Hello,
    forwarder: Forwarder,
}

impl Agent {
    /// Checks what can be checked before anybody is dialled.
    ///
    /// # Errors
    ///
    /// [`StartError`] names the setting that has to change.
    pub fn new(config: Config) -> Result<Self, StartError> {
        if config.hubs.is_empty() {
            return Err(StartError::NoHub);
        }
        config.credentials.check_agent_id(&config.id)?;
        let trust_domain = config
            .credentials
            .identity()
            .map(|identity| identity.trust_domain().clone());
        let trust_domain = trust_domain.ok_or(StartError::NoIdentity)?;
        let tls = config
            .credentials
            .client_config()
            .map_err(|error| StartError::Tls(error.to_string()))?;
        let dialer = Dialer::new(tls, config.tuning)?;
        // Tells this process from another one of the same id, and from itself before a restart.
        let instance = format!("{:032x}", rand::random::<u128>());
        let links = config.hubs.into_iter().map(|hub| Link {
            hub,
            dialer: dialer.clone(),
            trust_domain: trust_domain.clone(),
            hello: Hello {
                id: config.id.to_string(),
                instance: instance.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..Hello::default()
            },
            forwarder: config.forwarder.clone(),
        });
        Ok(Self {
            links: links.collect(),
            forwarder: config.forwarder,
            services: (!config.services.is_empty()).then_some(config.services),
        })
    }

    /// Keeps a link to every hub until `stop` is ready, then closes them.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let stopping = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (offer, mut known) = watch::channel(Offer::unasked());
        let linked = async {
            // The first hello says what the upstreams have, where they are up by then.
            if known.changed().await.is_err() {
                return;
            }
            for link in self.links {
                let span = info_span!("link", hub = %link.hub);
                tasks.spawn(link.keep(known.clone(), stopping.clone()).instrument(span));
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = linked => {}
            () = offer::keep(&self.forwarder, self.services, &offer) => {}
            () = stop => info!("stopping"),
        }
        stopping.cancel();
        let goodbyes = async { while tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GOODBYE, goodbyes).await;
    }
}

impl Link {
    /// Makes one link after another until told to stop.
    async fn keep(mut self, offer: watch::Receiver<Offer>, stopping: CancellationToken) {
        let mut backoff = Backoff::new();
        loop {
            self.hello.generation += 1;
            let attempt = self.once(&offer, &stopping);
            let Some(held) = attempt.await else {
                return;
            };
            backoff.held(held);
            let wait = backoff.next();
            info!(?wait, "dialling again");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopping.cancelled() => return,
            }
        }
    }

    /// Makes one link and serves it to its end: how long it held, or `None` when told to stop.
    async fn once(&self, offer: &watch::Receiver<Offer>, stopping: &CancellationToken) -> Option<Duration> {
        let link = tokio::select! {
            reached = self.hub.reach(&self.dialer) => match reached {
                Ok(link) => link,
                Err(error) => {
                    warn!(%error, "cannot reach the hub");
                    return Some(Duration::ZERO);
                }
            },
            () = stopping.cancelled() => return None,
        };
        if let Err(error) = self.check_hub(&link) {
            warn!(%error, "what answers is no hub of this agent");
            link.close(Code::REQUEST_REJECTED, &error.to_string());
            return Some(Duration::ZERO);
        }
        info!(peer = %link.remote_address(), rtt = ?link.round_trip(), "connected to the hub");
        let since = Instant::now();
        tokio::select! {
            reason = self.serve(&link, offer.clone()) => {
                warn!(%reason, held = ?since.elapsed(), "lost the link to the hub");
                Some(since.elapsed())
            }
            () = stopping.cancelled() => {
                link.close(Code::NO_ERROR, "the agent stopped");
                link.closed().await;
                None
            }
        }
    }

    /// The CA vouches for the name of more servers than the hub: an upstream's certificate, say, makes no hub.
    fn check_hub(&self, link: &AgentLink) -> Result<(), NotTheHub> {
        let certificate = link.peer_certificates().first().ok_or(NotTheHub::NoCertificate)?;
        match Identity::from_certificate(certificate)? {
            Identity::Hub { trust_domain } if trust_domain == self.trust_domain => Ok(()),
            identity => Err(NotTheHub::Other {
                identity,
                expected: self.trust_domain.clone(),
            }),
        }
    }

    async fn serve(&self, link: &AgentLink, offer: watch::Receiver<Offer>) -> adit_transport::LinkError {
        let control = AgentServer::from_arc(Arc::new(Control::new(self.hello.clone(), offer)));
        let forwarder = self.forwarder.clone();
        link.serve(move |request| {
            let (control, forwarder) = (control.clone(), forwarder.clone());
            async move {
                if request.uri().path().starts_with(CONTROL) {
                    controlled(control, request).await
                } else {
                    forwarder.call(request).await
                }
            }
        })
        .await
    }
}

/// A call of the hub to the agent itself.
async fn controlled(
    mut control: AgentServer<Control>,
    request: Request<Body>,
) -> Result<Response<Body>, Reset> {
    let Ok(response) = control.call(request).await;
    // The stream of events fails with no status: it ends.
    Ok(response
        .map(|body| Body::new(body.map_err(|_| adit_transport::BodyError::Reset(Code::INTERNAL_ERROR)))))
}
