//! What an agent offers on a link: the services that it knows of, and which of them take calls.

use std::collections::BTreeSet;

use adit_proto::tunnel::v1::{Health, Services};

/// Services that one agent may advertise.
pub const MAX_SERVICES: usize = 4096;

/// The longest name of a service, in bytes.
pub const MAX_SERVICE_NAME: usize = 512;

/// What the agent of one link offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The full names of its services: `None` when it doesn't know.
    pub(crate) services: Option<BTreeSet<String>>,
    /// No upstream of it takes calls.
    pub(crate) down: bool,
    /// Services that take no calls while others do.
    pub(crate) not_serving: BTreeSet<String>,
}

/// An offer that breaks a rule.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum BadOffer {
    #[error("the agent advertises {0} services, and {MAX_SERVICES} are the limit")]
    TooManyServices(usize),
    #[error("the agent says of {0} services that they take no calls, and {MAX_SERVICES} are the limit")]
    TooManyNotServing(usize),
    #[error("the agent names a service with {0} bytes, and {MAX_SERVICE_NAME} are the limit")]
    LongName(usize),
}

/// How well a link suits a call for a service. The best are chosen from; others are for want of better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Suits {
    /// Its upstream is down, or the service isn't among those that its agent has.
    Badly,
    /// Its agent doesn't know what it has.
    Perhaps,
    /// Its agent has the service, and it takes calls.
    Well,
}

impl Offer {
    /// Replaces the services by what the agent says now.
    pub(crate) fn set_services(&mut self, services: Option<Services>) -> Result<(), BadOffer> {
        let services = services.unwrap_or_default();
        let names = names(services.names, BadOffer::TooManyServices)?;
        self.services = services.known.then_some(names);
        Ok(())
    }

    /// Replaces the health by what the agent says now.
    pub(crate) fn set_health(&mut self, health: Option<Health>) -> Result<(), BadOffer> {
        let health = health.unwrap_or_default();
        self.not_serving = names(health.not_serving, BadOffer::TooManyNotServing)?;
        self.down = health.down;
        Ok(())
    }

    /// How well a call for `service` is placed here.
    pub(crate) fn suits(&self, service: &str) -> Suits {
        if self.down || self.not_serving.contains(service) {
            return Suits::Badly;
        }
        match &self.services {
            Some(services) if services.contains(service) => Suits::Well,
            // Reflection and health are advertised by nobody, whoever has them.
            Some(_) if service.starts_with("grpc.") => Suits::Well,
            Some(_) => Suits::Badly,
            None => Suits::Perhaps,
        }
    }
}

fn names(names: Vec<String>, too_many: fn(usize) -> BadOffer) -> Result<BTreeSet<String>, BadOffer> {
    if names.len() > MAX_SERVICES {
        return Err(too_many(names.len()));
    }
    match names.iter().find(|name| name.len() > MAX_SERVICE_NAME) {
        Some(long) => Err(BadOffer::LongName(long.len())),
        None => Ok(names.into_iter().collect()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    fn services(names: &[&str]) -> Option<Services> {
        Some(Services {
            known: true,
            names: names.iter().map(|&name| name.to_owned()).collect(),
        })
    }

    #[test]
    fn health_and_knowledge_decide_how_well_a_call_is_placed() {
        let mut offer = Offer::default();
        assert_eq!(offer.suits("a.B"), Suits::Perhaps);
        offer.set_services(services(&["a.B", "a.C"])).unwrap();
        assert_eq!(
            (offer.suits("a.B"), offer.suits("x.Y")),
            (Suits::Well, Suits::Badly)
        );
        let health = Health {
            down: false,
            not_serving: vec!["a.C".to_owned()],
        };
        offer.set_health(Some(health)).unwrap();
        assert_eq!(
            (offer.suits("a.B"), offer.suits("a.C")),
            (Suits::Well, Suits::Badly)
        );
        let down = Health {
            down: true,
            not_serving: Vec::new(),
        };
        offer.set_health(Some(down)).unwrap();
        assert_eq!(offer.suits("a.B"), Suits::Badly);
        offer.set_health(None).unwrap();
        assert_eq!(offer.suits("a.C"), Suits::Well, "no word is good word");
    }

    #[test]
    fn an_offer_has_limits() {
        let mut offer = Offer::default();
        let many: Vec<String> = (0..=MAX_SERVICES).map(|i| i.to_string()).collect();
        for known in [true, false] {
            let many = Services {
                known,
                names: many.clone(),
            };
            let refused = offer.set_services(Some(many));
            assert_eq!(refused, Err(BadOffer::TooManyServices(MAX_SERVICES + 1)));
        }
        let long = "x".repeat(MAX_SERVICE_NAME + 1);
        assert_eq!(
            offer.set_services(services(&[&long])),
            Err(BadOffer::LongName(MAX_SERVICE_NAME + 1))
        );
        let health = Health {
            down: false,
            not_serving: many,
        };
        assert_eq!(
            offer.set_health(Some(health)),
            Err(BadOffer::TooManyNotServing(MAX_SERVICES + 1))
        );
    }
}
