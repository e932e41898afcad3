//! Which services are the same at every agent that has them.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

/// Says that the agents that have a service are equal, so that they share its calls: the full name of the service, or
/// `*` for all services.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pool(Option<String>);

/// A text that is no [`Pool`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no pool: write the full name of a service, as in routeguide.RouteGuide, or * for all services"
)]
pub struct InvalidPool(String);

/// All pools of a hub.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pools {
    all: bool,
    services: HashSet<String>,
}

impl Pools {
    /// Whether those that have `service` share its calls.
    pub(crate) fn has(&self, service: &str) -> bool {
        self.all || self.services.contains(service)
    }

    /// Whether those that have any service share its calls.
    pub(crate) fn has_all(&self) -> bool {
        self.all
    }
}

impl FromIterator<Pool> for Pools {
    fn from_iter<I: IntoIterator<Item = Pool>>(pools: I) -> Self {
        let mut all = Self::default();
        for Pool(service) in pools {
            match service {
                Some(service) => {
                    all.services.insert(service);
                }
                None => all.all = true,
            }
        }
        all
    }
}

impl FromStr for Pool {
    type Err = InvalidPool;

    fn from_str(text: &str) -> Result<Self, InvalidPool> {
        let is_identifier = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        match text {
            "*" => Ok(Self(None)),
            _ if text.split('.').all(is_identifier) => Ok(Self(Some(text.to_owned()))),
            _ => Err(InvalidPool(text.chars().take(100).collect())),
        }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("*"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn a_pool_is_a_service_or_all_of_them() {
        let pools: Pools = ["a.B", "Plain"]
            .map(|pool| pool.parse().unwrap())
            .into_iter()
            .collect();
        assert!(pools.has("a.B") && pools.has("Plain") && !pools.has("a.C") && !pools.has_all());
        let pools: Pools = std::iter::once("*".parse::<Pool>().unwrap()).collect();
        assert!(pools.has("a.B") && pools.has_all());
        for bad in ["", "a.", ".a", "a b", "a.*", "/a.B", "a.B/C", "1a"] {
            let message = bad.parse::<Pool>().unwrap_err().to_string();
            assert!(message.contains(&format!("{bad:?}")), "{message}");
        }
    }
}
