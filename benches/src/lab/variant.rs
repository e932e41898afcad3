//! What is compared: a carrier, with the congestion controller that decides what it makes of a loss.

use std::fmt;
use std::str::FromStr;

use adit_transport::{Carrier, Congestion};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// A carrier and its congestion controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) enum Variant {
    /// quinn's, or the project's own.
    Quic(Congestion),
    /// The kernel's, by its name, at both ends.
    Tcp(Carrier, String),
}

impl Variant {
    pub(crate) fn carrier(&self) -> Carrier {
        match self {
            Self::Quic(_) => Carrier::Quic,
            Self::Tcp(carrier, _) => *carrier,
        }
    }

    /// Of the link's ends, where it runs over QUIC.
    pub(crate) fn congestion(&self) -> Congestion {
        match self {
            Self::Quic(congestion) => *congestion,
            Self::Tcp(..) => Congestion::default(),
        }
    }

    /// Of TCP, where it runs over that.
    pub(crate) fn tcp(&self) -> Option<&str> {
        match self {
            Self::Quic(_) => None,
            Self::Tcp(_, controller) => Some(controller),
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
        match (carrier.parse()?, controller) {
            (Carrier::Quic, None) => Ok(Self::Quic(Congestion::default())),
            (Carrier::Quic, Some(controller)) => Ok(Self::Quic(controller.parse()?)),
            (carrier, controller) => {
                let controller = controller.filter(|name| !name.is_empty());
                let controller = controller.with_context(|| {
                    format!("TCP's congestion controller decides what {carrier} makes of a loss: name it, as in {carrier}/cubic")
                })?;
                Ok(Self::Tcp(carrier, controller.to_owned()))
            }
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quic(congestion) => write!(f, "quic/{congestion}"),
            Self::Tcp(carrier, controller) => write!(f, "{carrier}/{controller}"),
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
        for name in ["quic/bounded", "quic/cubic", "tls/bbr", "websocket/cubic"] {
            assert_eq!(name.parse::<Variant>().unwrap().to_string(), name);
        }
        assert_eq!(
            "quic".parse::<Variant>().unwrap(),
            Variant::Quic(Congestion::default())
        );
        for name in ["", "tcp", "tls", "websocket/", "quic/vegas"] {
            name.parse::<Variant>().unwrap_err();
        }
    }
}
