//! What is compared: a carrier or another tunnel, with the congestion controller that decides what it makes of a loss.

use std::fmt;
use std::str::FromStr;

use adit_transport::{Carrier, Congestion, UnknownCarrier};
use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};

use super::peers::Peer;

/// A carrier, or a peer, and its congestion controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) enum Variant {
    /// quinn's, or the project's own.
    Quic(Congestion),
    /// The kernel's, by its name, at both ends.
    Tcp(Carrier, String),
    /// Another tunnel.
    Peer(Peer),
}

impl Variant {
    /// Of this project.
    pub(crate) fn carrier(&self) -> Option<Carrier> {
        match self {
            Self::Quic(_) => Some(Carrier::Quic),
            Self::Tcp(carrier, _) => Some(*carrier),
            Self::Peer(_) => None,
        }
    }

    pub(crate) fn peer(&self) -> Option<&Peer> {
        match self {
            Self::Peer(peer) => Some(peer),
            Self::Quic(_) | Self::Tcp(..) => None,
        }
    }

    /// Of TCP, where it runs over that.
    pub(crate) fn tcp(&self) -> Option<&str> {
        match self {
            Self::Quic(_) => None,
            Self::Tcp(_, controller) => Some(controller),
            Self::Peer(peer) => peer.tcp(),
        }
    }
}

impl FromStr for Variant {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (carrier, controller) = match text.split_once('/') {
            Some((carrier, controller)) => (carrier, Some(controller)),
            None => (text, None),
        };
        if let Some(peer) = Peer::named(carrier, controller)? {
            return Ok(Self::Peer(peer));
        }
        let carrier = carrier.parse().map_err(|error: UnknownCarrier| {
            anyhow!("{error}, or another tunnel: {}", Peer::names().join(", "))
        })?;
        match (carrier, controller) {
            (Carrier::Quic, None) => Ok(Self::Quic(Congestion::default())),
            (Carrier::Quic, Some(controller)) => Ok(Self::Quic(controller.parse()?)),
            (carrier, controller) => Ok(Self::Tcp(carrier, controller_of(carrier.as_str(), controller)?)),
        }
    }
}

/// TCP's, which has to be named.
pub(super) fn controller_of(name: &str, controller: Option<&str>) -> anyhow::Result<String> {
    let controller = controller.filter(|name| !name.is_empty());
    let controller = controller.with_context(|| {
        format!(
            "TCP's congestion controller decides what {name} makes of a loss: name it, as in {name}/cubic"
        )
    })?;
    Ok(controller.to_owned())
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quic(congestion) => write!(f, "quic/{congestion}"),
            Self::Tcp(carrier, controller) => write!(f, "{carrier}/{controller}"),
            Self::Peer(peer) => peer.fmt(f),
        }
    }
}

impl From<Variant> for String {
    fn from(variant: Variant) -> Self {
        variant.to_string()
    }
}

impl TryFrom<String> for Variant {
    type Error = anyhow::Error;

    fn try_from(text: String) -> anyhow::Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn variants_name_carrier_and_controller() {
        for name in [
            "quic/bounded",
            "quic/cubic",
            "tls/bbr",
            "websocket/cubic",
            "frp-quic",
            "wstunnel/bbr",
            "haproxy/cubic",
            "rathole/reno",
        ] {
            assert_eq!(name.parse::<Variant>().unwrap().to_string(), name);
        }
        assert_eq!(
            "quic".parse::<Variant>().unwrap(),
            Variant::Quic(Congestion::default())
        );
        for name in [
            "",
            "tcp",
            "tls",
            "websocket/",
            "quic/vegas",
            "frp",
            "frp-quic/bbr",
            "frp-quic/",
            "wstunnel",
            "haproxy/",
            "nginx/bbr",
        ] {
            name.parse::<Variant>().unwrap_err();
        }
        let error = "haproxy".parse::<Variant>().unwrap_err().to_string();
        assert!(error.contains("haproxy/cubic"), "{error}");
        let error = "nginx/bbr".parse::<Variant>().unwrap_err().to_string();
        assert!(error.contains("frp-quic") && error.contains("rathole"), "{error}");
    }
}
