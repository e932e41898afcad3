#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use adit_proto::labels::Labels;
use proptest::prelude::*;

use super::*;
use crate::member::{InFlight, Place};

/// A registry whose links lead nowhere, and what keeps them in it.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) registry: Arc<Registry<()>>,
    pub(crate) members: BTreeMap<u64, Arc<Member<()>>>,
    pub(crate) registered: BTreeMap<u64, Registered<()>>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            registry: Arc::new(Registry::new()),
            members: BTreeMap::new(),
            registered: BTreeMap::new(),
        }
    }
}

/// The services of an agent that knows them.
pub(crate) fn offering(services: &[&str]) -> Option<BTreeSet<String>> {
    Some(services.iter().map(|&service| service.to_owned()).collect())
}

pub(crate) fn offer(services: Option<BTreeSet<String>>) -> Offer {
    Offer {
        services,
        ..Offer::default()
    }
}

pub(crate) fn labels(labels: &str) -> Labels {
    let labels = labels.split(',').filter(|label| !label.is_empty());
    Labels::new(labels.map(|label| label.parse().unwrap())).unwrap()
}

pub(crate) fn peer(id: &str, instance: &str, slot: u32, generation: u64) -> Peer {
    Peer {
        id: id.parse().unwrap(),
        place: Some(Place {
            instance: instance.to_owned(),
            slot,
            generation,
        }),
        version: "1".to_owned(),
        labels: Labels::default(),
        exclusive: false,
        carrier_reason: String::new(),
        carrier_moves: 0,
    }
}

impl Fleet {
    /// Enters a replica of `id`.
    pub(crate) fn enter(&mut self, id: &str, services: Option<BTreeSet<String>>) -> u64 {
        let instance = self.members.len().to_string();
        self.enter_as(peer(id, &instance, 0, 1), offer(services)).unwrap()
    }

    /// Enters a link, or says which one keeps it out.
    pub(crate) fn enter_as(&mut self, peer: Peer, offer: Offer) -> Result<u64, u64> {
        let newcomer = Newcomer {
            peer,
            offer,
            link: (),
        };
        match self.registry.register(newcomer) {
            Ok(registered) => {
                let key = registered.member().key;
                self.members.insert(key, Arc::clone(registered.member()));
                self.registered.insert(key, registered);
                Ok(key)
            }
            Err(NoPlace::Occupied(occupied)) => Err(occupied.holder.key),
            Err(NoPlace::Full) => unreachable!("{MAX_LINKS} links are here"),
        }
    }

    pub(crate) fn leave(&mut self, key: u64) {
        self.members.remove(&key);
        self.registered.remove(&key);
    }

    /// The links that take calls.
    fn open(&self) -> Vec<u64> {
        let open = self
            .members
            .values()
            .filter(|member| member.state() == member::State::Ready);
        open.map(|member| member.key).collect()
    }
}

#[test]
fn an_agent_has_so_many_links_and_no_more() {
    let mut fleet = Fleet::default();
    for _ in 0..MAX_LINKS {
        fleet.enter("a", None);
    }
    let newcomer = || Newcomer {
        peer: peer("a", "one more", 0, 1),
        offer: Offer::default(),
        link: (),
    };
    let refused = fleet.registry.register(newcomer());
    assert!(matches!(refused, Err(NoPlace::Full)), "{refused:?}");
    fleet.enter("b", None);
    let first = *fleet.members.keys().next().unwrap();
    fleet.leave(first);
    assert!(fleet.registry.register(newcomer()).is_ok());
}

#[test]
fn the_higher_generation_of_a_slot_takes_the_calls() {
    let mut fleet = Fleet::default();
    let old = fleet.enter_as(peer("a", "i", 0, 1), Offer::default()).unwrap();
    let slot = fleet.enter_as(peer("a", "i", 1, 1), Offer::default()).unwrap();
    let replica = fleet.enter_as(peer("a", "j", 0, 1), Offer::default()).unwrap();
    let other = fleet.enter_as(peer("b", "i", 0, 1), Offer::default()).unwrap();
    assert_eq!(fleet.open(), [old, slot, replica, other]);
    let new = fleet.enter_as(peer("a", "i", 0, 2), Offer::default()).unwrap();
    assert_eq!(fleet.open(), [slot, replica, other, new]);
    // One that was made before, and comes late.
    fleet.enter_as(peer("a", "i", 0, 1), Offer::default()).unwrap();
    assert_eq!(fleet.open(), [slot, replica, other, new]);
    // The end of the old one changes nothing for the new.
    fleet.leave(old);
    assert_eq!(fleet.open(), [slot, replica, other, new]);
}

