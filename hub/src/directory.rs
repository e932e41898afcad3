//! The live links, indexed the way routes ask for them: by agent, by label and by service.
//!
//! Every change costs what the link itself has of labels and services, whatever else is connected; and so does every
//! question.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use adit_certs::AgentId;
use adit_proto::labels::Label;
use adit_transport::HubLink;
use indexmap::IndexMap;

use crate::departed::Departed;
use crate::member::Member;
use crate::offer::Offer;

/// Links by their number, in no order that means anything, so that a random one is found at once.
pub(crate) type Links<L = HubLink> = IndexMap<u64, Arc<Member<L>>>;

/// Links that have something in common, and whose they are.
#[derive(Debug)]
pub(crate) struct Group<L = HubLink> {
    links: Links<L>,
    /// With how many of the links each has.
    ids: BTreeMap<AgentId, usize>,
}

/// All live links.
#[derive(Debug)]
pub(crate) struct Directory<L = HubLink> {
    all: Group<L>,
    by_id: HashMap<AgentId, OfAgent<L>>,
    by_label: HashMap<Label, Group<L>>,
    by_service: HashMap<String, Group<L>>,
    /// The links of agents of which no link knows its services.
    silent: Group<L>,
    departed: Departed,
}

/// The links of one agent.
#[derive(Debug)]
struct OfAgent<L> {
    links: Links<L>,
    /// How many of them know their services.
    knowing: usize,
}

impl<L> Directory<L> {
    /// All links.
    pub(crate) fn all(&self) -> &Group<L> {
        &self.all
    }

    /// The links of one agent.
    pub(crate) fn of_agent(&self, id: &str) -> Option<&Links<L>> {
        self.by_id.get(id).map(|agent| &agent.links)
    }

    /// The links whose agents have this label.
    pub(crate) fn labelled(&self, label: &Label) -> Option<&Group<L>> {
        self.by_label.get(label)
    }

    /// The links whose agents advertise this service.
    pub(crate) fn serving(&self, service: &str) -> Option<&Group<L>> {
        self.by_service.get(service)
    }

    /// The links of agents that don't know their services.
    pub(crate) fn silent(&self) -> &Group<L> {
        &self.silent
    }

    /// For how long an agent has been away, if it was here.
    pub(crate) fn away(&self, id: &AgentId) -> Option<Duration> {
        self.departed.away(id)
    }

    /// Up to `count` connected agents whose ids are next to one, in order.
    pub(crate) fn near(&self, id: &AgentId, count: usize) -> Vec<AgentId> {
        let ids = &self.all.ids;
        let before: Vec<_> = ids
            .range::<AgentId, _>(..id)
            .rev()
            .take(count)
            .map(|(id, _)| id)
            .collect();
        let after: Vec<_> = ids
            .range::<AgentId, _>(id..)
            .take(count)
            .map(|(id, _)| id)
            .collect();
        // Half of each where there are enough.
        let of_before = before
            .len()
            .min((count / 2).max(count.saturating_sub(after.len())));
        let near = before.into_iter().take(of_before).rev().chain(after);
        near.take(count).cloned().collect()
    }

    /// Connected agents.
    pub(crate) fn agents(&self) -> usize {
        self.by_id.len()
    }

    /// Enters a link.
    pub(crate) fn add(&mut self, member: &Arc<Member<L>>) {
        self.all.add(member);
        self.departed.is_back(&member.peer.id);
        let agent = self.by_id.entry(member.peer.id.clone());
        let agent = agent.or_insert_with(|| OfAgent {
            links: Links::new(),
            knowing: 0,
        });
        agent.links.insert(member.key, Arc::clone(member));
        if agent.knowing == 0 {
            self.silent.add(member);
        }
        for label in member.peer.labels.iter() {
            add(&mut self.by_label, label, member);
        }
        self.add_services(member, &member.offer());
    }

    /// Takes a link out.
    pub(crate) fn remove(&mut self, member: &Arc<Member<L>>) {
        self.remove_services(member, &member.offer());
        for label in member.peer.labels.iter() {
            remove(&mut self.by_label, label, member);
        }
        self.silent.remove(member);
        if let Some(agent) = self.by_id.get_mut(&member.peer.id) {
            agent.links.swap_remove(&member.key);
            if agent.links.is_empty() {
                self.by_id.remove(&member.peer.id);
                self.departed.left(&member.peer.id);
            }
        }
        self.all.remove(member);
    }

    /// Replaces what a link's agent offers.
    pub(crate) fn set_offer(&mut self, member: &Arc<Member<L>>, offer: Offer) {
        let old = member.offer();
        if old.services == offer.services {
            return member.set_offer(offer);
        }
        self.remove_services(member, &old);
        self.add_services(member, &offer);
        member.set_offer(offer);
    }

    fn add_services(&mut self, member: &Arc<Member<L>>, offer: &Offer) {
        let Some(services) = &offer.services else {
            return;
        };
        for service in services {
            add(&mut self.by_service, service, member);
        }
        if let Some(agent) = self.by_id.get_mut(&member.peer.id) {
            agent.knowing += 1;
            if agent.knowing == 1 {
                for member in agent.links.values() {
                    self.silent.remove(member);
                }
            }
        }
    }

    fn remove_services(&mut self, member: &Arc<Member<L>>, offer: &Offer) {
        let Some(services) = &offer.services else {
            return;
        };
        for service in services {
            remove(&mut self.by_service, service, member);
        }
        if let Some(agent) = self.by_id.get_mut(&member.peer.id) {
            agent.knowing -= 1;
            if agent.knowing == 0 {
                for member in agent.links.values() {
                    self.silent.add(member);
                }
            }
        }
    }
}

impl<L> Group<L> {
    /// The links.
    pub(crate) fn links(&self) -> &Links<L> {
        &self.links
    }

    /// Whose they are, in order.
    pub(crate) fn ids(&self) -> impl ExactSizeIterator<Item = &AgentId> {
        self.ids.keys()
    }

    fn add(&mut self, member: &Arc<Member<L>>) {
        if self.links.insert(member.key, Arc::clone(member)).is_none() {
            *self.ids.entry(member.peer.id.clone()).or_default() += 1;
        }
    }

    fn remove(&mut self, member: &Arc<Member<L>>) {
        if self.links.swap_remove(&member.key).is_none() {
            return;
        }
        if let Some(count) = self.ids.get_mut(&member.peer.id) {
            *count -= 1;
            if *count == 0 {
                self.ids.remove(&member.peer.id);
            }
        }
    }
}

fn add<K: Clone + Eq + Hash, L>(groups: &mut HashMap<K, Group<L>>, key: &K, member: &Arc<Member<L>>) {
    match groups.get_mut(key) {
        Some(group) => group.add(member),
        None => {
            let mut group = Group::default();
            group.add(member);
            groups.insert(key.clone(), group);
        }
    }
}

fn remove<K: Eq + Hash, L>(groups: &mut HashMap<K, Group<L>>, key: &K, member: &Arc<Member<L>>) {
    if let Some(group) = groups.get_mut(key) {
        group.remove(member);
        if group.links.is_empty() {
            groups.remove(key);
        }
    }
}

impl<L> Default for Group<L> {
    fn default() -> Self {
        Self {
            links: Links::new(),
            ids: BTreeMap::new(),
        }
    }
}

impl<L> Default for Directory<L> {
    fn default() -> Self {
        Self {
            all: Group::default(),
            by_id: HashMap::new(),
            by_label: HashMap::new(),
            by_service: HashMap::new(),
            silent: Group::default(),
            departed: Departed::default(),
        }
    }
}
