//! An agent as a whole: links to its hubs, and what it tells them of its upstreams.

use std::future::{Future, pending};
use std::time::Duration;

use adit_certs::{AgentId, Credentials, TrustDomain};
use adit_proto::tunnel::v1::Hello;
use adit_transport::Dialer;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{Instrument as _, info, info_span};

use crate::builder::Builder;
use crate::dial::HubAddress;
use crate::forward::Forwarder;
use crate::offer::{self, Offer};
use crate::race::Carriers;
use crate::raw::Raw;
use crate::shutdown::Shutdown;
use crate::slot::Slot;

/// How long a stopping agent takes to tell its hubs.
const GOODBYE: Duration = Duration::from_secs(1);

/// An agent that is ready to connect.
#[derive(Debug)]
pub struct Agent {
    pub(crate) hubs: Vec<HubAddress>,
    /// To each of them.
    pub(crate) links: u32,
    pub(crate) dialer: Dialer,
    pub(crate) carriers: Carriers,
    pub(crate) first_probe: Duration,
    /// Whose hubs they have to be.
    pub(crate) trust_domain: TrustDomain,
    /// As it is before any link has its slot and generation.
    pub(crate) hello: Hello,
    pub(crate) forwarder: Forwarder,
    pub(crate) raw: Raw,
    /// Named in the configuration; otherwise the upstreams are asked.
    pub(crate) services: Option<Vec<String>>,
    pub(crate) drain_timeout: Duration,
}

impl Agent {
    /// An agent with this id, which has to be the one in its certificate.
    pub fn builder(id: AgentId, credentials: Credentials) -> Builder {
        Builder::new(id, credentials)
    }

    /// Keeps its links to every hub.
    ///
    /// Once `drain` is ready, the hubs are told to send no new calls, those that they send nonetheless are refused unseen,
    /// and the running ones get the [drain timeout](Builder::drain_timeout) to end. Then, or once `stop` is ready, the links
    /// are closed and this future is ready.
    pub async fn run(self, drain: impl Future<Output = ()>, stop: impl Future<Output = ()>) {
        let shutdown = Shutdown::default();
        let mut slots = JoinSet::new();
        let (offer, known) = watch::channel(Offer::unasked());
        let (forwarder, services) = (self.forwarder.clone(), self.services.clone());
        let drain = async {
            drain.await;
            info!("draining");
            shutdown.drain();
            pending::<()>().await;
        };
        tokio::select! {
            () = drain => {}
            () = stop => {}
            () = offer::keep(&forwarder, services, &offer) => {}
            () = self.keep_links(known, &shutdown, &mut slots) => {}
        }
        info!("stopping");
        shutdown.stop();
        let goodbyes = async { while slots.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GOODBYE, goodbyes).await;
    }

    /// Keeps the links to every hub until the agent has drained.
    async fn keep_links(
        self,
        mut offer: watch::Receiver<Offer>,
        shutdown: &Shutdown,
        slots: &mut JoinSet<()>,
    ) {
        // The first hello says what the upstreams have, where they are up by then.
        tokio::select! {
            _ = offer.changed() => {}
            () = shutdown.draining() => return,
        }
        let links = self.links;
        let all = self
            .hubs
            .into_iter()
            .flat_map(|hub| (0..links).map(move |_| hub.clone()));
        // Counted over all hubs: two addresses may lead to the same one.
        for (hub, slot) in all.zip(0..) {
            let span = info_span!("link", %hub, slot);
            let slot = Slot {
                hub,
                dialer: self.dialer.clone(),
                carriers: self.carriers,
                first_probe: self.first_probe,
                trust_domain: self.trust_domain.clone(),
                hello: Hello {
                    slot,
                    ..self.hello.clone()
                },
                forwarder: self.forwarder.clone(),
                raw: self.raw.clone(),
                offer: offer.clone(),
                drain_timeout: self.drain_timeout,
                shutdown: shutdown.clone(),
            };
            slots.spawn(slot.keep().instrument(span));
        }
        while slots.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests;