#[test]
fn an_exclusive_id_has_one_instance() {
    let exclusive = |instance: &str, slot, generation| Peer {
        exclusive: true,
        ..peer("a", instance, slot, generation)
    };
    let mut fleet = Fleet::default();
    let held = fleet.enter_as(exclusive("i", 0, 1), Offer::default()).unwrap();
    assert_eq!(fleet.enter_as(exclusive("j", 0, 1), Offer::default()), Err(held));
    assert_eq!(fleet.enter_as(peer("a", "j", 0, 1), Offer::default()), Err(held));
    let bare = Peer {
        place: None,
        ..peer("a", "", 0, 0)
    };
    assert_eq!(fleet.enter_as(bare.clone(), Offer::default()), Err(held));
    // Other links of the same instance, and other ids, are welcome.
    let slot = fleet.enter_as(exclusive("i", 1, 1), Offer::default()).unwrap();
    fleet.enter_as(peer("b", "j", 0, 1), Offer::default()).unwrap();
    // Who takes no new calls has given the id up.
    fleet.members[&held].retire();
    fleet.members[&slot].retire();
    let next = fleet.enter_as(exclusive("j", 0, 1), Offer::default()).unwrap();
    assert_eq!(fleet.enter_as(exclusive("i", 0, 2), Offer::default()), Err(next));
    // Nor may an id be made exclusive that others have.
    let mut fleet = Fleet::default();
    let replica = fleet.enter_as(bare, Offer::default()).unwrap();
    assert_eq!(
        fleet.enter_as(exclusive("i", 0, 1), Offer::default()),
        Err(replica)
    );
}

#[test]
fn an_operator_drains_agents_and_instances_until_they_are_resumed() {
    let mut fleet = Fleet::default();
    let a: AgentId = "a".parse().unwrap();
    let nobody = fleet.registry.pause(&a, None).unwrap();
    assert_eq!(nobody, 0, "who isn't here can't be drained");
    let i = fleet.enter_as(peer("a", "i", 0, 1), Offer::default()).unwrap();
    let j = fleet.enter_as(peer("a", "j", 0, 1), Offer::default()).unwrap();
    assert_eq!(fleet.registry.pause(&a, Some("i")).unwrap(), 1);
    assert_eq!(fleet.open(), [j]);
    // It stays so when the instance comes back.
    fleet.leave(i);
    let i = fleet.enter_as(peer("a", "i", 0, 2), Offer::default()).unwrap();
    assert_eq!(fleet.open(), [j]);
    assert_eq!(fleet.registry.pause(&a, None).unwrap(), 2);
    assert_eq!(
        fleet.registry.resume(&a, Some("i")),
        Some(0),
        "the agent is drained still"
    );
    assert_eq!(fleet.registry.resume(&a, Some("i")), None);
    assert_eq!(fleet.registry.resume(&a, None), Some(2));
    assert_eq!(fleet.open(), [j, i]);
    assert_eq!(fleet.registry.resume(&a, None), None);
}

#[test]
fn a_service_is_served_where_one_link_takes_its_calls() {
    let mut fleet = Fleet::default();
    assert_eq!(fleet.registry.serving("a.B"), None);
    let one = fleet.enter("a", offering(&["a.B"]));
    let two = fleet.enter("b", offering(&["a.B"]));
    let down = |services| Offer {
        services,
        down: true,
        ..Offer::default()
    };
    fleet.registered[&one].set_offer(down(offering(&["a.B"])));
    assert_eq!(fleet.registry.serving("a.B"), Some(true));
    fleet.registered[&two].retire();
    assert_eq!(fleet.registry.serving("a.B"), Some(false));
    fleet.registered[&one].set_offer(offer(offering(&["a.B"])));
    assert_eq!(fleet.registry.serving("a.B"), Some(true));
}

#[tokio::test]
async fn every_change_is_told() {
    let mut fleet = Fleet::default();
    let mut changes = fleet.registry.changes();
    let mut changed = || {
        let changed = changes.has_changed().unwrap();
        changes.mark_unchanged();
        changed
    };
    assert!(!changed());
    let key = fleet.enter("a", None);
    assert!(changed());
    fleet.registered[&key].set_offer(offer(offering(&["a.B"])));
    assert!(changed());
    fleet.registered[&key].retire();
    assert!(changed());
    fleet.leave(key);
    assert!(changed());
}

