//! Which agents are connected, and by which links.
//!
//! A [`Member`] is one live link. It is in the registry from the hello of its agent until its [`Registered`] guard is
//! dropped, which removes that link and no other: an agent that is back already is not disturbed by the end of its
//! earlier link.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use adit_certs::AgentId;
use adit_transport::HubLink;
use tokio::sync::watch;

use crate::directory::{Directory, Links};
use crate::member::{self, Member, Peer};
use crate::offer::{Offer, Suits};

/// Agents and instances that an operator has drained, at the most.
pub const MAX_PAUSED: usize = 16_384;

/// Links of one agent, over all of its instances, at the most.
pub const MAX_LINKS: usize = 1024;

/// All connected agents. Shared by the tasks of the links, which write, and the calls, which read.
#[derive(Debug)]
pub(crate) struct Registry<L = HubLink> {
    state: RwLock<State<L>>,
    changes: watch::Sender<()>,
    next: AtomicU64,
}

/// A moment of the registry.
#[derive(Debug)]
pub(crate) struct State<L = HubLink> {
    directory: Directory<L>,
    /// What an operator has drained: an agent, or one instance of it.
    paused: HashSet<(AgentId, Option<String>)>,
}

/// A member's entry in the registry; dropping it removes the entry.
#[derive(Debug)]
pub(crate) struct Registered<L = HubLink> {
    registry: Arc<Registry<L>>,
    member: Arc<Member<L>>,
}

/// Why a link is not entered.
#[derive(Debug)]
pub(crate) enum NoPlace<L = HubLink> {
    Occupied(Box<Occupied<L>>),
    /// Its agent has [`MAX_LINKS`] already.
    Full,
}

/// An id is exclusive, and another instance has it.
#[derive(Debug)]
pub(crate) struct Occupied<L = HubLink> {
    /// A link of that instance.
    pub(crate) holder: Arc<Member<L>>,
    /// What was to be entered.
    pub(crate) newcomer: Newcomer<L>,
}

/// A link that is to enter the registry.
#[derive(Debug)]
pub(crate) struct Newcomer<L = HubLink> {
    pub(crate) peer: Peer,
    pub(crate) offer: Offer,
    pub(crate) link: L,
}

/// An operator has drained [`MAX_PAUSED`] agents and instances already.
#[derive(Debug, thiserror::Error)]
#[error("{MAX_PAUSED} agents and instances are drained already: resume some of them first")]
pub(crate) struct TooManyPaused;

impl<L> Registry<L> {
    pub(crate) fn new() -> Self {
        Self {
            state: RwLock::new(State {
                directory: Directory::default(),
                paused: HashSet::new(),
            }),
            changes: watch::Sender::new(()),
            next: AtomicU64::new(1),
        }
    }

    /// Enters a link.
    ///
    /// # Errors
    ///
    /// It, or one that is here, is exclusive, and they are of different instances; or its agent has too many.
    pub(crate) fn register(self: &Arc<Self>, newcomer: Newcomer<L>) -> Result<Registered<L>, NoPlace<L>> {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let member = self.write(|state| {
            if let Some(holder) = state.holder(&newcomer.peer) {
                let holder = Arc::clone(holder);
                return Err(NoPlace::Occupied(Box::new(Occupied { holder, newcomer })));
            }
            let links = state.directory.of_agent(newcomer.peer.id.as_str());
            if links.is_some_and(|links| links.len() >= MAX_LINKS) {
                return Err(NoPlace::Full);
            }
            let Newcomer { peer, offer, link } = newcomer;
            let member = Arc::new(Member::new(key, peer, offer, link));
            member.set_paused(state.is_paused(&member.peer));
            state.supersede(&member);
            state.directory.add(&member);
            Ok(member)
        })?;
        Ok(Registered {
            registry: Arc::clone(self),
            member,
        })
    }

    /// Looks at this moment's agents. Brief: new agents wait for it.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State<L>> {
        // A panic while writing leaves at worst a stale index, which is no reason to stop all calls.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is told of every change after this call.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Calls in flight, over all links.
    pub(crate) fn in_flight(&self) -> usize {
        self.links(None).iter().map(|member| member.in_flight()).sum()
    }

    /// The links of one agent, or of all.
    pub(crate) fn links(&self, agent: Option<&AgentId>) -> Vec<Arc<Member<L>>> {
        let state = self.read();
        let links = match agent {
            Some(id) => state.directory.of_agent(id.as_str()),
            None => Some(state.directory.all().links()),
        };
        links.into_iter().flat_map(Links::values).cloned().collect()
    }

    /// Has the links that have got their first call looked at.
    pub(crate) fn watch_busy(&self) {
        for member in self.read().directory.all().links().values() {
            member.watch_if_busy();
        }
    }

