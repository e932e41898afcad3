//! Where the hub is, and when to try it again.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use adit_transport::{AgentLink, Carrier, DialError, Dialer, InvalidWebSocketUrl, WebSocketUrl};

use crate::race::Failures;

/// The first wait before dialling again is random below this,
pub const FIRST_BACKOFF: Duration = Duration::from_millis(500);

/// each further one below twice as much, and none longer than this: short enough that an agent is back soon after its
/// hub is, long enough that a thousand of them are no storm.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// A link that has held for this long proves that dialling works: the waits start over.
pub const STABLE: Duration = Duration::from_secs(30);

/// How long the name service may take to answer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// A hub's port for agents: `HOST:PORT`, where HOST is a DNS name, an IPv4 address, or an IPv6 address in brackets; or
/// `wss://HOST[:PORT]/PATH`, where something before the hub terminates the TLS of a WebSocket. In either case the hub's
/// certificate has to be for HOST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubAddress(Place);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The hub itself.
    Port { host: String, port: u16 },
    /// What is before it.
    Url(WebSocketUrl),
}

/// A text that is no [`HubAddress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHubAddress {
    /// It is no host with a port.
    #[error(
        "{0:?} is no address of a hub: write HOST:PORT, such as hub.example.com:4433 or [2001:db8::1]:4433"
    )]
    Port(String),
    /// It is meant to be the address of a WebSocket.
    #[error(transparent)]
    Url(#[from] InvalidWebSocketUrl),
}

/// Why no link to the hub came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReachError {
    #[error("cannot find the address of the hub {host:?}: {source}")]
    Lookup { host: String, source: io::Error },
    #[error("the hub {0:?} has no address")]
    NoAddress(String),
    #[error("the name service did not answer for the hub {host:?} within {} s", LOOKUP_TIMEOUT.as_secs())]
    LookupTimeout { host: String },
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("{0}")]
    NoCarrier(Failures),
}

/// The waits between attempts: exponential, with full jitter.
#[derive(Debug)]
pub(crate) struct Backoff {
    below: Duration,
    first: Duration,
    longest: Duration,
}

impl HubAddress {
    /// Whether only the carrier `websocket` goes there.
    pub(crate) fn is_url(&self) -> bool {
        matches!(self.0, Place::Url(_))
    }

    /// Whether something before the hub has a TLS of its own.
    pub(crate) fn has_outer_tls(&self) -> bool {
        matches!(&self.0, Place::Url(url) if url.is_secure())
    }

    /// Dials the hub by `carrier`, at each of its addresses in turn until one answers.
    pub(crate) async fn reach(&self, dialer: &Dialer, carrier: Carrier) -> Result<AgentLink, ReachError> {
        let (host, port) = match &self.0 {
            Place::Url(url) => return Ok(dialer.dial_url(url).await?),
            Place::Port { host, port } => (host, *port),
        };
        if carrier == Carrier::WebSocket {
            // Where there is a proxy, this machine may know no addresses.
            return Ok(dialer.dial_websocket(host, port).await?);
        }
        let mut failed = ReachError::NoAddress(host.clone());
        for address in look_up(host, port).await? {
            match dialer.dial_by(carrier, address, host).await {
                Ok(link) => return Ok(link),
                Err(error) => failed = error.into(),
            }
        }
        Err(failed)
    }
}

async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, ReachError> {
    let found = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((host, port)));
    let host = || host.to_owned();
    match found.await {
        Ok(Ok(addresses)) => Ok(addresses.collect()),
        Ok(Err(source)) => Err(ReachError::Lookup { host: host(), source }),
        Err(_) => Err(ReachError::LookupTimeout { host: host() }),
    }
}

impl FromStr for HubAddress {
    type Err = InvalidHubAddress;

