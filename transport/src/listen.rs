//! The hub's port for agents, on every carrier.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use quinn::crypto::rustls::NoInitialCipherSuite;

use crate::coding::Codings;
use crate::link::{HubEnd, HubLink, LinkError};
use crate::quic::endpoint as quic;
use crate::tcp;
use crate::tuning::Tuning;

/// How often a port is picked anew that is free for one of the two sockets, and taken for the other.
const PICKS: usize = 16;

/// How long a handshake may take, from the first packet to the peer's certificate.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes at once. A further one is refused; its agent dials again after its backoff.
pub const HANDSHAKES: usize = 1024;

/// Why a port for agents could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken, or not of this machine, or its port needs privileges.
    #[error("cannot listen for agents on UDP {address}: {source}; choose another address with --agents")]
    Socket {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The same port of TCP is taken, for the carriers that UDP-less networks need.
    #[error(
        "cannot listen for agents on TCP {address}, the port of the carriers tls and websocket: {source}; choose another \
         address with --agents, or take UDP alone with --agents udp:{address}"
    )]
    Tcp {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The port for WebSockets can't be had.
    #[error("cannot listen for WebSockets on {address}: {source}; choose another address with --websocket")]
    WebSocket {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The TLS settings cannot serve QUIC.
    #[error("cannot serve QUIC with these TLS settings: {0}; TLS 1.3 with AES-128-GCM is needed")]
    Tls(#[from] NoInitialCipherSuite),
}

/// Why a handshake with an agent came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer fell silent.
    #[error("no certificate came within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
    /// The peer has no acceptable certificate, or speaks something else.
    #[error("{0}")]
    Failed(#[source] LinkError),
    /// TLS failed.
    #[error("TLS: {0}")]
    Tls(#[source] io::Error),
    /// TLS is fine, and what is spoken in it is neither of the carriers over TCP.
    #[error("the peer names no carrier: by ALPN it has to be rh2 for tls, or http/1.1 for websocket")]
    NoCarrier,
    /// The request for a WebSocket is none that a hub takes.
    #[error("no WebSocket: {0}")]
    WebSocket(String),
}

/// A port for agents. Dropping it closes every link that came through it.
#[derive(Debug)]
pub struct Listener {
    quic: Option<quic::Listener>,
    tcp: Option<tcp::Listener>,
    codings: Codings,
}

/// A peer that has begun to connect.
#[derive(Debug)]
pub struct Handshake {
    begun: Begun,
    codings: Codings,
}

#[derive(Debug)]
enum Begun {
    Quic(quic::Handshake),
    Tcp(tcp::Handshake),
}

impl Listener {
    /// Opens `address` (port 0 picks one) for agents: UDP for the carrier `quic`, and TCP, on the same port, for `tls` and
    /// `websocket`. `tls` has to demand client certificates; its ALPN labels are set here. `secret` is private to this hub
    /// and survives its restarts, as its private key does.
    ///
    /// # Errors
    ///
    /// [`BindError`] when the port can't be had, or `tls` lacks what QUIC needs.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "whoever binds a port has no further use for them"
    )]
    pub fn bind(
        address: SocketAddr,
        tls: rustls::ServerConfig,
        secret: &[u8],
        tuning: Tuning,
    ) -> Result<Self, BindError> {
        let mut picks = 0;
        loop {
            picks += 1;
            let quic = quic::Listener::bind(address, tls.clone(), secret, tuning.clone())?;
            let bound = quic
                .local_addr()
                .map_err(|source| BindError::Socket { address, source })?;
            match tcp::Listener::bind(bound, tcp::Outer::Tls, tls.clone(), tuning.clone()) {
                Ok(tcp) => {
                    return Ok(Self {
                        quic: Some(quic),
                        tcp: Some(tcp),
                        codings: tuning.codings,
                    });
                }
                // Another socket has the port that the system picked for this one.
                Err(source)
                    if address.port() == 0 && picks < PICKS && source.kind() == io::ErrorKind::AddrInUse => {}
                Err(source) => return Err(BindError::Tcp { address, source }),
            }
        }
    }

    /// Opens the TCP `address` (port 0 picks one) for agents that come through something that terminates the TLS of their
    /// WebSockets. They run `tls` inside, which has to demand client certificates.
    ///
    /// # Errors
    ///
    /// [`BindError`] when the port can't be had.
    pub fn bind_websocket(
        address: SocketAddr,
        tls: rustls::ServerConfig,
        tuning: Tuning,
    ) -> Result<Self, BindError> {
        let codings = tuning.codings.clone();
        let tcp = tcp::Listener::bind(address, tcp::Outer::Cleartext, tls, tuning);
        Ok(Self {
            codings,
            quic: None,
            tcp: Some(tcp.map_err(|source| BindError::WebSocket { address, source })?),
        })
    }

    /// Opens the UDP `address` (port 0 picks one) for agents by the carrier `quic` alone, where the TCP port of that number is
    /// somebody else's. The rest is as for [`bind`](Self::bind).
    ///
    /// # Errors
    ///
    /// [`BindError`] when the port can't be had, or `tls` lacks what QUIC needs.
    pub fn bind_udp(
        address: SocketAddr,
        tls: rustls::ServerConfig,
        secret: &[u8],
        tuning: Tuning,
    ) -> Result<Self, BindError> {
        Ok(Self {
            codings: tuning.codings.clone(),
            quic: Some(quic::Listener::bind(address, tls, secret, tuning)?),
            tcp: None,
        })
    }

    /// The address that was bound, with its real port.
    ///
    /// # Errors
    ///
    /// What the system says, which is nothing as a rule.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match (&self.quic, &self.tcp) {
            (Some(quic), _) => quic.local_addr(),
            (None, Some(tcp)) => tcp.local_addr(),
            // None is made so.
            (None, None) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Waits for the next peer: `None` once the listener is closed.
    pub async fn accept(&self) -> Option<Handshake> {
        let quic = async {
            match &self.quic {
                Some(quic) => quic.accept().await,
                None => pending().await,
            }
        };
        let tcp = async {
            match &self.tcp {
                Some(tcp) => tcp.accept().await,
                None => pending().await,
            }
        };
        let begun = tokio::select! {
            begun = quic => Begun::Quic(begun?),
            begun = tcp => Begun::Tcp(begun?),
        };
        let codings = self.codings.clone();
        Some(Handshake { begun, codings })
    }

    /// Refuses peers that begin to connect from now on; links and handshakes that are there go on.
    ///
    /// Whoever is refused is told so by [`accept`](Self::accept), which has to be polled on: it stays pending then,
    /// until [`close`](Self::close).
    pub fn refuse_new(&self) {
        if let Some(quic) = &self.quic {
            quic.refuse_new();
        }
        if let Some(tcp) = &self.tcp {
            tcp.refuse_new();
        }
    }

    /// Closes every link and takes no more.
    pub fn close(&self, reason: &str) {
        if let Some(quic) = &self.quic {
            quic.close(reason);
        }
        if let Some(tcp) = &self.tcp {
            tcp.close(reason);
        }
    }

    /// Waits until the peers have been told of [`close`](Self::close), or have had the time to be.
    pub async fn closed(&self) {
        let quic = async {
            if let Some(quic) = &self.quic {
                quic.closed().await;
            }
        };
        let tcp = async {
            if let Some(tcp) = &self.tcp {
                tcp.closed().await;
            }
        };
        tokio::join!(quic, tcp);
    }
}

impl Handshake {
    /// Where the peer's packets come from.
    pub fn remote_address(&self) -> SocketAddr {
        match &self.begun {
            Begun::Quic(handshake) => handshake.remote_address(),
            Begun::Tcp(handshake) => handshake.remote_address(),
        }
    }

    /// Finishes the handshake.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] when the peer has no acceptable certificate, or doesn't come to an end.
    pub async fn establish(self) -> Result<HubLink, HandshakeError> {
        let end = match self.begun {
            Begun::Quic(handshake) => HubEnd::Quic(handshake.establish().await?),
            Begun::Tcp(handshake) => HubEnd::Rh2(handshake.establish().await?),
        };
        Ok(HubLink::new(end, self.codings))
    }
}
