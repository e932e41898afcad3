//! The domain under which each agent has a name, for clients that can't set metadata.

use std::fmt;
use std::str::FromStr;

use adit_certs::AgentId;
use http::uri::Authority;

/// The longest DNS name in text (RFC 1035 §2.3.4), less room for an agent's id and its dot.
const MAX_DOMAIN: usize = 253 - 64;

/// A DNS domain: a client that dials `<agent id>.<domain>` means that agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentDomain(String);

/// A text that is no [`AgentDomain`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no domain for agents: write a DNS name, such as agents.example.com")]
pub struct InvalidAgentDomain(String);

/// An authority under the agents' domain that names no agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the authority {authority:?} is under {domain}, and {label:?} is no agent id: dial <agent id>.{domain}, where the id \
     is a DNS label of a-z, 0-9 and '-'"
)]
pub(crate) struct BadAuthority {
    authority: String,
    domain: AgentDomain,
    label: String,
}

impl AgentDomain {
    /// The agent that a request's authority means: none when the authority is not under this domain.
    pub(crate) fn agent(&self, authority: &Authority) -> Result<Option<AgentId>, BadAuthority> {
        let host = authority.host();
        // A name may be written as an absolute one (RFC 1034 §3.1), and in any case (RFC 4343).
        let host = host.strip_suffix('.').unwrap_or(host);
        let Some(dot) = host.len().checked_sub(self.0.len() + 1) else {
            return Ok(None);
        };
        let (label, domain) = match (host.get(..dot), host.get(dot..)) {
            (Some(label), Some(domain)) => (label, domain),
            _ => return Ok(None),
        };
        if !domain.starts_with('.') || !domain[1..].eq_ignore_ascii_case(&self.0) {
            return Ok(None);
        }
        match label.to_ascii_lowercase().parse() {
            Ok(id) => Ok(Some(id)),
            Err(_) => Err(BadAuthority {
                authority: authority.as_str().chars().take(300).collect(),
                domain: self.clone(),
                label: label.chars().take(100).collect(),
            }),
        }
    }
}

impl FromStr for AgentDomain {
    type Err = InvalidAgentDomain;

    fn from_str(text: &str) -> Result<Self, InvalidAgentDomain> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if name.len() <= MAX_DOMAIN && name.split('.').all(is_label) {
            Ok(Self(name))
        } else {
            Err(InvalidAgentDomain(text.chars().take(100).collect()))
        }
    }
}

impl fmt::Display for AgentDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn the_first_label_is_the_agent() {
        let domain: AgentDomain = "Agents.Example.com".parse().unwrap();
        for (authority, expected) in [
            ("site-7.agents.example.com", Some("site-7")),
            ("site-7.agents.example.com:9090", Some("site-7")),
            ("SITE-7.AGENTS.example.COM:1", Some("site-7")),
            ("site-7.agents.example.com.", Some("site-7")),
            ("agents.example.com", None),
            ("example.com:9090", None),
            ("xagents.example.com", None),
            ("localhost", None),
            ("127.0.0.1:9090", None),
            ("[::1]:9090", None),
        ] {
            let found = domain.agent(&authority.parse().unwrap()).unwrap();
            assert_eq!(found.as_ref().map(AgentId::as_str), expected, "{authority}");
        }
        for (authority, label) in [
            ("a.b.agents.example.com", "a.b"),
            ("-a.agents.example.com", "-a"),
            ("a_b.agents.example.com:1", "a_b"),
            (".agents.example.com", ""),
        ] {
            let message = domain.agent(&authority.parse().unwrap()).unwrap_err().to_string();
            assert!(
                message.contains(&format!("{label:?}")) && message.contains(authority),
                "{message}"
            );
        }
    }

    #[test]
    fn a_domain_is_a_dns_name() {
        for bad in [
            "",
            ".",
            "a..b",
            "-a",
            "a b",
            "a:1",
            "ä.example",
            &"a.".repeat(200),
        ] {
            assert!(bad.parse::<AgentDomain>().is_err(), "{bad:?}");
        }
        assert_eq!(
            "a.Example.".parse::<AgentDomain>().unwrap().to_string(),
            "a.example"
        );
    }
}