#[derive(Clone, Debug)]
enum Step {
    Hello {
        id: String,
        instance: String,
        slot: u32,
        generation: u64,
        exclusive: bool,
        labels: BTreeSet<String>,
        services: Option<BTreeSet<String>>,
    },
    Services(usize, Option<BTreeSet<String>>),
    Drain(usize),
    Call(usize),
    Lose(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let services = || prop::option::of(prop::collection::btree_set("[x-z]", 0..3));
    prop_oneof![
        3 => (
            "[ab]",
            "[ij]",
            0..2_u32,
            0..4_u64,
            prop::bool::weighted(0.1),
            prop::collection::btree_set("[k-m]", 0..3),
            services()
        )
            .prop_map(|(id, instance, slot, generation, exclusive, labels, services)| Step::Hello {
                id, instance, slot, generation, exclusive, labels, services
            }),
        1 => (any::<usize>(), services()).prop_map(|(link, services)| Step::Services(link, services)),
        1 => any::<usize>().prop_map(Step::Drain),
        2 => any::<usize>().prop_map(Step::Call),
        2 => any::<usize>().prop_map(Step::Lose),
    ]
}

proptest! {
    /// After any order of hellos, changes, drains and losses the registry says what a look at every link would.
    #[test]
    fn any_order_leaves_the_registry_right(steps in prop::collection::vec(step(), 0..60)) {
        let mut fleet = Fleet::default();
        let mut calls: BTreeMap<u64, Vec<InFlight<()>>> = BTreeMap::new();
        for step in steps {
            let nth = |n: usize| fleet.members.keys().nth(n % fleet.members.len().max(1)).copied();
            match step {
                Step::Hello { id, instance, slot, generation, exclusive, labels: names, services } => {
                    let newcomer = Peer {
                        exclusive,
                        labels: labels(&names.iter().map(|name| format!("{name}=1")).collect::<Vec<_>>().join(",")),
                        ..peer(&id, &instance, slot, generation)
                    };
                    let kept_out = fleet.members.values().any(|other| {
                        other.peer.id == newcomer.id
                            && other.peer.place.as_ref().unwrap().instance != instance
                            && (other.peer.exclusive || exclusive)
                            && !other.is_retired()
                    });
                    let entered = fleet.enter_as(newcomer, offer(services));
                    prop_assert_eq!(entered.is_err(), kept_out);
                }
                Step::Services(n, services) => if let Some(key) = nth(n) {
                    fleet.registered[&key].set_offer(offer(services));
                },
                Step::Drain(n) => if let Some(key) = nth(n) {
                    fleet.registered[&key].retire();
                },
                Step::Call(n) => if let Some(key) = nth(n) {
                    calls.entry(key).or_default().push(Arc::clone(&fleet.members[&key]).begin());
                },
                Step::Lose(n) => if let Some(key) = nth(n) {
                    fleet.leave(key);
                },
            }
            check(&fleet)?;
        }
        // A link that is gone lives on for its calls alone.
        drop(fleet.registered);
        let state = fleet.registry.read();
        prop_assert_eq!(state.directory.all().links().len(), 0);
        prop_assert!(["x", "y", "z"].iter().all(|service| state.directory.serving(service).is_none()));
        prop_assert_eq!(state.directory.agents(), 0);
        for (key, calls) in calls {
            if let Some(member) = fleet.members.get(&key) {
                prop_assert_eq!(member.in_flight(), calls.len());
            }
        }
    }
}

fn has(member: &Member<()>, service: &str) -> bool {
    member
        .offer()
        .services
        .as_ref()
        .is_some_and(|services| services.contains(service))
}

/// Compares the indexes with a look at every link.
fn check(fleet: &Fleet) -> Result<(), TestCaseError> {
    let state = fleet.registry.read();
    let directory = &state.directory;
    let keys = |links: Option<&Links<()>>| -> BTreeSet<u64> {
        links.into_iter().flat_map(Links::keys).copied().collect()
    };
    let expected = |has: &dyn Fn(&Member<()>) -> bool| -> BTreeSet<u64> {
        let members = fleet.members.values().filter(|member| has(member));
        members.map(|member| member.key).collect()
    };
    prop_assert_eq!(keys(Some(directory.all().links())), expected(&|_| true));
    let mut knows: BTreeMap<&str, bool> = BTreeMap::new();
    for member in fleet.members.values() {
        *knows.entry(member.peer.id.as_str()).or_default() |= member.offer().services.is_some();
    }
    prop_assert_eq!(directory.agents(), knows.len());
    for id in ["a", "b"] {
        prop_assert_eq!(
            keys(directory.of_agent(id)),
            expected(&|member| member.peer.id.as_str() == id)
        );
    }
    for label in ["k=1", "l=1", "m=1"] {
        let label = label.parse().unwrap();
        let links = directory.labelled(&label).map(|group| group.links());
        prop_assert_eq!(keys(links), expected(&|member| member.peer.labels.has(&label)));
    }
    for service in ["x", "y", "z"] {
        let group = directory.serving(service);
        prop_assert_eq!(
            keys(group.map(|group| group.links())),
            expected(&|member| has(member, service))
        );
        let ids: BTreeSet<&AgentId> = group.into_iter().flat_map(|group| group.ids()).collect();
        let members = fleet.members.values().filter(|member| has(member, service));
        prop_assert_eq!(ids, members.map(|member| &member.peer.id).collect());
    }
    prop_assert_eq!(
        keys(Some(directory.silent().links())),
        expected(&|member| !knows[member.peer.id.as_str()])
    );
    // Of each slot exactly the link of the highest generation takes calls, unless its agent drained it.
    for member in fleet.members.values().filter(|member| !member.is_retired()) {
        let place = member.peer.place.as_ref().unwrap();
        for other in fleet
            .members
            .values()
            .filter(|other| other.key != member.key && other.peer.id == member.peer.id)
        {
            let theirs = other.peer.place.as_ref().unwrap();
            if (&theirs.instance, theirs.slot) == (&place.instance, place.slot) && !other.is_retired() {
                prop_assert!(false, "two links of one slot take calls");
            }
        }
    }
    Ok(())
}