    /// Whether an agent serves `service` now: `None` when nobody advertises it.
    pub(crate) fn serving(&self, service: &str) -> Option<bool> {
        let state = self.read();
        let links = state.directory.serving(service)?.links();
        Some(
            links.values().any(|member| {
                member.state() != member::State::Draining && member.suits(service) == Suits::Well
            }),
        )
    }

    /// Gives an agent, or one instance of it, no new calls until it is resumed: how many links that are here now it
    /// concerns. None of them: nothing is remembered.
    pub(crate) fn pause(&self, agent: &AgentId, instance: Option<&str>) -> Result<usize, TooManyPaused> {
        self.write(|state| {
            if state.of_instance(agent, instance).next().is_none() {
                return Ok(0);
            }
            if state.paused.len() >= MAX_PAUSED {
                return Err(TooManyPaused);
            }
            state.paused.insert((agent.clone(), instance.map(str::to_owned)));
            state.apply_paused(agent, instance);
            Ok(state.of_instance(agent, instance).count())
        })
    }

    /// Takes back what [`pause`](Self::pause) did, for an agent and all of its instances, or for one instance: whether
    /// there was anything, and how many links take calls again.
    pub(crate) fn resume(&self, agent: &AgentId, instance: Option<&str>) -> Option<usize> {
        self.write(|state| {
            let before = state.paused.len();
            state.paused.retain(|(paused, one)| {
                paused != agent || (instance.is_some() && one.as_deref() != instance)
            });
            if state.paused.len() == before {
                return None;
            }
            state.apply_paused(agent, instance);
            let links = state.of_instance(agent, instance);
            Some(links.filter(|member| !state.is_paused(&member.peer)).count())
        })
    }

    fn write<T>(&self, change: impl FnOnce(&mut State<L>) -> T) -> T {
        let result = change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_replace(());
        result
    }
}

impl<L> State<L> {
    /// The live links.
    pub(crate) fn directory(&self) -> &Directory<L> {
        &self.directory
    }

    /// A link of another instance, where the newcomer or the other has the id for itself alone. One whose agent takes
    /// no new calls has given it up.
    fn holder(&self, newcomer: &Peer) -> Option<&Arc<Member<L>>> {
        let instance = |peer: &Peer| peer.place.as_ref().map(|place| place.instance.clone());
        let ours = instance(newcomer);
        let mut links = self
            .directory
            .of_agent(newcomer.id.as_str())
            .into_iter()
            .flat_map(Links::values);
        links.find(|other| {
            (newcomer.exclusive || other.peer.exclusive)
                && !other.is_retired()
                && other.closing().is_none()
                && (ours.is_none() || instance(&other.peer) != ours)
        })
    }

    /// Retires the links whose place `newer` takes. An older link that comes late is retired itself.
    fn supersede(&self, newer: &Member<L>) {
        let Some(place) = &newer.peer.place else {
            return;
        };
        let links = self.directory.of_agent(newer.peer.id.as_str());
        for member in links.into_iter().flat_map(Links::values) {
            let Some(other) = &member.peer.place else {
                continue;
            };
            if (&other.instance, other.slot) == (&place.instance, place.slot) {
                if other.generation > place.generation {
                    newer.retire();
                } else {
                    member.retire();
                }
            }
        }
    }

    fn is_paused(&self, peer: &Peer) -> bool {
        let instance = peer.place.as_ref().map(|place| place.instance.clone());
        self.paused.contains(&(peer.id.clone(), None))
            || (instance.is_some() && self.paused.contains(&(peer.id.clone(), instance)))
    }

    fn of_instance<'a>(
        &'a self,
        agent: &AgentId,
        instance: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Member<L>>> {
        let links = self.directory.of_agent(agent.as_str());
        let links = links.into_iter().flat_map(Links::values);
        links.filter(move |member| {
            let place = member.peer.place.as_ref();
            instance.is_none_or(|instance| place.is_some_and(|place| place.instance == instance))
        })
    }

    fn apply_paused(&self, agent: &AgentId, instance: Option<&str>) {
        for member in self.of_instance(agent, instance) {
            member.set_paused(self.is_paused(&member.peer));
        }
    }
}

impl<L> Registered<L> {
    /// Replaces what the link's agent offers.
    pub(crate) fn set_offer(&self, offer: Offer) {
        self.registry
            .write(|state| state.directory.set_offer(&self.member, offer));
    }

    /// Takes no new calls on the link from now on.
    pub(crate) fn retire(&self) {
        self.registry.write(|_| self.member.retire());
    }

    /// The entry's member, which outlives the entry where calls hold it.
    pub(crate) fn member(&self) -> &Arc<Member<L>> {
        &self.member
    }
}

impl<L> Drop for Registered<L> {
    fn drop(&mut self) {
        self.registry.write(|state| state.directory.remove(&self.member));
    }
}

#[cfg(test)]
pub(crate) mod tests;
