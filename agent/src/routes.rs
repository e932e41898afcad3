//! Which upstream has a call's service.

use crate::upstream::{ServicePrefix, Upstream};

/// The upstreams of an agent by service prefix.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// Longest prefix first.
    by_prefix: Vec<(ServicePrefix, Upstream)>,
    default: Option<Upstream>,
}

/// Two upstreams are to have the same calls.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoutesError {
    /// Both have the same prefix.
    #[error(
        "the upstreams {first} and {second} both have the prefix {prefix:?}; give one of them another prefix, or leave it out"
    )]
    SamePrefix {
        /// The prefix.
        prefix: String,
        /// One upstream.
        first: String,
        /// The other.
        second: String,
    },
    /// Neither has a prefix.
    #[error(
        "the upstreams {first} and {second} both have no prefix, so that either would have every call; put a gRPC service or package before one of them: --upstream PREFIX={second}"
    )]
    TwoDefaults {
        /// One upstream.
        first: String,
        /// The other.
        second: String,
    },
}

impl Routes {
    pub(crate) fn new(
        upstreams: impl IntoIterator<Item = (Option<ServicePrefix>, Upstream)>,
    ) -> Result<Self, RoutesError> {
        let mut routes = Self::default();
        for (prefix, upstream) in upstreams {
            routes.add(prefix, upstream)?;
        }
        routes
            .by_prefix
            .sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.as_str().len()));
        Ok(routes)
    }

    /// The upstream of `service`, a full name without slashes.
    pub(crate) fn find(&self, service: &str) -> Option<&Upstream> {
        let by_prefix = self.by_prefix.iter().find(|(prefix, _)| prefix.matches(service));
        by_prefix.map(|(_, upstream)| upstream).or(self.default.as_ref())
    }

    /// Every upstream.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.by_prefix
            .iter()
            .map(|(_, upstream)| upstream)
            .chain(&self.default)
    }

    fn add(&mut self, prefix: Option<ServicePrefix>, upstream: Upstream) -> Result<(), RoutesError> {
        let Some(prefix) = prefix else {
            if let Some(first) = &self.default {
                let (first, second) = (first.to_string(), upstream.to_string());
                return Err(RoutesError::TwoDefaults { first, second });
            }
            self.default = Some(upstream);
            return Ok(());
        };
        if let Some((_, first)) = self.by_prefix.iter().find(|(known, _)| *known == prefix) {
            let (first, second) = (first.to_string(), upstream.to_string());
            return Err(RoutesError::SamePrefix {
                prefix: prefix.to_string(),
                first,
                second,
            });
        }
        self.by_prefix.push((prefix, upstream));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;
    use crate::upstream::{UpstreamAddr, UpstreamTls};

    fn routes(addresses: &[&str]) -> Result<Routes, RoutesError> {
        Routes::new(addresses.iter().map(|address| {
            let UpstreamAddr { prefix, target } = address.parse().unwrap();
            (prefix, Upstream::at(target, &UpstreamTls::default()).unwrap())
        }))
    }

    #[test]
    fn the_longest_prefix_has_the_call() {
        let routes = routes(&["a=unix:/a", "unix:/default", "a.b.C=unix:/abc", "a.b=unix:/ab"]).unwrap();
        for (service, socket) in [
            ("a.b.C", "unix:/abc"),
            ("a.b.C2", "unix:/ab"),
            ("a.b.C.D", "unix:/abc"),
            ("a.X", "unix:/a"),
            ("a2.X", "unix:/default"),
            ("", "unix:/default"),
        ] {
            assert_eq!(routes.find(service).unwrap().to_string(), socket, "{service}");
        }
        assert_eq!(routes.upstreams().count(), 4);
    }

    #[test]
    fn without_a_default_other_services_have_no_upstream() {
        let routes = routes(&["a=unix:/a"]).unwrap();
        assert!(routes.find("a.B").is_some());
        assert!(routes.find("b.B").is_none());
    }

    #[test]
    fn two_upstreams_cannot_have_the_same_calls() {
        let message = routes(&["a=unix:/1", "a.=unix:/2"]).unwrap_err().to_string();
        assert!(
            message.contains("unix:/1 and unix:/2") && message.contains("\"a\""),
            "{message}"
        );
        let message = routes(&["unix:/1", "unix:/2"]).unwrap_err().to_string();
        assert!(message.contains("--upstream PREFIX=unix:/2"), "{message}");
    }
}
