//! Where agents connect to.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// What an address begins with that is for UDP alone.
const UDP: &str = "udp:";

/// A port for agents: `ADDRESS:PORT` is UDP and TCP on one port number, and `udp:ADDRESS:PORT` is UDP alone, where the TCP port
/// is somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentsAddress {
    /// The address and port.
    pub address: SocketAddr,
    /// No TCP, and so the carrier `quic` only.
    pub udp_only: bool,
}

/// A text that is no [`AgentsAddress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no address for agents: write ADDRESS:PORT, such as 0.0.0.0:4433 or [::]:4433, or udp:ADDRESS:PORT"
)]
pub struct InvalidAgentsAddress(String);

impl From<SocketAddr> for AgentsAddress {
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            udp_only: false,
        }
    }
}

impl FromStr for AgentsAddress {
    type Err = InvalidAgentsAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAgentsAddress> {
        let (udp_only, address) = match text.strip_prefix(UDP) {
            Some(address) => (true, address),
            None => (false, text),
        };
        let address = address
            .parse()
            .map_err(|_| InvalidAgentsAddress(text.to_owned()))?;
        Ok(Self { address, udp_only })
    }
}

impl fmt::Display for AgentsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.udp_only { UDP } else { "" };
        write!(f, "{prefix}{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for (good, udp_only) in [
            ("0.0.0.0:4433", false),
            ("[::]:443", false),
            ("udp:0.0.0.0:443", true),
        ] {
            let address: AgentsAddress = good.parse().unwrap();
            assert_eq!(address.udp_only, udp_only);
            assert_eq!(address.to_string(), good);
        }
        for bad in [
            "",
            "udp:",
            "tcp:0.0.0.0:443",
            "localhost:443",
            "0.0.0.0",
            "udp:udp:0.0.0.0:443",
        ] {
            let error = bad.parse::<AgentsAddress>().unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }
}
