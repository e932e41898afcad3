//! Which agent ids are connected and what they advertise, indexed the way routes ask for it.

use std::collections::{BTreeSet, HashMap, HashSet};

use adit_certs::AgentId;

/// The names of the gRPC services that an agent advertises: `None` when it doesn't know.
pub(crate) type Services = Option<BTreeSet<String>>;

/// The connected ids and their services.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    advertised: HashMap<AgentId, Services>,
    by_service: HashMap<String, BTreeSet<AgentId>>,
    /// The ids that advertise nothing.
    silent: HashSet<AgentId>,
}

impl Directory {
    /// The ids that advertise `service`.
    pub(crate) fn serving(&self, service: &str) -> impl ExactSizeIterator<Item = &AgentId> {
        static NOBODY: BTreeSet<AgentId> = BTreeSet::new();
        self.by_service.get(service).unwrap_or(&NOBODY).iter()
    }

    /// The ids that advertise nothing.
    pub(crate) fn silent(&self) -> impl ExactSizeIterator<Item = &AgentId> {
        self.silent.iter()
    }

    /// All connected ids.
    pub(crate) fn ids(&self) -> impl ExactSizeIterator<Item = &AgentId> {
        self.advertised.keys()
    }

    /// Says that `id` is connected and what it advertises now.
    pub(crate) fn set(&mut self, id: &AgentId, services: Services) {
        self.remove(id);
        match &services {
            None => {
                self.silent.insert(id.clone());
            }
            Some(names) => {
                for name in names {
                    let ids = self.by_service.entry(name.clone()).or_default();
                    ids.insert(id.clone());
                }
            }
        }
        self.advertised.insert(id.clone(), services);
    }

    /// Says that `id` is not connected.
    pub(crate) fn remove(&mut self, id: &AgentId) {
        self.silent.remove(id);
        for name in self.advertised.remove(id).flatten().unwrap_or_default() {
            if let Some(ids) = self.by_service.get_mut(&name) {
                ids.remove(id);
                if ids.is_empty() {
                    self.by_service.remove(&name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// After any sequence of changes the indexes say what a look at every id would.
        #[test]
        fn indexes_agree_with_what_was_set(
            changes in prop::collection::vec(
                ("[a-d]", prop::option::of(prop::option::of(prop::collection::btree_set("[x-z]", 0..3)))),
                0..40,
            ),
        ) {
            let mut directory = Directory::default();
            let mut model: BTreeMap<AgentId, Services> = BTreeMap::new();
            for (id, change) in changes {
                let id: AgentId = id.parse().unwrap();
                match change {
                    Some(services) => {
                        directory.set(&id, services.clone());
                        model.insert(id, services);
                    }
                    None => {
                        directory.remove(&id);
                        model.remove(&id);
                    }
                }
            }
            for service in ["x", "y", "z"] {
                let expected: BTreeSet<_> = model
                    .iter()
                    .filter(|(_, names)| names.as_ref().is_some_and(|names| names.contains(service)))
                    .map(|(id, _)| id)
                    .collect();
                prop_assert_eq!(directory.serving(service).collect::<BTreeSet<_>>(), expected);
            }
            let silent: BTreeSet<_> = model.iter().filter(|(_, names)| names.is_none()).map(|(id, _)| id).collect();
            prop_assert_eq!(directory.silent().collect::<BTreeSet<_>>(), silent);
            prop_assert_eq!(directory.ids().collect::<BTreeSet<_>>(), model.keys().collect());
            prop_assert_eq!(directory.by_service.values().filter(|ids| ids.is_empty()).count(), 0);
        }
    }
}
