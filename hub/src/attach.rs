//! How a link comes to carry calls: handshake, identity, hello, registered.

use std::sync::Arc;
use std::time::Duration;

use adit_certs::{AgentId, Identity, TrustDomain};
use adit_proto::labels::{InvalidLabel, Labels};
use adit_proto::tunnel::v1::agent_event::Event;
use adit_proto::tunnel::v1::{AgentEvent, Hello};
use adit_transport::{CallError, Code, Handshake, HubLink};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use crate::control::{self, Say};
use crate::follow::follow;
use crate::member::{Closing, Peer, Place};
use crate::offer::{BadOffer, Offer};
use crate::registry::{MAX_LINKS, Newcomer, NoPlace, Registered, Registry};

/// How long an agent may take to say hello. One that doesn't is closed.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest name of an agent's instance, and of its version.
pub const MAX_NAME: usize = 64;

/// What is kept of an agent's reason for its carrier, in characters.
const MAX_REASON: usize = 256;

/// How long the instance that has an exclusive id may take to answer when another one wants it.
pub const HOLDER_TIMEOUT: Duration = Duration::from_secs(3);

/// How often an id is asked for again that has become free, and was taken by yet another instance meanwhile.
const CLAIMS: usize = 3;

/// What every link of a hub needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Attach {
    pub(crate) registry: Arc<Registry>,
    /// Whose agents may connect.
    pub(crate) trust_domain: TrustDomain,
    /// The hub is about to stop.
    pub(crate) draining: CancellationToken,
}

/// Why a link did not come to carry calls. The agent is told it when its link is closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
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
    #[error("the agent's instance has no name")]
    NoInstance,
    #[error("the agent's {what} has {length} bytes, and {MAX_NAME} are the limit")]
    LongName { what: &'static str, length: usize },
    #[error("the agent's labels: {0}")]
    Labels(#[from] InvalidLabel),
    #[error(transparent)]
    Offer(#[from] BadOffer),
    #[error(
        "the id {id} is exclusive, and another instance has it (connected from {holder}): stop one of the two, or leave \
         --exclusive out for replicas"
    )]
    Occupied { id: AgentId, holder: String },
    #[error(
        "the agent has {MAX_LINKS} links already, over all of its instances: stop some, or give each fewer with --links"
    )]
    TooManyLinks,
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
    Hello { hello: Hello, talk: Talk },
    /// A foreign agent that knows of no control call: its certificate says all there is.
    Bare,
}

/// Both directions of the control call.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) say: Say,
    pub(crate) events: Streaming<AgentEvent>,
}

impl Attach {
    /// Follows one link from its handshake to its end.
    pub(crate) async fn run(self, handshake: Handshake) {
        let peer = handshake.remote_address();
        let link = match handshake.establish().await {
            Ok(link) => link,
            Err(error) => return warn!(%peer, %error, "refused a link"),
        };
        match self.enter(&link).await {
            Ok((registered, talk)) => follow(registered, talk, &self.draining).await,
            Err(refusal) => {
                warn!(%peer, reason = %refusal, "refused a link");
                link.close(Code::REQUEST_REJECTED, &refusal.to_string());
            }
        }
    }

    async fn enter(&self, link: &HubLink) -> Result<(Registered, Option<Talk>), Refusal> {
        let id = self.identify(link)?;
        let attached = tokio::time::timeout(HELLO_TIMEOUT, attach(link))
            .await
            .map_err(|_| Refusal::Silent)??;
        let (peer, offer, talk) = match attached {
            Attached::Hello { hello, talk } => {
                link.code_with(&hello.codings);
                let (peer, offer) = introduced(id, hello)?;
                (peer, offer, Some(talk))
            }
            Attached::Bare => (bare(id), Offer::default(), None),
        };
        let newcomer = Newcomer {
            peer,
            offer,
            link: link.clone(),
        };
        Ok((self.register(newcomer).await?, talk))
    }

