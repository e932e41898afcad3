//! Sockets and handshakes: how a `quic` link comes to be.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, warn};

use super::config;
use super::{ALPN, agent, hub, varint};
use crate::link::{AgentLink, HubLink, LinkError};
use crate::rh3::Role;
use crate::rh3::code::Code;
use crate::tuning::Tuning;

/// How long a handshake may take, from the first packet to the peer's certificate.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes at once. A further one is refused; its agent dials again after its backoff.
pub const HANDSHAKES: usize = 1024;

/// With this many handshakes under way, a peer has to show first that it receives at its address (RFC 9000 §8.1.2):
/// a forged address then costs no signature.
const HANDSHAKES_WITHOUT_RETRY: usize = 128;

/// What the kernel should grant at the least for a socket's buffer; less drops bursts.
const SMALL_SOCKET_BUFFER: usize = 2 << 20;

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
}

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

/// The hub's UDP port for agents. Dropping it closes every link that came through it.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    tuning: Arc<Tuning>,
    handshakes: Arc<Semaphore>,
    refusing: AtomicBool,
}

/// A peer that has begun to connect.
#[derive(Debug)]
pub struct Handshake {
    connecting: quinn::Connecting,
    tuning: Arc<Tuning>,
    _permit: OwnedSemaphorePermit,
}

/// The agent's way to a hub.
#[derive(Clone, Debug)]
pub struct Dialer {
    config: ClientConfig,
    tuning: Arc<Tuning>,
}

impl Listener {
    /// Opens `address` (port 0 picks one) for agents. `tls` has to demand client certificates; its ALPN labels are
    /// set here. `secret` is private to this hub and survives its restarts, as its private key does.
    ///
    /// # Errors
    ///
    /// [`BindError`] when the port can't be had, or `tls` lacks what QUIC needs.
    pub fn bind(
        address: SocketAddr,
        mut tls: rustls::ServerConfig,
        secret: &[u8],
        tuning: Tuning,
    ) -> Result<Self, BindError> {
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        config
            .transport_config(Arc::new(config::transport(&tuning, Role::Client)))
            .max_incoming(HANDSHAKES);
        let open = || {
            let socket = udp_socket(address, tuning.socket_buffer)?;
            let endpoint = config::hub_endpoint(secret);
            Endpoint::new(endpoint, Some(config), socket, Arc::new(TokioRuntime))
        };
        let endpoint = open().map_err(|source| BindError::Socket { address, source })?;
        Ok(Self {
            endpoint,
            tuning: Arc::new(tuning),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
            refusing: AtomicBool::new(false),
        })
    }

    /// The address that was bound, with its real port.
    ///
    /// # Errors
    ///
    /// What the system says, which is nothing as a rule.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Waits for the next peer: `None` once the listener is closed.
    pub async fn accept(&self) -> Option<Handshake> {
        loop {
            let incoming = self.endpoint.accept().await?;
            if let Some(handshake) = self.begin(incoming) {
                return Some(handshake);
            }
        }
    }

    fn begin(&self, incoming: Incoming) -> Option<Handshake> {
        let peer = incoming.remote_address();
        if self.refusing.load(Ordering::Relaxed) {
            debug!(%peer, "refused a link: this end is stopping");
            incoming.refuse();
            return None;
        }
        let Ok(permit) = Arc::clone(&self.handshakes).try_acquire_owned() else {
            warn!(%peer, limit = HANDSHAKES, "refused a link: too many handshakes are under way");
            incoming.refuse();
            return None;
        };
        let busy = self.handshakes.available_permits() < HANDSHAKES - HANDSHAKES_WITHOUT_RETRY;
        if busy && !incoming.remote_address_validated() {
            // The error hands back a handshake that has been validated, which this is not.
            let _ = incoming.retry();
            return None;
        }
        match incoming.accept() {
            Ok(connecting) => Some(Handshake {
                connecting,
                tuning: Arc::clone(&self.tuning),
                _permit: permit,
            }),
            Err(error) => {
                debug!(%peer, %error, "a first packet was no handshake");
                None
            }
        }
    }

