//! The life of a link at the hub: handshake, identity, hello, registered, lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use adit_certs::{AgentId, Identity, TrustDomain};
use adit_proto::tunnel::v1::agent_client::AgentClient;
use adit_proto::tunnel::v1::agent_event::Event;
use adit_proto::tunnel::v1::{AgentEvent, Hello, HubEvent, Services, Welcome, hub_event};
use adit_transport::{Body, BodyError, CallError, Code, Handshake, HubLink};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body_util::BodyExt as _;
use tonic::{Status, Streaming};
use tower_service::Service;
use tracing::{debug, info, warn};

use crate::directory;
use crate::registry::{Member, Place, Registered, Registry};

/// How long an agent may take to say hello. One that doesn't is closed.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest event of an agent.
pub const MAX_EVENT: usize = 1 << 20;

/// Services that one agent may advertise.
pub const MAX_SERVICES: usize = 4096;

/// The longest name of an instance.
const MAX_INSTANCE: usize = 64;

/// Why a link did not come to carry calls. The agent is told it when its link is closed.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the certificate is not one of an agent: {0}")]
    NoIdentity(String),
    #[error("the certificate is of the trust domain {theirs}, and this hub is of {ours}")]
    TrustDomain { theirs: TrustDomain, ours: TrustDomain },
    #[error(
        "the agent calls itself {said:?}, and its certificate is for {certified}: use the id of the certificate"
    )]
    OtherId { said: String, certified: AgentId },
    #[error("no hello came within {} s", HELLO_TIMEOUT.as_secs())]
    Silent,
    #[error("the agent's first event is not a hello")]
    NoHello,
    #[error("the agent advertises {0} services, and {MAX_SERVICES} are the limit")]
    TooManyServices(usize),
    #[error("the agent's instance has a name of {0} bytes, and {MAX_INSTANCE} are the limit")]
    LongInstance(usize),
    #[error("the agent ended its control call: {0}")]
    Control(Status),
}

/// What an agent has to say for itself.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for a moment of each link's life"
)]
enum Attached {
    /// It said hello, and goes on telling what changes.
    Hello {
        hello: Hello,
        events: Streaming<AgentEvent>,
    },
    /// A foreign agent that knows of no control call: its certificate says all there is.
    Bare,
}

/// Follows one link from its handshake to its end.
pub(crate) async fn run(handshake: Handshake, registry: Arc<Registry>, trust_domain: TrustDomain) {
    let peer = handshake.remote_address();
    let link = match handshake.establish().await {
        Ok(link) => link,
        Err(error) => return warn!(%peer, %error, "refused a link"),
    };
    match attach(&link, &trust_domain).await {
        Ok((id, attached)) => follow(id, attached, link, &registry).await,
        Err(refusal) => {
            warn!(%peer, reason = %refusal, "refused a link");
            link.close(Code::REQUEST_REJECTED, &refusal.to_string());
        }
    }
}

async fn attach(link: &HubLink, ours: &TrustDomain) -> Result<(AgentId, Attached), Refusal> {
    let id = identify(link, ours)?;
    let attached = tokio::time::timeout(HELLO_TIMEOUT, control(link))
        .await
        .map_err(|_| Refusal::Silent)??;
    if let Attached::Hello { hello, .. } = &attached {
        if hello.id != id.as_str() {
            return Err(Refusal::OtherId {
                said: hello.id.chars().take(100).collect(),
                certified: id,
            });
        }
        if hello.instance.len() > MAX_INSTANCE {
            return Err(Refusal::LongInstance(hello.instance.len()));
        }
    }
    Ok((id, attached))
}

/// The id in the agent's certificate, whose chain and validity the handshake has checked.
fn identify(link: &HubLink, ours: &TrustDomain) -> Result<AgentId, Refusal> {
    let certificate = link.peer_certificates().first();
    let certificate = certificate.ok_or_else(|| Refusal::NoIdentity("none was sent".to_owned()))?;
    match Identity::from_certificate(certificate) {
        Ok(Identity::Agent { trust_domain, .. }) if trust_domain != *ours => Err(Refusal::TrustDomain {
            theirs: trust_domain,
            ours: ours.clone(),
        }),
        Ok(Identity::Agent { id, .. }) => Ok(id),
        Ok(other) => Err(Refusal::NoIdentity(format!("it says {other}"))),
        Err(error) => Err(Refusal::NoIdentity(error.to_string())),
    }
}

