//! The hosts that a server's certificate is valid for.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rustls::pki_types::DnsName;
use thiserror::Error;

use crate::checked_name::excerpt;

/// A DNS name (with `*` as its first label, if wanted: RFC 6125 §6.4.3) or an IP address, without a
/// port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name in lower case, without a dot at its end.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

/// A text is neither a DNS name nor an IP address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{value:?} is no host: it must be a DNS name such as hub.example.com or *.example.com, or an IP address such as 192.0.2.7 or 2001:db8::7, without a port"
)]
pub struct InvalidHost {
    /// The refused text, shortened when it is long.
    pub value: String,
}

impl FromStr for Host {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let invalid = || InvalidHost { value: excerpt(text) };
        let unbracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(inner) = unbracketed {
            return inner
                .parse()
                .map(|address| Self::Ip(IpAddr::V6(address)))
                .map_err(|_| invalid());
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        // A certificate holds the name without the root's dot, and verifiers compare without it.
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        DnsName::try_from(name.strip_prefix("*.").unwrap_or(&name)).map_err(|_| invalid())?;
        Ok(Self::Dns(name))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_names_wildcards_and_addresses() {
        for (text, shown) in [
            ("Hub.Example.com.", "hub.example.com"),
            ("*.agents.example", "*.agents.example"),
            ("localhost", "localhost"),
            ("192.0.2.7", "192.0.2.7"),
            ("2001:DB8::7", "2001:db8::7"),
            ("[::1]", "::1"),
        ] {
            let host: Host = text.parse().unwrap();
            assert_eq!(host.to_string(), shown);
            assert_eq!(host.to_string().parse::<Host>().unwrap(), host);
        }
    }

    #[test]
    fn refuses_ports_urls_and_inner_wildcards() {
        for bad in [
            "",
            ".",
            "*",
            "*.",
            "a.*.b",
            "hub:4433",
            "[::1]:4433",
            "[hub]",
            "https://hub",
            "hub/x",
            "a..b",
            "300.1.2.3",
            "hub ..",
            "hüb",
        ] {
            let error = bad.parse::<Host>().unwrap_err();
            assert!(error.to_string().contains("is no host"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_panic(text in any::<String>()) {
            if let Ok(host) = text.parse::<Host>() {
                prop_assert_eq!(host.to_string().parse::<Host>().unwrap(), host);
            }
        }
    }
}
