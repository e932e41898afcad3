//! One of an agent's slots: what makes one link after another to one hub.

use std::future::pending;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use adit_certs::{Identity, IdentityError, TrustDomain};
use adit_proto::tunnel::v1::Hello;
use adit_transport::{AgentLink, Carrier, Code, Dialer, LinkError, Way};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, info, info_span, warn};

use crate::dial::{Backoff, HubAddress, ReachError};
use crate::forward::Forwarder;
use crate::link::{End, Ended, Link};
use crate::offer::Offer;
use crate::race::{Carriers, Memory, Won, race};
use crate::raw::Raw;
use crate::shutdown::Shutdown;

/// An attempt has so long at the least, however often the network changes.
const UNDISTURBED: Duration = Duration::from_secs(1);

/// What makes one link after another to one hub. While a link that the hub drains carries its last calls, there are two.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) hub: HubAddress,
    pub(crate) dialer: Dialer,
    pub(crate) carriers: Carriers,
    /// Within this of a link over TCP, QUIC is tried again, where the agent may choose.
    pub(crate) first_probe: Duration,
    /// Whose hub it has to be.
    pub(crate) trust_domain: TrustDomain,
    /// Of the last link, whose generation it has.
    pub(crate) hello: Hello,
    pub(crate) forwarder: Forwarder,
    pub(crate) raw: Raw,
    pub(crate) offer: watch::Receiver<Offer>,
    pub(crate) drain_timeout: Duration,
    pub(crate) shutdown: Shutdown,
}

/// Why a link is over QUIC that was not.
const BACK: &str = "quic works again";

