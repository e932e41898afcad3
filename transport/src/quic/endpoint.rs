//! Sockets and handshakes: how a `quic` link comes to be.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, warn};

use super::config;
use super::{ALPN, agent, hub, varint};
use crate::dial::DialError;
use crate::listen::{BindError, HANDSHAKE_TIMEOUT, HANDSHAKES, HandshakeError};
use crate::rh3::Role;
use crate::rh3::code::Code;
use crate::tuning::Tuning;

/// With this many handshakes under way, a peer has to show first that it receives at its address (RFC 9000 §8.1.2):
/// a forged address then costs no signature.
const HANDSHAKES_WITHOUT_RETRY: usize = 128;

/// What the kernel should grant at the least for a socket's buffer; less drops bursts.
const SMALL_SOCKET_BUFFER: usize = 2 << 20;

/// The hub's UDP port for agents. Dropping it closes every link that came through it.
#[derive(Debug)]
pub(crate) struct Listener {
    endpoint: Endpoint,
    /// Settings of links that have none of their own.
    config: ServerConfig,
    tuning: Arc<Tuning>,
    handshakes: Arc<Semaphore>,
    refusing: AtomicBool,
}

/// A peer that has begun to connect.
#[derive(Debug)]
pub(crate) struct Handshake {
    connecting: quinn::Connecting,
    tuning: Arc<Tuning>,
    _permit: OwnedSemaphorePermit,
}

/// The agent's way to a hub.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
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
    pub(crate) fn bind(
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
        let shared = config.clone();
        let open = || {
            let socket = udp_socket(address, tuning.socket_buffer)?;
            let endpoint = config::hub_endpoint(secret);
            Endpoint::new(endpoint, Some(config), socket, Arc::new(TokioRuntime))
        };
        let endpoint = open().map_err(|source| BindError::Socket { address, source })?;
        Ok(Self {
            endpoint,
            config: shared,
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
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Waits for the next peer: `None` once the listener is closed.
    pub(crate) async fn accept(&self) -> Option<Handshake> {
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
        let accepted = match config::with_file(&self.tuning, Role::Client, peer) {
            Some(transport) => {
                let mut config = self.config.clone();
                config.transport_config(transport);
                incoming.accept_with(Arc::new(config))
            }
            None => incoming.accept(),
        };
        match accepted {
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
    pub(crate) fn refuse_new(&self) {
        self.refusing.store(true, Ordering::Relaxed);
    }

    /// Closes every link and takes no more.
    pub(crate) fn close(&self, reason: &str) {
        self.endpoint.close(varint(Code::NO_ERROR), reason.as_bytes());
    }

    /// Waits until the peers have been told of [`close`](Self::close), or have had the time to be.
    pub(crate) async fn closed(&self) {
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
    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.connecting.remote_address()
    }

    /// Finishes the handshake.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] when the peer has no acceptable certificate, or doesn't come to an end.
    pub(crate) async fn establish(self) -> Result<hub::Link, HandshakeError> {
        let connection = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.connecting)
            .await
            .map_err(|_| HandshakeError::Timeout)?
            .map_err(|error| HandshakeError::Failed(error.into()))?;
        Ok(hub::Link::new(connection, &self.tuning))
    }
}

impl Dialer {
    /// Dials with `tls`, which has to present a client certificate; its ALPN labels are set here.
    ///
    /// # Errors
    ///
    /// [`DialError::Tls`] when `tls` lacks what QUIC needs.
    pub(crate) fn new(mut tls: rustls::ClientConfig, tuning: Tuning) -> Result<Self, DialError> {
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
    /// with [`LinkError::Protocol`](crate::LinkError::Protocol) at once.
    ///
    /// # Errors
    ///
    /// [`DialError`], within [`HANDSHAKE_TIMEOUT`].
    pub(crate) async fn dial(&self, address: SocketAddr, name: &str) -> Result<agent::Link, DialError> {
        // A socket of its own for each link: a NAT that lost the last one's mapping cannot confuse it.
        let endpoint = socket_towards(address, self.tuning.socket_buffer)
            .and_then(|socket| {
                let config = EndpointConfig::default();
                Endpoint::new(config, None, socket, Arc::new(TokioRuntime))
            })
            .map_err(|source| DialError::Socket { address, source })?;
        let mut config = self.config.clone();
        if let Some(transport) = config::with_file(&self.tuning, Role::Server, address) {
            config.transport_config(transport);
        }
        let connecting =
            endpoint
                .connect_with(config, address, name)
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
        Ok(agent::Link::new(endpoint, connection, &self.tuning))
    }
}

/// A UDP socket for packets to `address`, from whichever of this machine's addresses the system picks for each.
pub(super) fn socket_towards(address: SocketAddr, buffer: u32) -> io::Result<std::net::UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    udp_socket(any, buffer)
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
