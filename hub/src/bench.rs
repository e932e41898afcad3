//! What the benches measure of a hub that has no links: routing and the registry, as a call meets them.

use std::collections::BTreeSet;
use std::sync::Arc;

use adit_proto::labels::{Label, Labels};
use http::{HeaderMap, Uri};

use crate::domain::AgentDomain;
use crate::member::{Peer, Place};
use crate::offer::Offer;
use crate::pools::{Pool, Pools};
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
            peer: Peer {
                id: format!("agent-{agent}").parse().ok()?,
                place: Some(Place {
                    instance: agent.to_string(),
                    slot: 0,
                    generation: 1,
                }),
                version: String::new(),
                labels: Labels::new(labels.into_iter().flatten()).unwrap_or_default(),
                exclusive: false,
                carrier_reason: String::new(),
                carrier_moves: 0,
            },
            offer: Offer {
                services: Some(services),
                ..Offer::default()
            },
            link: (),
        };
        self.registry.register(newcomer).ok()
    }
}