/// Makes the control call and waits for the hello.
async fn control(link: &HubLink) -> Result<Attached, Refusal> {
    let welcome = HubEvent {
        event: Some(hub_event::Event::Welcome(Welcome {
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })),
    };
    // The call lasts as long as the link: the hub's half is never ended.
    let events = stream::iter([welcome]).chain(stream::pending());
    let mut client =
        AgentClient::with_origin(Control(link.clone()), origin()).max_decoding_message_size(MAX_EVENT);
    let mut events = match client.attach(events).await {
        Ok(response) => response.into_inner(),
        Err(status) => return bare(status),
    };
    match events.message().await {
        Ok(Some(AgentEvent {
            event: Some(Event::Hello(hello)),
        })) => Ok(Attached::Hello { hello, events }),
        Ok(_) => Err(Refusal::NoHello),
        Err(status) => bare(status),
    }
}

/// An agent that has no such method, or no gRPC at all, is a bare one.
fn bare(status: Status) -> Result<Attached, Refusal> {
    let failed = std::error::Error::source(&status).and_then(|source| source.downcast_ref::<CallError>());
    match status.code() {
        _ if matches!(failed, Some(CallError::LinkLost { .. })) => Err(Refusal::Control(status)),
        tonic::Code::Unimplemented | tonic::Code::Unknown | tonic::Code::Internal => {
            debug!(%status, "the agent takes no control call");
            Ok(Attached::Bare)
        }
        _ => Err(Refusal::Control(status)),
    }
}

/// Has the link in the registry for as long as it lives.
async fn follow(id: AgentId, attached: Attached, link: HubLink, registry: &Arc<Registry>) {
    let peer = link.remote_address();
    let (place, services, version, events) = match attached {
        Attached::Hello { hello, events } => {
            let services = match advertised(hello.services) {
                Ok(services) => services,
                Err(refusal) => {
                    warn!(agent = %id, %peer, reason = %refusal, "refused a link");
                    return link.close(Code::REQUEST_REJECTED, &refusal.to_string());
                }
            };
            let place = Place {
                instance: hello.instance,
                slot: hello.slot,
                generation: hello.generation,
            };
            (Some(place), services, hello.version, Some(events))
        }
        Attached::Bare => (None, None, "bare".to_owned(), None),
    };
    let count = services.as_ref().map(BTreeSet::len);
    let member = Arc::new(Member::new(id.clone(), link.clone(), place));
    let registered = registry.register(Arc::clone(&member), services);
    info!(agent = %id, %peer, version, services = count, rtt = ?link.round_trip(), "an agent is connected");

    let reason = tokio::select! {
        reason = link.closed() => reason.to_string(),
        refusal = listen(events, &member, &registered) => {
            link.close(Code::REQUEST_REJECTED, &refusal.to_string());
            refusal.to_string()
        }
    };
    drop(registered);
    info!(agent = %id, %peer, reason, in_flight = member.in_flight(), "an agent's link ended");
}

/// Acts on what the agent tells, until it breaks a rule.
async fn listen(events: Option<Streaming<AgentEvent>>, member: &Member, registered: &Registered) -> Refusal {
    let Some(mut events) = events else {
        return std::future::pending().await;
    };
    loop {
        match events.message().await {
            Ok(Some(AgentEvent {
                event: Some(Event::ServicesChanged(changed)),
            })) => match advertised(changed.services) {
                Ok(services) => {
                    info!(agent = %member.id, services = services.as_ref().map(BTreeSet::len), "services changed");
                    registered.set_services(services);
                }
                Err(refusal) => return refusal,
            },
            Ok(Some(AgentEvent {
                event: Some(Event::Drain(_)),
            })) => {
                info!(agent = %member.id, "an agent takes no new calls on its link");
                member.retire();
            }
            // An event that this hub does not know is one of a later version.
            Ok(Some(_)) => {}
            Ok(None) => return Refusal::Control(Status::ok("ended")),
            Err(status) => return Refusal::Control(status),
        }
    }
}

fn advertised(services: Option<Services>) -> Result<directory::Services, Refusal> {
    match services {
        Some(services) if services.names.len() > MAX_SERVICES => {
            Err(Refusal::TooManyServices(services.names.len()))
        }
        Some(services) if services.known => Ok(Some(services.names.into_iter().collect())),
        _ => Ok(None),
    }
}

/// The control call's authority: gRPC wants one, and no agent of ours looks at it.
fn origin() -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(Authority::from_static("hub.adit"));
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    Uri::from_parts(parts).unwrap_or_default()
}

/// A link as tonic's client wants it.
#[derive(Clone)]
struct Control(HubLink);

impl Service<Request<tonic::body::Body>> for Control {
    type Response = Response<Body>;
    type Error = CallError;
    type Future = BoxFuture<'static, Result<Response<Body>, CallError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let link = self.0.clone();
        let (head, body) = request.into_parts();
        let body = Body::new(body.map_err(|_| BodyError::Reset(Code::INTERNAL_ERROR)));
        Box::pin(async move { link.call(&head, body).await })
    }
}
