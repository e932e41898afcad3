//! How an agent reaches its hub, by each carrier.

use std::io;
use std::net::SocketAddr;

use quinn::crypto::rustls::NoInitialCipherSuite;

use crate::carrier::Carrier;
use crate::coding::Codings;
use crate::link::{AgentEnd, AgentLink, LinkError};
use crate::listen::HANDSHAKE_TIMEOUT;
use crate::quic::endpoint as quic;
use crate::tcp;
use crate::tuning::Tuning;
use crate::websocket::{ProxyError, UpgradeError, WebSocketUrl};

/// Why a hub could not be dialled.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No socket on this machine.
    #[error("cannot open a UDP socket to dial {address}: {source}")]
    Socket {
        /// The hub's address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The name or address cannot be dialled at all.
    #[error("cannot dial {name:?} at {address}: {reason}")]
    Address {
        /// The hub's name.
        name: String,
        /// The hub's address.
        address: SocketAddr,
        /// Why not.
        reason: String,
    },
    /// Nobody answered.
    #[error(
        "no answer from UDP {address} within {} s: is the hub running there, and does the network pass UDP?",
        HANDSHAKE_TIMEOUT.as_secs()
    )]
    Timeout {
        /// The hub's address.
        address: SocketAddr,
    },
    /// No connection.
    #[error(
        "cannot connect to TCP {address}: {source}; check that the hub runs there, and that nothing between refuses it"
    )]
    Connect {
        /// The hub's address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody answered over TCP.
    #[error(
        "no answer from TCP {address} within {} s: is the hub running there, and does the network pass TCP to this port?",
        HANDSHAKE_TIMEOUT.as_secs()
    )]
    TcpTimeout {
        /// The hub's address.
        address: SocketAddr,
    },
    /// TLS over TCP failed.
    #[error(
        "TLS with the hub {name:?} at TCP {address} failed: {source}; if it is the certificate, something between may open \
         TLS: have it pass this address unopened"
    )]
    TlsHandshake {
        /// The hub's name.
        name: String,
        /// The hub's address.
        address: SocketAddr,
        /// What went wrong.
        source: io::Error,
    },
    /// Neither the host of a WebSocket nor a proxy before it.
    #[error(
        "cannot connect to {host:?}, TCP port {port}: {source}; check the name and the port, and that nothing between refuses it"
    )]
    Host {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// A WebSocket that came to nothing in time.
    #[error(
        "no link by {url} within {} s: is the hub running there, and does everything between pass WebSockets on?",
        HANDSHAKE_TIMEOUT.as_secs()
    )]
    WebSocketTimeout {
        /// Where it was to go to.
        url: String,
    },
    /// No WebSocket.
    #[error("{url}: {reason}")]
    Upgrade {
        /// Where it was to go to.
        url: String,
        /// What came instead.
        #[source]
        reason: UpgradeError,
    },
    /// The proxy that the environment names opens no way.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// There is nothing to verify the outer TLS of a WebSocket with.
    #[error("no CA is known for wss:// addresses: name one with --websocket-ca")]
    NoWebTls,
    /// What answers speaks TLS, and is no hub.
    #[error("what answers at TCP {address} is no hub: it does not offer rh2 (ALPN); check the port")]
    NoHub {
        /// The address.
        address: SocketAddr,
    },
    /// The handshake failed.
    #[error("the handshake with the hub {name:?} at {address} failed: {reason}")]
    Handshake {
        /// The hub's name.
        name: String,
        /// The hub's address.
        address: SocketAddr,
        /// What went wrong.
        #[source]
        reason: LinkError,
    },
    /// The TLS settings cannot serve QUIC.
    #[error("cannot dial over QUIC with these TLS settings: {0}; TLS 1.3 with AES-128-GCM is needed")]
    Tls(#[from] NoInitialCipherSuite),
}

/// The agent's way to a hub. Clones are the same.
#[derive(Clone, Debug)]
pub struct Dialer {
    quic: quic::Dialer,
    tcp: tcp::Dialer,
    codings: Codings,
}

impl Dialer {
    /// Dials with `tls`, which has to present a client certificate; its ALPN labels are set here.
    ///
    /// # Errors
    ///
    /// [`DialError::Tls`] when `tls` lacks what QUIC needs.
    pub fn new(tls: rustls::ClientConfig, tuning: Tuning) -> Result<Self, DialError> {
        Ok(Self {
            codings: tuning.codings.clone(),
            tcp: tcp::Dialer::new(tls.clone(), tuning.clone()),
            quic: quic::Dialer::new(tls, tuning)?,
        })
    }

    /// Makes a link over QUIC to the hub at `address`, whose certificate has to be for `name`.
    ///
    /// A hub that refuses this end's certificate says so only after the handshake is over here: the link then ends
    /// with [`LinkError::Protocol`] at once.
    ///
    /// # Errors
    ///
    /// [`DialError`], within [`HANDSHAKE_TIMEOUT`].
    pub async fn dial(&self, address: SocketAddr, name: &str) -> Result<AgentLink, DialError> {
        self.dial_by(Carrier::Quic, address, name).await
    }

    /// The same by any carrier. A WebSocket may go through a proxy, which looks `name` up by itself.
    ///
    /// # Errors
    ///
    /// [`DialError`], within [`HANDSHAKE_TIMEOUT`].
    pub async fn dial_by(
        &self,
        carrier: Carrier,
        address: SocketAddr,
        name: &str,
    ) -> Result<AgentLink, DialError> {
        Ok(self.link(match carrier {
            Carrier::Quic => AgentEnd::Quic(self.quic.dial(address, name).await?),
            Carrier::Tls => AgentEnd::Rh2(self.tcp.dial_tls(address, name).await?),
            Carrier::WebSocket => {
                let to = Some(address);
                AgentEnd::Rh2(self.tcp.dial_websocket(name, address.port(), to).await?)
            }
        }))
    }

    /// Makes a link over a WebSocket to the hub `name`, whose address need not be known: the proxy that the environment
    /// names, if any, looks it up.
    ///
    /// # Errors
    ///
    /// [`DialError`], within [`HANDSHAKE_TIMEOUT`].
    pub async fn dial_websocket(&self, name: &str, port: u16) -> Result<AgentLink, DialError> {
        let link = self.tcp.dial_websocket(name, port, None).await?;
        Ok(self.link(AgentEnd::Rh2(link)))
    }

    /// Makes a link over a WebSocket to a hub behind something that terminates its TLS.
    ///
    /// # Errors
    ///
    /// [`DialError`], within [`HANDSHAKE_TIMEOUT`].
    pub async fn dial_url(&self, url: &WebSocketUrl) -> Result<AgentLink, DialError> {
        Ok(self.link(AgentEnd::Rh2(self.tcp.dial_url(url).await?)))
    }

    fn link(&self, end: AgentEnd) -> AgentLink {
        AgentLink::new(end, self.codings.clone())
    }

    /// Has what is before a hub, at a `wss://` address, be verified by `web`: its certificate is not of the hub's CA as a rule.
    #[must_use]
    pub fn web(mut self, web: rustls::ClientConfig) -> Self {
        self.tcp.set_web(web);
        self
    }

    #[cfg(test)]
    pub(crate) fn proxies(mut self, proxies: crate::websocket::Proxies) -> Self {
        self.tcp.set_proxies(proxies);
        self
    }
}