/// Why an attempt made no link.
#[derive(Debug, thiserror::Error)]
enum NoLink {
    #[error(transparent)]
    Unreachable(#[from] ReachError),
    #[error("what answers is no hub of this agent: {0}")]
    NotTheHub(#[from] NotTheHub),
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

impl Slot {
    /// Makes one link after another until the agent stops, or has drained.
    pub(crate) async fn keep(mut self) {
        let mut links = JoinSet::new();
        let (attached, _) = watch::channel(0);
        let mut backoff = Backoff::new();
        let mut memory = Memory::new(self.first_probe);
        let mut wait = Duration::ZERO;
        // Where the hub was last, and over which carrier.
        let (mut last, mut last_carrier) = (None, None);
        // A better link than the last one, while that still works.
        let mut better = None;
        loop {
            let won = match better.take() {
                Some(won) => won,
                None => match self
                    .next_wire(wait, last, &mut backoff, &memory, &mut links)
                    .await
                {
                    Some(won) => won,
                    None => break,
                },
            };
            let wire = won.link;
            last = Some(wire.remote_address());
            let carrier = wire.carrier();
            memory.worked(carrier);
            let moved_from = last_carrier.replace(carrier).filter(|&last| last != carrier);
            // Only QUIC needs no other reason.
            let why = won
                .why
                .or(moved_from.map(|_| BACK.to_owned()))
                .unwrap_or_default();
            if let Some(from) = moved_from {
                self.hello.carrier_moves += 1;
                let moves = self.hello.carrier_moves;
                info!(%from, to = %carrier, reason = why, moves, "the link has moved");
            }
            self.hello.carrier_reason = why;
            self.hello.generation += 1;
            let generation = self.hello.generation;
            let (hub_drains, leave) = (CancellationToken::new(), CancellationToken::new());
            let link = Link {
                wire,
                hello: self.hello.clone(),
                offer: self.offer.clone(),
                forwarder: self.forwarder.clone(),
                raw: self.raw.clone(),
                attached: attached.clone(),
                hub_drains: hub_drains.clone(),
                leave: leave.clone(),
                drain_timeout: self.drain_timeout,
                shutdown: self.shutdown.clone(),
            };
            let since = Instant::now();
            links.spawn(link.run().instrument(info_span!("generation", generation)));
            wait = tokio::select! {
                end = end_of(generation, &mut links) => {
                    backoff.held(since.elapsed());
                    // Where this machine has no way to the hub at all, that is no fault of the carrier's.
                    let silently = matches!(end, Some(End::Dead(_) | End::Lost(LinkError::TimedOut)))
                        && last.is_none_or(Way::exists_to);
                    memory.ended(carrier, since.elapsed(), silently);
                    match end {
                        Some(End::Dead(_)) => backoff.at_once(),
                        Some(End::Lost(LinkError::Refused(_))) => backoff.refused(),
                        // It is the transport that has ended it, because its address is gone: there is another by now.
                        Some(End::Lost(LinkError::LocallyClosed)) => {
                            backoff.start_over();
                            backoff.at_once()
                        }
                        Some(End::Lost(_) | End::Replaced | End::Stopped) | None => backoff.next(),
                    }
                }
                // It goes on with the calls that it has, beside the next one.
                () = hub_drains.cancelled() => {
                    backoff.held(since.elapsed());
                    backoff.at_once()
                }
                () = self.shutdown.draining() => break,
                // The link goes on with the calls that it has until the hub makes new ones on the next.
                link = self.back_to_quic(carrier, &mut memory) => {
                    leave.cancel();
                    better = Some(Won { link, why: None });
                    continue;
                }
            };
            info!(?wait, "dialling again");
        }
        while links.join_next().await.is_some() {}
    }

    /// Dials until there is a link: `None` once the agent drains or stops. `last` is where the hub was last.
    async fn next_wire(
        &self,
        mut wait: Duration,
        last: Option<SocketAddr>,
        backoff: &mut Backoff,
        memory: &Memory,
        links: &mut JoinSet<Ended>,
    ) -> Option<Won> {
        let mut way = Way::out_and_to(last);
        loop {
            let attempt = async {
                tokio::time::sleep(wait).await;
                self.dial(memory).await
            };
            let changed = async {
                tokio::time::sleep(UNDISTURBED).await;
                way.changed().await;
            };
            tokio::select! {
                attempted = attempt => match attempted {
                    Ok(won) => return Some(won),
                    Err(error) => {
                        wait = backoff.next();
                        warn!(%error, ?wait, "cannot reach the hub");
                    }
                },
                // A hub that drains refuses new links. Now it has stopped, and the one that follows it is there soon.
                Some(_) = links.join_next() => {
                    backoff.start_over();
                    wait = backoff.next();
                    info!(?wait, "dialling again");
                }
                // A dial that began without a network would find out late that there is one.
                () = changed => {
                    backoff.start_over();
                    wait = Duration::ZERO;
                    info!("dialling at once: this machine's way out has changed");
                }
                () = self.shutdown.draining() => return None,
            }
        }
    }

    async fn dial(&self, memory: &Memory) -> Result<Won, NoLink> {
        let won = match self.carriers {
            Carriers::Only(carrier) => Won {
                link: self.hub.reach(&self.dialer, carrier).await?,
                why: None,
            },
            // There is one way only.
            Carriers::Auto if self.hub.is_url() => Won {
                link: self.hub.reach(&self.dialer, Carrier::WebSocket).await?,
                why: None,
            },
            Carriers::Auto => race(&self.hub, &self.dialer, memory).await?,
        };
        self.accept(won.link, won.why)
    }

    /// Tries QUIC again and again while the link runs over another carrier, and could run over it: ready with a link.
    async fn back_to_quic(&self, carrier: Carrier, memory: &mut Memory) -> AgentLink {
        if self.carriers != Carriers::Auto || carrier == Carrier::Quic || self.hub.is_url() {
            return pending().await;
        }
        loop {
            tokio::time::sleep(memory.next_probe()).await;
            let reached = self.hub.reach(&self.dialer, Carrier::Quic).await;
            match reached
                .map_err(NoLink::from)
                .and_then(|link| self.accept(link, None))
            {
                Ok(won) => return won.link,
                Err(error) => debug!(%error, "quic does not work yet"),
            }
        }
    }

    /// A link to the hub, and to nobody else.
    fn accept(&self, wire: AgentLink, why: Option<String>) -> Result<Won, NoLink> {
        if let Err(error) = self.check_hub(&wire) {
            wire.close(Code::REQUEST_REJECTED, &error.to_string());
            return Err(error.into());
        }
        info!(carrier = %wire.carrier(), peer = %wire.remote_address(), rtt = ?wire.round_trip(), why, "connected to the hub");
        Ok(Won { link: wire, why })
    }

    /// The CA vouches for the name of more servers than the hub: an upstream's certificate, say, makes no hub.
    fn check_hub(&self, wire: &AgentLink) -> Result<(), NotTheHub> {
        let certificate = wire.peer_certificates().first().ok_or(NotTheHub::NoCertificate)?;
        match Identity::from_certificate(certificate)? {
            Identity::Hub { trust_domain } if trust_domain == self.trust_domain => Ok(()),
            identity => Err(NotTheHub::Other {
                identity,
                expected: self.trust_domain.clone(),
            }),
        }
    }
}

/// How the link of this generation ends, or that one has ended untold, which may have been this one. Older ones may end before.
async fn end_of(generation: u64, links: &mut JoinSet<Ended>) -> Option<End> {
    loop {
        let ended = links.join_next().await?.ok()?;
        if ended.generation == generation {
            return Some(ended.end);
        }
    }
}
