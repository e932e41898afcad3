//! What the benches measure of a hub without its ports: routing and the registry, as a call meets them, and whole calls.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use adit_proto::labels::{Label, Labels};
use adit_transport::HubLink;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri};
use tokio_util::sync::CancellationToken;

use crate::builder::RECONNECT_GRACE;
use crate::call::{Calls, Routing};
use crate::domain::AgentDomain;
use crate::health::HubHealth;
use crate::member::{Peer, Place};
use crate::offer::Offer;
use crate::pools::{Pool, Pools};
use crate::principal::Principal;
use crate::registry::{Newcomer, Registered, Registry};
use crate::router::{Target, service, without_routing};

/// A registry full of agents whose links lead nowhere.
#[derive(Debug)]
pub struct Fleet {
    registry: Arc<Registry<()>>,
    entries: Vec<Registered<()>>,
    domain: Option<AgentDomain>,
    pools: Pools,
}

impl Fleet {
    /// `agents` agents `agent-0`, `agent-1` … with labels and services; the calls for `shared.Service` are shared.
    pub fn new(agents: usize) -> Self {
        let mut fleet = Self {
            registry: Arc::new(Registry::new()),
            entries: Vec::with_capacity(agents),
            domain: "agents.example".parse().ok(),
            pools: "shared.Service".parse::<Pool>().into_iter().collect(),
        };
        for agent in 0..agents {
            fleet.entries.extend(fleet.enter(agent));
        }
        fleet
    }

    /// Does all that a hub does between a request's head and the stream it is sent on: whether it found a link.
    pub fn route(&self, uri: &Uri, metadata: HeaderMap) -> bool {
        let target = Target::of(uri.path(), uri.authority(), &metadata, self.domain.as_ref());
        let (Ok(target), Ok(service)) = (target, service(uri.path())) else {
            return false;
        };
        std::hint::black_box(without_routing(metadata));
        let state = self.registry.read();
        let member = target.route(service, state.directory(), &self.pools, &[]);
        drop(state);
        member.is_ok_and(|member| {
            drop(member.begin());
            true
        })
    }

    /// An agent comes with a new link, and its old one ends.
    pub fn reconnect(&mut self, agent: usize) {
        if let Some(new) = self.enter(agent) {
            self.entries[agent] = new;
        }
    }

    fn enter(&self, agent: usize) -> Option<Registered<()>> {
        let label = |key: &str, of: usize| Label::new(key, &(agent % of).to_string());
        let labels = [
            label("region", 5),
            label("tier", 2),
            label("rack", 1000),
            label("serial", usize::MAX),
        ];
        let services = BTreeSet::from(["shared.Service".to_owned(), format!("own.Service{agent}")]);
        let newcomer = Newcomer {
            peer: peer(
                agent,
                Labels::new(labels.into_iter().flatten()).unwrap_or_default(),
            )?,
            offer: Offer {
                services: Some(services),
                ..Offer::default()
            },
            link: (),
        };
        self.registry.register(newcomer).ok()
    }
}

/// A hub with one agent, and without ports: a call comes to it as from a client's connection, and goes out on the link.
#[derive(Clone, Debug)]
pub struct Portless {
    calls: Arc<Calls>,
    client: Principal,
    _entry: Arc<Registered>,
}

impl Portless {
    /// `link` is that of an agent `agent-0`, which serves `service` as the only one.
    pub fn new(link: HubLink, service: &str) -> Option<Self> {
        let registry = Arc::new(Registry::new());
        let newcomer = Newcomer {
            peer: peer(0, Labels::default())?,
            offer: Offer {
                services: Some(BTreeSet::from([service.to_owned()])),
                ..Offer::default()
            },
            link,
        };
        let entry = registry.register(newcomer).ok()?;
        let health = HubHealth::new(Arc::clone(&registry), CancellationToken::new());
        let routing = Routing {
            reconnect_grace: RECONNECT_GRACE,
            ..Routing::default()
        };
        Some(Self {
            calls: Arc::new(Calls::new(registry, health, routing)),
            client: Principal {
                name: None,
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            },
            _entry: Arc::new(entry),
        })
    }

    /// Makes one call: all that a hub does with it between hyper and the link.
    ///
    /// # Errors
    /// The call was reset.
    pub async fn call<B>(
        &self,
        request: Request<B>,
    ) -> Result<Response<impl http_body::Body<Data = Bytes, Error = h2::Error> + Send + use<B>>, h2::Error>
    where
        B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send>
            + Unpin
            + Send
            + 'static,
    {
        self.calls.handle(request, &self.client).await
    }
}

/// Who the agent with this number is.
fn peer(agent: usize, labels: Labels) -> Option<Peer> {
    Some(Peer {
        id: format!("agent-{agent}").parse().ok()?,
        place: Some(Place {
            instance: agent.to_string(),
            slot: 0,
            generation: 1,
        }),
        version: String::new(),
        labels,
        exclusive: false,
        carrier_reason: String::new(),
        carrier_moves: 0,
    })
}