    /// The id in the agent's certificate, whose chain and validity the handshake has checked.
    fn identify(&self, link: &HubLink) -> Result<AgentId, Refusal> {
        let certificate = link.peer_certificates().first();
        let certificate = certificate.ok_or_else(|| Refusal::NoIdentity("none was sent".to_owned()))?;
        match Identity::from_certificate(certificate) {
            Ok(Identity::Agent { trust_domain, .. }) if trust_domain != self.trust_domain => {
                Err(Refusal::TrustDomain {
                    theirs: trust_domain,
                    ours: self.trust_domain.clone(),
                })
            }
            Ok(Identity::Agent { id, .. }) => Ok(id),
            Ok(other) => Err(Refusal::NoIdentity(format!("it says {other}"))),
            Err(error) => Err(Refusal::NoIdentity(error.to_string())),
        }
    }

    /// Enters the link into the registry. Where another instance has an exclusive id, that one is asked whether it is
    /// there: an agent that was moved or restarted must not be kept out by the memory of itself.
    async fn register(&self, mut newcomer: Newcomer) -> Result<Registered, Refusal> {
        let mut claims = 0;
        loop {
            let occupied = match self.registry.register(newcomer) {
                Ok(registered) => return Ok(registered),
                Err(NoPlace::Occupied(occupied)) => *occupied,
                Err(NoPlace::Full) => return Err(Refusal::TooManyLinks),
            };
            claims += 1;
            let holder = occupied.holder;
            newcomer = occupied.newcomer;
            if claims > CLAIMS || holder.is_there(HOLDER_TIMEOUT).await {
                return Err(Refusal::Occupied {
                    id: newcomer.peer.id,
                    holder: holder.link.remote_address().to_string(),
                });
            }
            let id = &newcomer.peer.id;
            info!(agent = %id, "another instance takes over an exclusive id whose holder does not answer");
            holder.close(Closing::Dead(
                "another instance wants the exclusive id, and this one did not answer".to_owned(),
            ));
        }
    }
}

/// Makes the control call and waits for the hello.
async fn attach(link: &HubLink) -> Result<Attached, Refusal> {
    let (say, mut events) = match control::attach(link).await {
        Ok(talk) => talk,
        Err(status) => return without_control(status),
    };
    match events.message().await {
        Ok(Some(AgentEvent {
            event: Some(Event::Hello(hello)),
        })) => Ok(Attached::Hello {
            hello,
            talk: Talk { say, events },
        }),
        Ok(_) => Err(Refusal::NoHello),
        Err(status) => without_control(status),
    }
}

/// An agent that has no such method, or no gRPC at all, is a bare one.
fn without_control(status: Status) -> Result<Attached, Refusal> {
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

fn introduced(id: AgentId, hello: Hello) -> Result<(Peer, Offer), Refusal> {
    if hello.id != id.as_str() {
        return Err(Refusal::OtherId {
            said: hello.id.chars().take(100).collect(),
            certified: id,
        });
    }
    if hello.instance.is_empty() {
        return Err(Refusal::NoInstance);
    }
    for (what, name) in [("instance", &hello.instance), ("version", &hello.version)] {
        if name.len() > MAX_NAME {
            let length = name.len();
            return Err(Refusal::LongName { what, length });
        }
    }
    let mut offer = Offer::default();
    offer.set_services(hello.services)?;
    offer.set_health(hello.health)?;
    let peer = Peer {
        id,
        place: Some(Place {
            instance: hello.instance,
            slot: hello.slot,
            generation: hello.generation,
        }),
        version: hello.version,
        labels: Labels::from_map(hello.labels.iter())?,
        exclusive: hello.exclusive,
        carrier_reason: shown(&hello.carrier_reason),
        carrier_moves: hello.carrier_moves,
    };
    Ok((peer, offer))
}

fn bare(id: AgentId) -> Peer {
    Peer {
        id,
        place: None,
        version: "bare".to_owned(),
        labels: Labels::default(),
        exclusive: false,
        carrier_reason: String::new(),
        carrier_moves: 0,
    }
}

/// What an agent says for people to read, not to steer their terminals.
fn shown(reason: &str) -> String {
    let printable = reason.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(MAX_REASON).collect()
}