    fn from_str(text: &str) -> Result<Self, InvalidHubAddress> {
        if WebSocketUrl::is_meant(text) {
            return Ok(Self(Place::Url(text.parse()?)));
        }
        let invalid = || InvalidHubAddress::Port(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().ok().filter(|&port| port != 0).ok_or_else(invalid)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => match address.parse() {
                Ok(IpAddr::V6(_)) => address,
                _ => return Err(invalid()),
            },
            None if host.contains(':') => return Err(invalid()),
            None => host,
        };
        // What a certificate can be for; this is also what TLS is going to ask.
        rustls::pki_types::ServerName::try_from(host).map_err(|_| invalid())?;
        Ok(Self(Place::Port {
            host: host.to_owned(),
            port,
        }))
    }
}

impl fmt::Display for HubAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Port { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Port { host, port } => write!(f, "{host}:{port}"),
            Place::Url(url) => url.fmt(f),
        }
    }
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self::between(FIRST_BACKOFF, LONGEST_BACKOFF)
    }

    /// The first wait is below `first`, and none is longer than `longest`.
    pub(crate) fn between(first: Duration, longest: Duration) -> Self {
        Self {
            below: first,
            first,
            longest,
        }
    }

    /// The next wait is below the first bound again.
    pub(crate) fn start_over(&mut self) {
        self.below = self.first;
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let below = self.below;
        self.below = (below * 2).min(self.longest);
        below.mul_f64(rand::random())
    }

    /// No wait after a link that held, or after the first of all: whoever ends one link after another has the agent wait like
    /// one that cannot be reached.
    pub(crate) fn at_once(&mut self) -> Duration {
        let fresh = self.below == self.first;
        let wait = self.next();
        if fresh { Duration::ZERO } else { wait }
    }

    /// The wait after a hub has refused the agent: about the longest, because somebody has to change something first.
    pub(crate) fn refused(&mut self) -> Duration {
        self.below = self.longest;
        (self.longest + self.next()) / 2
    }

    /// Starts over, after a link that held this long.
    pub(crate) fn held(&mut self, time: Duration) {
        if time >= STABLE {
            self.start_over();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for good in [
            "hub.example.com:4433",
            "localhost:1",
            "127.0.0.1:4433",
            "[::1]:4433",
            "wss://hub.example.com:443/tunnel",
        ] {
            assert_eq!(good.parse::<HubAddress>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "hub",
            "hub:",
            ":4433",
            "hub:0",
            "hub:70000",
            "::1:4433",
            "[127.0.0.1]:1",
            "[::1]",
            "a b:1",
            "http://hub:1",
            "wss://hub:0/tunnel",
        ] {
            let message = bad.parse::<HubAddress>().unwrap_err().to_string();
            assert!(message.contains(&format!("{bad:?}")), "{message}");
        }
    }

    #[test]
    fn waits_grow_to_a_bound_and_start_over_after_a_stable_link() {
        let mut backoff = Backoff::new();
        let mut bound = FIRST_BACKOFF;
        for _ in 0..20 {
            assert!(backoff.next() <= bound);
            bound = (bound * 2).min(LONGEST_BACKOFF);
        }
        assert_eq!(backoff.below, LONGEST_BACKOFF);
        backoff.held(STABLE - Duration::from_millis(1));
        assert_eq!(
            backoff.below, LONGEST_BACKOFF,
            "a link that broke soon proves nothing"
        );
        backoff.held(STABLE);
        assert_eq!(backoff.below, FIRST_BACKOFF);
    }

    #[test]
    fn only_the_first_wait_is_none() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.at_once(), Duration::ZERO);
        assert_eq!(backoff.below, 2 * FIRST_BACKOFF);
        backoff.at_once();
        assert_eq!(backoff.below, 4 * FIRST_BACKOFF, "it was a wait like any other");
        backoff.held(STABLE);
        assert_eq!(backoff.at_once(), Duration::ZERO);
    }

    #[test]
    fn who_is_refused_waits_long() {
        let mut backoff = Backoff::new();
        for _ in 0..20 {
            let wait = backoff.refused();
            assert!(
                (LONGEST_BACKOFF / 2..=LONGEST_BACKOFF).contains(&wait),
                "{wait:?}"
            );
        }
    }

    #[test]
    fn waits_are_spread() {
        let waits: std::collections::HashSet<_> = (0..50).map(|_| Backoff::new().next()).collect();
        assert!(waits.len() > 40, "agents would come back all at once: {waits:?}");
    }
}