    /// Refuses peers that begin to connect from now on; links and handshakes that are there go on.
    ///
    /// Whoever is refused is told so by [`accept`](Self::accept), which has to be polled on: it stays pending then,
    /// until [`close`](Self::close).
    pub fn refuse_new(&self) {
        self.refusing.store(true, Ordering::Relaxed);
    }

    /// Closes every link and takes no more.
    pub fn close(&self, reason: &str) {
        self.endpoint.close(varint(Code::NO_ERROR), reason.as_bytes());
    }

    /// Waits until the peers have been told of [`close`](Self::close), or have had the time to be.
    pub async fn closed(&self) {
        self.endpoint.wait_idle().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close("the hub stopped");
    }
}

impl Handshake {
    /// Where the peer's packets come from.
    pub fn remote_address(&self) -> SocketAddr {
        self.connecting.remote_address()
    }

    /// Finishes the handshake.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] when the peer has no acceptable certificate, or doesn't come to an end.
    pub async fn establish(self) -> Result<HubLink, HandshakeError> {
        let connection = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.connecting)
            .await
            .map_err(|_| HandshakeError::Timeout)?
            .map_err(|error| HandshakeError::Failed(error.into()))?;
        Ok(HubLink(hub::Link::new(connection, &self.tuning)))
    }
}

impl Dialer {
    /// Dials with `tls`, which has to present a client certificate; its ALPN labels are set here.
    ///
    /// # Errors
    ///
    /// [`DialError::Tls`] when `tls` lacks what QUIC needs.
    pub fn new(mut tls: rustls::ClientConfig, tuning: Tuning) -> Result<Self, DialError> {
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.enable_early_data = false;
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        config.transport_config(Arc::new(config::transport(&tuning, Role::Server)));
        Ok(Self {
            config,
            tuning: Arc::new(tuning),
        })
    }

    /// Makes a link to the hub at `address`, whose certificate has to be for `name`.
    ///
    /// A hub that refuses this end's certificate says so only after the handshake is over here: the link then ends
    /// with [`LinkError::Protocol`] at once.
    ///
    /// # Errors
    ///
    /// [`DialError`], within [`HANDSHAKE_TIMEOUT`].
    pub async fn dial(&self, address: SocketAddr, name: &str) -> Result<AgentLink, DialError> {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        // A socket of its own for each link: a NAT that lost the last one's mapping cannot confuse it.
        let endpoint = udp_socket(any, self.tuning.socket_buffer)
            .and_then(|socket| {
                let config = EndpointConfig::default();
                Endpoint::new(config, None, socket, Arc::new(TokioRuntime))
            })
            .map_err(|source| DialError::Socket { address, source })?;
        let connecting = endpoint
            .connect_with(self.config.clone(), address, name)
            .map_err(|error| DialError::Address {
                name: name.to_owned(),
                address,
                reason: error.to_string(),
            })?;
        let connection = tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting)
            .await
            .map_err(|_| DialError::Timeout { address })?
            .map_err(|error| match error {
                quinn::ConnectionError::TimedOut => DialError::Timeout { address },
                error => DialError::Handshake {
                    name: name.to_owned(),
                    address,
                    reason: error.into(),
                },
            })?;
        Ok(AgentLink(agent::Link::new(endpoint, connection, &self.tuning)))
    }
}

/// Binds a UDP socket and asks for large buffers, since a burst that the kernel drops looks like a lossy network.
fn udp_socket(address: SocketAddr, buffer: u32) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // One socket for both families, where the system has both.
        let _ = socket.set_only_v6(false);
    }
    socket.bind(&address.into())?;
    let wanted = buffer as usize;
    // A system may grant less than was asked, or refuse: both are seen by reading back.
    let _ = socket.set_recv_buffer_size(wanted);
    let _ = socket.set_send_buffer_size(wanted);
    let (receive, send) = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
    if receive.min(send) < SMALL_SOCKET_BUFFER.min(wanted) {
        warn!(
            receive,
            send,
            wanted,
            "the system grants small UDP buffers, so bursts will be lost: raise net.core.rmem_max and net.core.wmem_max"
        );
    } else {
        debug!(receive, send, wanted, "UDP buffers");
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
