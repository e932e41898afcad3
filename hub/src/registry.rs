//! Which agents are connected, and by which links.
//!
//! A [`Member`] is one live link. It is in the registry from the hello of its agent until its [`Registered`] guard is
//! dropped, which removes that link and no other: an agent that is back already is not disturbed by the end of its
//! earlier link.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use adit_certs::AgentId;
use adit_transport::HubLink;
use tokio::sync::watch;

use crate::directory::{Directory, Services};

/// One live link of an agent.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: AgentId,
    pub(crate) link: HubLink,
    /// Which process and which of its links this is; none for a bare agent.
    pub(crate) place: Option<Place>,
    /// A later link has taken its place, or its agent asked for no new calls.
    retired: AtomicBool,
    in_flight: AtomicUsize,
}

/// Of two links of the same instance and slot, the one with the higher generation takes the calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) instance: String,
    pub(crate) slot: u32,
    pub(crate) generation: u64,
}

/// A call on a member, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Member>);

/// All connected agents. Shared by the tasks of the links, which write, and the calls, which read.
#[derive(Debug)]
pub(crate) struct Registry {
    state: RwLock<State>,
    changes: watch::Sender<()>,
    next: AtomicU64,
}

/// A moment of the registry.
#[derive(Debug, Default)]
pub(crate) struct State {
    links: HashMap<AgentId, Vec<Listed>>,
    directory: Directory,
}

#[derive(Debug)]
struct Listed {
    key: u64,
    member: Arc<Member>,
    services: Services,
}

/// A member's entry in the registry; dropping it removes the entry.
#[derive(Debug)]
pub(crate) struct Registered {
    registry: Arc<Registry>,
    id: AgentId,
    key: u64,
}

impl Member {
    pub(crate) fn new(id: AgentId, link: HubLink, place: Option<Place>) -> Self {
        Self {
            id,
            link,
            place,
            retired: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
        }
    }

    /// Takes no new calls from now on; those that run go on.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Whether a new call may go here.
    fn takes_calls(&self) -> bool {
        !self.retired.load(Ordering::Relaxed) && !self.link.is_draining()
    }

    /// Calls that run here now.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a call until the guard is dropped.
    pub(crate) fn begin(self: Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }
}

impl InFlight {
    /// Whose agent has the call.
    pub(crate) fn agent(&self) -> &AgentId {
        &self.0.id
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            state: RwLock::default(),
            changes: watch::Sender::new(()),
            next: AtomicU64::new(0),
        }
    }

    /// Enters a link whose agent advertises `services`.
    pub(crate) fn register(self: &Arc<Self>, member: Arc<Member>, services: Services) -> Registered {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let id = member.id.clone();
        self.write(|state| {
            let links = state.links.entry(id.clone()).or_default();
            supersede(links, &member);
            links.push(Listed {
                key,
                member,
                services,
            });
            state.index(&id);
        });
        Registered {
            registry: Arc::clone(self),
            id,
            key,
        }
    }

    /// Looks at this moment's agents. Brief: new agents wait for it.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        // A panic while writing leaves at worst a stale index, which is no reason to stop all calls.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is told of every change after this call.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn write(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_replace(());
    }
}

impl State {
    /// The link of `id` that a new call goes to: of two picked at random the one with fewer calls.
    pub(crate) fn pick(&self, id: &AgentId) -> Option<Arc<Member>> {
        let links = self.links.get(id)?;
        let open = || {
            let members = links.iter().map(|listed| &listed.member);
            members.filter(|member| member.takes_calls())
        };
        let count = open().count();
        let first = open().next()?;
        if count == 1 {
            return Some(Arc::clone(first));
        }
        let a = rand::random_range(0..count);
        // The second is another one than the first.
        let b = (a + rand::random_range(1..count)) % count;
        let (a, b) = (open().nth(a).unwrap_or(first), open().nth(b).unwrap_or(first));
        let chosen = if a.in_flight() <= b.in_flight() { a } else { b };
        Some(Arc::clone(chosen))
    }

    /// What the connected agents advertise.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// An agent advertises what any of its links does.
    fn index(&mut self, id: &AgentId) {
        match self.links.get(id) {
            None => self.directory.remove(id),
            Some(links) => {
                let known = links.iter().filter_map(|listed| listed.services.clone());
                let services = known.reduce(|all, some| &all | &some);
                self.directory.set(id, services);
            }
        }
    }
}

/// Retires the links whose place `newer` takes. An older link that comes late is retired itself.
fn supersede(links: &[Listed], newer: &Member) {
    let Some(place) = &newer.place else {
        return;
    };
    for listed in links {
        let Some(other) = &listed.member.place else {
            continue;
        };
        if (&other.instance, other.slot) == (&place.instance, place.slot) {
            if other.generation > place.generation {
                newer.retire();
            } else {
                listed.member.retire();
            }
        }
    }
}

impl Registered {
    /// Replaces what the link's agent advertises.
    pub(crate) fn set_services(&self, services: Services) {
        self.registry.write(|state| {
            let mut links = state.links.get_mut(&self.id).into_iter().flatten();
            if let Some(listed) = links.find(|listed| listed.key == self.key) {
                listed.services = services;
            }
            state.index(&self.id);
        });
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.write(|state| {
            if let Some(links) = state.links.get_mut(&self.id) {
                links.retain(|listed| listed.key != self.key);
                if links.is_empty() {
                    state.links.remove(&self.id);
                }
            }
            state.index(&self.id);
        });
    }
}
